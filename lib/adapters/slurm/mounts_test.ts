import { assertEquals, assertThrows } from "@std/assert";
import { CriError } from "../../base/error.ts";
import { Mount } from "../../cri/api.generated.ts";
import { checkMounts } from "./mounts.ts";

const PATHS: readonly [containerPath: string, accepted: boolean][] = [
  ["/etc/hosts", true],
  ["/dev/termination-log", true],
  ["/var/run/secrets/kubernetes.io/serviceaccount", true],
  ["/data", false],
  ["/etc/hosts/x", false],
  ["/x/etc/hosts", false],
  ["/var/run/secrets/kubernetes.io/serviceaccount/token", false],
  ["", false],
];

for (const [containerPath, accepted] of PATHS) {
  Deno.test(`checkMounts() ${accepted ? "accepts" : "refuses"} a mount at '${containerPath}'`, () => {
    const check = () =>
      checkMounts([
        Mount.fromPartial({ containerPath: "/etc/hosts" }),
        Mount.fromPartial({ containerPath }),
      ]);
    if (accepted) return assertEquals(check(), undefined);
    const error = assertThrows(check, CriError, `Cannot mount "${containerPath}"`);
    assertEquals(error.code, "UNIMPLEMENTED");
  });
}
