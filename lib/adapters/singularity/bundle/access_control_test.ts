import { assertEquals, assertThrows } from "@std/assert";
import { CriError } from "../../../base/error.ts";
import {
  LinuxContainerSecurityContext,
  LinuxSandboxSecurityContext,
  SecurityProfile_ProfileType,
} from "../../../cri/api.generated.ts";
import { apparmorOf, checkAccessControl } from "./access_control.ts";

type Context = Parameters<typeof LinuxContainerSecurityContext.fromPartial>[0];
const { RuntimeDefault, Unconfined, Localhost } = SecurityProfile_ProfileType;
const LOCAL = { profileType: Localhost, localhostRef: "mine" };
const DEFAULT = { profileType: RuntimeDefault };

const PROFILES: [context: Context, profile: string | undefined][] = [
  [{}, undefined],
  [{ apparmorProfile: "unconfined" }, undefined],
  [{ apparmorProfile: "localhost/mine" }, "mine"],
  [{ apparmor: LOCAL }, "mine"],
  [{ apparmor: { ...LOCAL, localhostRef: "localhost/mine" } }, "mine"],
  [{ apparmor: { profileType: Unconfined }, apparmorProfile: "localhost/mine" }, undefined],
  [{ apparmor: LOCAL, privileged: true }, undefined],
  [{ apparmor: DEFAULT, privileged: true }, undefined],
];

for (const [context, profile] of PROFILES) {
  Deno.test(`apparmorOf() makes ${profile} of ${JSON.stringify(context)}`, () => {
    const found = apparmorOf(LinuxContainerSecurityContext.fromPartial(context), {
      hasAppArmor: true,
    });
    assertEquals(found.apparmorProfile, profile);
  });
}

Deno.test("apparmorOf() refuses what the node does not have", () => {
  const of = (context: Context, hasAppArmor: boolean) => () =>
    apparmorOf(LinuxContainerSecurityContext.fromPartial(context), { hasAppArmor });
  assertThrows(of({ apparmor: LOCAL }, false), CriError, '"mine": this node\'s kernel has no');
  assertThrows(of({ apparmor: DEFAULT }, true), CriError, "default AppArmor profile: there is");
  assertThrows(of({ apparmorProfile: "runtime/default" }, true), CriError, "there is none");
  assertEquals(of({ apparmor: DEFAULT }, false)(), {});
});

const CHECKED: [context: Context, pod: boolean, hasSelinux: boolean, message?: string][] = [
  [{}, false, true],
  [{ privileged: true }, true, false],
  [{ privileged: true }, false, false, "a privileged container in a pod that is not"],
  [{ selinuxOptions: { level: "s0" } }, false, false],
  [{ selinuxOptions: { level: "s0" } }, false, true, "with SELinux options"],
  [{ selinuxOptions: { level: "s0" }, privileged: true }, true, true],
];

for (const [context, privileged, hasSelinux, message] of CHECKED) {
  const where = `${privileged ? "a privileged" : "a"} pod ${
    hasSelinux ? "with" : "without"
  } SELinux`;
  Deno.test(`checkAccessControl() ${message ? "refuses" : "takes"} ${JSON.stringify(context)} in ${where}`, () => {
    const check = () =>
      checkAccessControl(
        LinuxContainerSecurityContext.fromPartial(context),
        LinuxSandboxSecurityContext.fromPartial({ privileged }),
        { hasSelinux },
      );
    if (message === undefined) check();
    else assertThrows(check, CriError, message);
  });
}
