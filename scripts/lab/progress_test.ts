import { assertEquals, assertMatch, assertRejects, assertStringIncludes } from "@std/assert";
import { step, waitFor } from "./progress.ts";

Deno.test("step() says when it begins and ends, and passes the result", async () => {
  const lines: string[] = [];
  const result = await step((line) => lines.push(line), "Working", () => Promise.resolve(7));
  assertEquals(result, 7);
  assertEquals(lines.length, 2);
  assertEquals(lines[0], "Working …");
  assertMatch(lines[1] ?? "", /^Working: done in \d+\.\d s$/);
});

Deno.test("step() passes what the work throws, and leaves no timer", async () => {
  const lines: string[] = [];
  const work = () => Promise.reject(new Error("broken"));
  await assertRejects(() => step((line) => lines.push(line), "Working", work), Error, "broken");
  assertEquals(lines, ["Working …"]);
});

Deno.test("waitFor() looks again until the check holds", async () => {
  let looks = 0;
  const check = () => Promise.resolve(++looks === 3);
  await waitFor("It", check, { timeoutMs: 10_000, log: "/log" });
  assertEquals(looks, 3);
});

Deno.test("waitFor() names what did not come up, and tells the end of its log, when the time is up", async () => {
  const log = await Deno.makeTempFile();
  try {
    for (
      const [text, end] of [["", "(nothing)"], ["Listening\nNo host key\n", "No host key"]] as const
    ) {
      await Deno.writeTextFile(log, text);
      const error = await assertRejects(
        () => waitFor("sshd on ctl", () => Promise.resolve(false), { timeoutMs: 100, log }),
        Error,
        `sshd on ctl did not come up within 0.1 s: read ${log}, which ends with: `,
      );
      assertStringIncludes(error.message, end);
    }
  } finally {
    await Deno.remove(log);
  }
});
