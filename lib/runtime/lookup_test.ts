import { assertEquals, assertThrows } from "@std/assert";
import { CriError } from "../base/error.ts";
import { sandboxRecord, TestStore } from "../store/test_store.ts";
import { findById, matchesLabels, requireById } from "./lookup.ts";

const FOUND: readonly [id: string, found: string | undefined][] = [
  ["abc1", "abc1"],
  ["abc12", "abc12"],
  ["abd", "abd9"],
  ["x", undefined],
  ["abc123", undefined],
];

for (const [id, found] of FOUND) {
  Deno.test(`findById() finds ${found} when asked for '${id}'`, async () => {
    await using records = await TestStore.open();
    const { sandboxes } = records.store;
    for (const known of ["abc1", "abc12", "abd9"]) sandboxes.put(sandboxRecord({ id: known }));
    assertEquals(findById(sandboxes, "pod sandbox", id)?.id, found);
    if (found !== undefined) return assertEquals(requireById(sandboxes, "pod", id).id, found);
    const error = assertThrows(() => requireById(sandboxes, "pod", id), CriError, `'${id}'`);
    assertEquals(error.code, "NOT_FOUND");
  });
}

for (const [id, words] of [["", "its id is empty"], ["ab", "3 ids begin like that"]] as const) {
  Deno.test(`findById() refuses '${id}' with a sentence`, async () => {
    await using records = await TestStore.open();
    const { sandboxes } = records.store;
    for (const known of ["abc1", "abc12", "abd9"]) sandboxes.put(sandboxRecord({ id: known }));
    const error = assertThrows(() => findById(sandboxes, "pod sandbox", id), CriError, words);
    assertEquals(error.code, "INVALID_ARGUMENT");
  });
}

type Labels = Record<string, string>;

const LABELS: readonly [labels: Labels, wanted: Labels | undefined, matches: boolean][] = [
  [{ a: "1", b: "2" }, undefined, true],
  [{ a: "1", b: "2" }, {}, true],
  [{ a: "1", b: "2" }, { a: "1" }, true],
  [{ a: "1", b: "2" }, { a: "1", b: "2" }, true],
  [{ a: "1", b: "2" }, { a: "1", b: "3" }, false],
  [{ a: "" }, { a: "" }, true],
  [{}, { a: "" }, false],
  [{}, { constructor: "x" }, false],
  [{ constructor: "x" }, { constructor: "x" }, true],
  [{}, { toString: "undefined" }, false],
];

for (const [labels, wanted, matches] of LABELS) {
  Deno.test(`matchesLabels() says ${matches} of ${JSON.stringify([labels, wanted])}`, () => {
    assertEquals(matchesLabels(labels, wanted), matches);
  });
}
