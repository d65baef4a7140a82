import { DatabaseSync } from "node:sqlite";
import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { CriError } from "../base/error.ts";
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

/** A table whose database has room for some more pages only. */
function crowded(database: DatabaseSync): { table: Table<Note>; setFull: (full: boolean) => void } {
  const table = new Table(database, "notes", codec);
  for (const id of ["a", "b", "c"]) table.put({ id, text: id });
  const setFull = (full: boolean) => {
    const { page_count } = database.prepare("PRAGMA page_count").get() as { page_count: number };
    database.exec(`PRAGMA max_page_count = ${full ? page_count : 1_000_000}`);
  };
  return { table, setFull };
}

const LONG = "x".repeat(100_000);
const texts = (table: Table<Note>) =>
  table.all().map(({ id, text }) => `${id} ${text.slice(0, 1)}`);

Deno.test("Table.put() changes nothing when the disk is full", () => {
  using database = new DatabaseSync(":memory:");
  const { table, setFull } = crowded(database);
  setFull(true);
  const error = assertThrows(() => table.put({ id: "a", text: LONG }), CriError, "disk is full");
  assertEquals(error.code, "RESOURCE_EXHAUSTED");
  assertEquals(texts(table), ["a a", "b b", "c c"]);
});

Deno.test("Table.settle() counts at once when the disk is full, and is written when it has room", () => {
  using database = new DatabaseSync(":memory:");
  const { table, setFull } = crowded(database);
  const changes: string[] = [];
  table.onChange((change) => changes.push(change.kind));
  setFull(true);
  table.settle("a", (note) => ({ ...note, text: LONG }));
  table.settle("b", (note) => note);
  table.settle("missing", (note) => note);
  const opened = () => texts(new Table(database, "notes", codec));
  assertEquals([texts(table), opened()], [["a x", "b b", "c c"], ["a a", "b b", "c c"]]);
  assertEquals([table.isWritten("a"), table.isWritten("b")], [false, true]);
  assertThrows(() => table.put({ id: "d", text: LONG }), CriError, "disk is full");
  setFull(false);
  table.delete("b");
  assertEquals([texts(table), opened()], [["a x", "c c"], ["a x", "c c"]]);
  assertEquals(changes, ["put", "deleted"]);
  assertEquals(table.isWritten("a"), true);
});

Deno.test("Table.putSettled() adds a record at once when the disk is full, and it is written when it has room", () => {
  using database = new DatabaseSync(":memory:");
  const { table, setFull } = crowded(database);
  const opened = () => texts(new Table(database, "notes", codec));
  setFull(true);
  table.putSettled({ id: "d", text: LONG });
  assertEquals([texts(table), opened()], [["a a", "b b", "c c", "d x"], ["a a", "b b", "c c"]]);
  setFull(false);
  table.writeWaiting();
  assertEquals([opened(), table.isWritten("d")], [["a a", "b b", "c c", "d x"], true]);
});

Deno.test("Table.delete() counts at once when the disk is full, and is written when it has room", () => {
  using database = new DatabaseSync(":memory:");
  const { table, setFull } = crowded(database);
  setFull(true);
  table.settle("a", (note) => ({ ...note, text: LONG }));
  table.delete("a");
  table.delete("b");
  assertEquals(texts(table), ["c c"]);
  setFull(false);
  table.writeWaiting();
  assertEquals(texts(new Table(database, "notes", codec)), ["c c"]);
});
