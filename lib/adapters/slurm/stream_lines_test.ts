import { assertEquals, assertRejects } from "@std/assert";
import type { ClusterSession } from "../../executors/ssh/session.ts";
import { MAX_STREAMS, StreamLines } from "./stream_lines.ts";

const NEVER = new AbortController().signal;
/** Lets everything run that can. */
const settle = () => new Promise((resolve) => setTimeout(resolve));

/** Lines that keep account of who uses them. */
function countedLines() {
  const users = new Map<number, number>();
  const change = (line: number, by: number) => users.set(line, (users.get(line) ?? 0) + by);
  const lines = new StreamLines((line) => {
    change(line, 1);
    return { line } as unknown as ClusterSession;
  }, (session) => change((session as unknown as { line: number }).line, -1));
  return { lines, users };
}

Deno.test("StreamLines fills one connection before it opens the next, and gives all back", async () => {
  const { lines, users } = countedLines();
  const gate = Promise.withResolvers<void>();
  const running = Array.from(
    { length: MAX_STREAMS.process },
    () => lines.run("process", () => gate.promise, NEVER),
  );
  await settle();
  assertEquals([...users], [[1, 8], [2, 8]]);
  gate.resolve();
  await Promise.all(running);
  assertEquals([...users], [[1, 0], [2, 0]]);
  await lines.run("port", () => Promise.resolve(), NEVER);
  assertEquals([...users.keys()], [1, 2]);
});

Deno.test("StreamLines keeps connections to ports from shutting processes out, and the other way", async () => {
  const { lines } = countedLines();
  const gate = Promise.withResolvers<void>();
  const begun: string[] = [];
  const ports = Array.from(
    { length: MAX_STREAMS.port + 1 },
    (_, index) =>
      lines.run("port", () => {
        begun.push(`port ${index}`);
        return gate.promise;
      }, NEVER),
  );
  await settle();
  assertEquals(begun.length, MAX_STREAMS.port);
  assertEquals(await lines.run("process", () => Promise.resolve("ran"), NEVER), "ran");
  const abort = new AbortController();
  const late = lines.run("port", () => Promise.resolve(), abort.signal);
  abort.abort(new Error("gone"));
  await assertRejects(() => late, Error, "gone");
  gate.resolve();
  await Promise.all(ports);
  assertEquals(begun.length, MAX_STREAMS.port + 1);
});
