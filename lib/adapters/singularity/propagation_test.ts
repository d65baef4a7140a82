import { assertEquals, assertRejects } from "@std/assert";
import { CriError } from "../../base/error.ts";
import { Mount, MountPropagation } from "../../cri/api.generated.ts";
import { checkPropagation } from "./propagation.ts";

const { PROPAGATION_BIDIRECTIONAL, PROPAGATION_HOST_TO_CONTAINER, PROPAGATION_PRIVATE } =
  MountPropagation;

/** Sources whose mounts findmnt(8) calls as their last part is. */
const node = {
  script: (_purpose: string, _text: string, paths: readonly string[] = []) =>
    Promise.resolve(paths.map((path) => `${path.split("/").at(-1)}\n`).join("")),
};

for (
  const [is, propagation, refused] of [
    ["shared", PROPAGATION_BIDIRECTIONAL, undefined],
    ["shared,slave", PROPAGATION_BIDIRECTIONAL, undefined],
    ["private,slave", PROPAGATION_BIDIRECTIONAL, "a shared mount"],
    ["private", PROPAGATION_BIDIRECTIONAL, "a shared mount"],
    ["private,slave", PROPAGATION_HOST_TO_CONTAINER, undefined],
    ["private", PROPAGATION_HOST_TO_CONTAINER, "a shared or slave mount"],
    ["unbindable", PROPAGATION_HOST_TO_CONTAINER, "a shared or slave mount"],
    ["private", PROPAGATION_PRIVATE, undefined],
  ] as const
) {
  const name = MountPropagation[propagation];
  Deno.test(`checkPropagation() ${refused ? "refuses" : "takes"} ${name} when the source's mount is ${is}`, async () => {
    const at = (hostPath: string) => ({
      mount: Mount.fromPartial({ hostPath, propagation }),
      source: hostPath,
    });
    const check = checkPropagation(node, [at("/shared"), at(`/${is}`)]);
    if (refused === undefined) return await check;
    const error = await assertRejects(() => check, CriError, `"/${is}"`);
    assertEquals(error.message.includes(`must lie on ${refused} (`), true, error.message);
  });
}
