import { DatabaseSync } from "node:sqlite";
import { assertEquals, assertRejects } from "@std/assert";
import { type RecordCodec, Table } from "./table.ts";

interface Note {
  readonly id: string;
  readonly text: string;
}

const codec: RecordCodec<Note> = {
  version: 2,
  encode: (note) => ({ id: note.id, text: note.text }),
  decode: (json, version) => {
    const note = json as Note;
    return version === 1 ? { ...note, text: note.text.toUpperCase() } : note;
  },
};

Deno.test("Table keeps records when it is opened again", () => {
  using database = new DatabaseSync(":memory:");
  const table = new Table(database, "notes", codec);
  table.put({ id: "a", text: "1" });
  table.put({ id: "b", text: "2" });
  table.put({ id: "a", text: "3" });
  table.delete("b");
  table.delete("missing");
  assertEquals(new Table(database, "notes", codec).all(), [{ id: "a", text: "3" }]);
});

Deno.test("Table reads records of an older version when their shape has changed", () => {
  using database = new DatabaseSync(":memory:");
  new Table(database, "notes", { ...codec, version: 1 }).put({ id: "a", text: "old" });
  assertEquals(new Table(database, "notes", codec).get("a")?.text, "OLD");
});

Deno.test("Table.update() tells listeners nothing when the record stays the same", () => {
  using database = new DatabaseSync(":memory:");
  const table = new Table(database, "notes", codec);
  table.put({ id: "a", text: "1" });
  const changes: string[] = [];
  const stop = table.onChange((change) => changes.push(change.kind));
  table.update("a", (note) => note);
  table.update("a", (note) => ({ ...note, text: "2" }));
  assertEquals(table.update("missing", (note) => note), undefined);
  stop();
  table.delete("a");
  assertEquals(changes, ["put"]);
});

Deno.test("Table.waitFor() resolves when the record gets there, is deleted, or rejects when told", async () => {
  using database = new DatabaseSync(":memory:");
  const table = new Table(database, "notes", codec);
  table.put({ id: "a", text: "1" });
  const never = new AbortController().signal;
  assertEquals((await table.waitFor("a", (note) => note.text === "1", never))?.text, "1");
  const later = table.waitFor("a", (note) => note.text === "2", never);
  const gone = table.waitFor("a", (note) => note.text === "3", never);
  const controller = new AbortController();
  const aborted = table.waitFor("a", (note) => note.text === "4", controller.signal);
  const rejection = assertRejects(() => aborted, Error, "enough");
  controller.abort(new Error("enough"));
  table.put({ id: "a", text: "2" });
  table.delete("a");
  assertEquals((await later)?.text, "2");
  assertEquals(await gone, undefined);
  assertEquals(await table.waitFor("missing", () => false, never), undefined);
  await rejection;
});
