import { assertEquals, assertThrows } from "@std/assert";
import { CriError } from "../../../base/error.ts";
import {
  LinuxContainerSecurityContext,
  SupplementalGroupsPolicy,
} from "../../../cri/api.generated.ts";
import { resolveUser } from "./user.ts";

const FILES = {
  passwd:
    "root:x:0:0:root:/root:/bin/sh\nann:x:1000:100:Ann:/home/ann:/bin/sh\n2000:x:0:0::/:/bin/sh\nbroken:x:y:z\n",
  group: "root:x:0:\nusers:x:100:\nstaff:x:50:ann,bob\naudio:x:29:bob\n77:x:0:\n",
};

type Context = Parameters<typeof LinuxContainerSecurityContext.fromPartial>[0];

const CASES: [
  what: string,
  context: Context,
  imageUser: string,
  user: [number, number, number[]],
][] = [
  ["nothing", {}, "", [0, 0, [0]]],
  ["the image's number", {}, "1000", [1000, 100, [100, 50]]],
  ["the image's number and group", {}, "1000:29", [1000, 29, [29, 50]]],
  ["the image's names", {}, "ann:audio", [1000, 29, [29, 50]]],
  ["the image's numbers as ids, though it calls root by them", {}, "2000:77", [2000, 77, [77]]],
  ["the pod's number as an id likewise", { runAsUser: { value: 2000n } }, "", [2000, 0, [0]]],
  ["a number that the image does not know", {}, "7", [7, 0, [0]]],
  ["the pod's number before the image's", { runAsUser: { value: 0n } }, "ann", [0, 0, [0]]],
  ["the pod's name", { runAsUsername: "ann" }, "root", [1000, 100, [100, 50]]],
  [
    "the pod's group before that of the user",
    { runAsUser: { value: 1000n }, runAsGroup: { value: 7n } },
    "",
    [1000, 7, [7, 50]],
  ],
  [
    "the pod's groups and those of the image",
    { runAsUser: { value: 1000n }, supplementalGroups: [5n, 50n] },
    "",
    [1000, 100, [100, 5, 50]],
  ],
  [
    "the pod's groups alone with policy Strict",
    {
      runAsUser: { value: 1000n },
      supplementalGroups: [5n],
      supplementalGroupsPolicy: SupplementalGroupsPolicy.Strict,
    },
    "",
    [1000, 100, [100, 5]],
  ],
];

for (const [what, context, imageUser, [uid, gid, additionalGids]] of CASES) {
  Deno.test(`resolveUser() takes ${what}`, () => {
    const found = resolveUser(
      LinuxContainerSecurityContext.fromPartial(context),
      imageUser,
      FILES,
    );
    assertEquals(found, { uid, gid, additionalGids });
  });
}

const REFUSED: [context: Context, imageUser: string, words: string][] = [
  [{ runAsUsername: "eve" }, "", 'as the user "eve"'],
  [{}, "4294967295", "the id 4294967295"],
  [{ runAsUser: { value: -1n } }, "", "the id -1"],
  [{}, "eve", 'as the user "eve"'],
  [{}, "ann:nobody", 'as the group "nobody"'],
  [{ runAsGroup: { value: 5n } }, "", "run_as_group alone"],
  [{ runAsUser: { value: 5n }, runAsUsername: "ann" }, "", "both run_as_user and run_as_username"],
  [{ runAsUser: { value: 5n }, supplementalGroups: [-1n] }, "", "the id -1"],
];

for (const [context, imageUser, words] of REFUSED) {
  Deno.test(`resolveUser() refuses ${words}`, () => {
    assertThrows(
      () => resolveUser(LinuxContainerSecurityContext.fromPartial(context), imageUser, FILES),
      CriError,
      words,
    );
  });
}
