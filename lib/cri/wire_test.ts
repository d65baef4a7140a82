import { assertEquals, assertStrictEquals, assertThrows } from "@std/assert";
import { concat } from "@std/bytes/concat";
import {
  CreateContainerRequest,
  ListContainersResponse,
  RunPodSandboxRequest,
} from "./api.generated.ts";
import { contentsOf, field, isBlank, isMessage, mapStrings, stringAt, withString } from "./wire.ts";

const text = (words: string) => new TextEncoder().encode(words);

/** Field 1000, of each wire type in turn: nobody knows them. */
const UNKNOWN = [
  Uint8Array.of(0xc0, 0x3e, 0x07),
  Uint8Array.of(0xc1, 0x3e, 1, 2, 3, 4, 5, 6, 7, 8),
  Uint8Array.of(0xc5, 0x3e, 1, 2, 3, 4),
  field(1000, text("whatever")),
];

const REQUEST = CreateContainerRequest.encode(CreateContainerRequest.fromPartial({
  podSandboxId: "sandbox",
  config: {
    metadata: { name: "main", attempt: 300 },
    image: { image: "a", userSpecifiedImage: "ä€" },
    labels: { x: "y" },
  },
})).finish();

Deno.test("stringAt() reads a string at its path, and of several fields the last", () => {
  assertEquals(stringAt(REQUEST, [1]), "sandbox");
  assertEquals(stringAt(REQUEST, [2, 1, 1]), "main");
  assertEquals(stringAt(REQUEST, [2, 2, 18]), "ä€");
  assertEquals(stringAt(REQUEST, [3, 1, 2]), "");
  assertEquals(stringAt(withString(REQUEST, 1, "other"), [1]), "other");
  for (const unknown of UNKNOWN) assertEquals(stringAt(concat([unknown, REQUEST]), [1]), "sandbox");
});

Deno.test("withString() sets a field that was there and one that was not", () => {
  for (const runtimeHandler of ["", "old"]) {
    const request = RunPodSandboxRequest.fromPartial({
      runtimeHandler,
      config: { hostname: "h" },
    });
    for (const handler of ["", "new"]) {
      const bytes = withString(RunPodSandboxRequest.encode(request).finish(), 2, handler);
      assertEquals(RunPodSandboxRequest.decode(bytes), { ...request, runtimeHandler: handler });
    }
  }
});

Deno.test("mapStrings() changes the strings at the paths and keeps every other byte", () => {
  const containers = ["a", "b", "a"].map((imageRef, index) => ({
    id: String(index),
    image: { image: imageRef },
    imageRef,
    labels: { a: "a" },
  }));
  const list = ListContainersResponse.fromPartial({ containers });
  const bytes = concat([...UNKNOWN, ListContainersResponse.encode(list).finish(), ...UNKNOWN]);
  const changed = mapStrings(
    bytes,
    { 1: { 4: { 1: "string" }, 5: "string" } },
    (word) => word === "a" ? "longer" : word,
  );
  const expected = containers.map((container) =>
    container.imageRef === "a"
      ? { ...container, imageRef: "longer", image: { image: "longer" } }
      : container
  );
  const decoded = ListContainersResponse.decode(changed);
  assertEquals(
    decoded.containers,
    ListContainersResponse.fromPartial({ containers: expected }).containers,
  );
  const unknown = concat(UNKNOWN);
  assertEquals(changed.slice(0, unknown.length), unknown);
  assertEquals(changed.slice(-unknown.length), unknown);
});

Deno.test("mapStrings() gives the message itself when nothing changes", () => {
  assertStrictEquals(mapStrings(REQUEST, { 2: { 2: { 1: "string" } } }, (word) => word), REQUEST);
});

Deno.test("isMessage() and contentsOf() find out what is no message", () => {
  const inner = field(1, Uint8Array.of(0x0a, 5, 1));
  const none = [text("no message"), Uint8Array.of(0x0a, 5, 1), Uint8Array.of(0x0a, 0xff)];
  for (const bytes of none) {
    assertEquals(isMessage(bytes), false);
    assertThrows(() => contentsOf(bytes, 1));
  }
  assertEquals([isMessage(inner), isMessage(inner, 1), isMessage(inner, 2)], [true, false, true]);
  for (const unknown of UNKNOWN) assertEquals(isMessage(concat([unknown, REQUEST]), 2), true);
  assertEquals(isMessage(new Uint8Array(), 1), true);
});

Deno.test("isBlank() says yes of what chooses nothing", () => {
  const nested = field(1, field(1, new Uint8Array()));
  for (const blank of [new Uint8Array(), field(1, new Uint8Array()), nested]) {
    assertEquals(isBlank(blank), true);
  }
  const others = [
    field(1, text("a")),
    field(1, field(2, text("ab"))),
    Uint8Array.of(0x08, 0),
    ...UNKNOWN,
  ];
  for (const bytes of others) assertEquals(isBlank(bytes), false);
});
