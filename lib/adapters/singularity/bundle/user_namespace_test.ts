import { assertEquals, assertThrows } from "@std/assert";
import { CriError } from "../../../base/error.ts";
import { NamespaceMode, NamespaceOption } from "../../../cri/api.generated.ts";
import { userNamespaceOf } from "./user_namespace.ts";

type Options = Parameters<typeof NamespaceOption.fromPartial>[0];
const { POD, NODE, CONTAINER, TARGET } = NamespaceMode;
const ONE = [{ containerId: 0, hostId: 100_000, length: 65_536 }];
const range = (hostId: number, length: number) => [{ containerId: 0, hostId, length }];
const HIGHEST_ID = 2 ** 32 - 2;
const of = (options: Options) => userNamespaceOf(NamespaceOption.fromPartial(options));

Deno.test("userNamespaceOf() takes one mapping, and none for the node's ids", () => {
  const mapping = { containerID: 0, hostID: 100_000, size: 65_536 };
  assertEquals(of({ usernsOptions: { mode: POD, uids: ONE, gids: ONE } }), {
    uids: mapping,
    gids: mapping,
  });
  assertEquals(of({ usernsOptions: { mode: NODE } }), undefined);
  const highest = of({
    usernsOptions: { mode: POD, uids: range(1, HIGHEST_ID), gids: range(HIGHEST_ID, 1) },
  });
  assertEquals([highest?.uids.size, highest?.gids.hostID], [HIGHEST_ID, HIGHEST_ID]);
  assertEquals([of({}), userNamespaceOf(undefined)], [undefined, undefined]);
});

const REFUSED: [options: Options, why: string][] = [
  [{ usernsOptions: { mode: POD, uids: [...ONE, ...ONE], gids: ONE } }, "its uids, not 2"],
  [{ usernsOptions: { mode: POD, uids: ONE } }, "its gids, not 0"],
  [
    { usernsOptions: { mode: POD, uids: ONE, gids: [{ containerId: 1, hostId: 1, length: 9 }] } },
    "the container's id 0",
  ],
  [{ usernsOptions: { mode: POD, uids: ONE, gids: range(1, 0) } }, "not be empty"],
  [{ usernsOptions: { mode: POD, uids: range(0, 9), gids: ONE } }, "uids must not begin with"],
  [{ usernsOptions: { mode: POD, uids: range(0, HIGHEST_ID), gids: ONE } }, "the node's root"],
  [{ usernsOptions: { mode: POD, uids: ONE, gids: range(HIGHEST_ID + 1, 65_536) } }, "4294967294"],
  [{ usernsOptions: { mode: POD, uids: range(2, HIGHEST_ID), gids: ONE } }, "4294967294"],
  [{ usernsOptions: { mode: CONTAINER, uids: ONE, gids: ONE } }, "POD or NODE"],
  [{ usernsOptions: { mode: TARGET, uids: ONE, gids: ONE } }, "POD or NODE"],
  [{ network: NODE, usernsOptions: { mode: POD, uids: ONE, gids: ONE } }, "the node's network"],
];

for (const [options, why] of REFUSED) {
  Deno.test(`userNamespaceOf() refuses ${JSON.stringify(options)}`, () => {
    assertThrows(() => of(options), CriError, why);
  });
}
