import { assertEquals, assertRejects } from "@std/assert";
import { withLock } from "./lock.ts";

Deno.test("withLock() lets one in at a time, says so to those who wait, and frees it on errors", async () => {
  const folder = await Deno.makeTempDir();
  const path = `${folder}/sub/lab.lock`;
  const lines: string[] = [];
  const events: string[] = [];
  let letGo = () => {};
  const gate = new Promise<void>((resolve) => letGo = resolve);
  let entered = () => {};
  const inside = new Promise<void>((resolve) => entered = resolve);
  const first = withLock(path, (line) => lines.push(line), async () => {
    entered();
    await gate;
    events.push("first");
    throw new Error("first failed");
  });
  const failed = assertRejects(() => first, Error, "first failed");
  await inside;
  const waited = new Promise<void>((resolve) => {
    const second = withLock(path, (line) => {
      lines.push(line);
      letGo();
    }, () => Promise.resolve(events.push("second")));
    resolve(second.then(() => {}));
  });
  await failed;
  await waited;
  assertEquals(events, ["first", "second"]);
  assertEquals(lines.length, 1);
  await Deno.remove(folder, { recursive: true });
});
