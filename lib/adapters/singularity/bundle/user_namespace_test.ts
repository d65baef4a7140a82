import { assertEquals, assertThrows } from "@std/assert";
import { CriError } from "../../../base/error.ts";
import { NamespaceMode, NamespaceOption } from "../../../cri/api.generated.ts";
import { userNamespaceOf } from "./user_namespace.ts";

type Options = Parameters<typeof NamespaceOption.fromPartial>[0];
const { POD, NODE, CONTAINER, TARGET } = NamespaceMode;
const ONE = [{ containerId: 0, hostId: 100_000, length: 65_536 }];
const of = (options: Options) => userNamespaceOf(NamespaceOption.fromPartial(options));

Deno.test("userNamespaceOf() takes one mapping, and none for the node's ids", () => {
  const mapping = { containerID: 0, hostID: 100_000, size: 65_536 };
  assertEquals(of({ usernsOptions: { mode: POD, uids: ONE, gids: ONE } }), {
    uids: mapping,
    gids: mapping,
  });
  assertEquals(of({ usernsOptions: { mode: NODE } }), undefined);
  assertEquals([of({}), userNamespaceOf(undefined)], [undefined, undefined]);
});

const REFUSED: [options: Options, why: string][] = [
  [{ usernsOptions: { mode: POD, uids: [...ONE, ...ONE], gids: ONE } }, "its uids, not 2"],
  [{ usernsOptions: { mode: POD, uids: ONE } }, "its gids, not 0"],
  [
    { usernsOptions: { mode: POD, uids: ONE, gids: [{ containerId: 1, hostId: 1, length: 9 }] } },
    "the container's id 0",
  ],
  [{ usernsOptions: { mode: CONTAINER, uids: ONE, gids: ONE } }, "POD or NODE"],
  [{ usernsOptions: { mode: TARGET, uids: ONE, gids: ONE } }, "POD or NODE"],
  [
    { usernsOptions: { mode: POD, uids: [{ containerId: 0, hostId: 0, length: 9 }], gids: ONE } },
    "its uids must not be the node's own",
  ],
  [
    {
      usernsOptions: {
        mode: POD,
        uids: ONE,
        gids: [{ containerId: 0, hostId: 2 ** 32 - 9, length: 9 }],
      },
    },
    "the mapping of its gids must end before 4294967295",
  ],
  [{ network: NODE, usernsOptions: { mode: POD, uids: ONE, gids: ONE } }, "the node's network"],
];

for (const [options, why] of REFUSED) {
  Deno.test(`userNamespaceOf() refuses ${JSON.stringify(options)}`, () => {
    assertThrows(() => of(options), CriError, why);
  });
}
