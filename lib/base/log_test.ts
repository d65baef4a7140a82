import { assertEquals } from "@std/assert";
import { createLogger, type LogFields, SEVERITIES } from "./log.ts";

function record(threshold: typeof SEVERITIES[number]) {
  const lines: string[] = [];
  const now = () => new Date("2026-01-02T03:04:05.006Z");
  return { lines, log: createLogger({ threshold, write: (line) => lines.push(line), now }) };
}

for (const [lowest, threshold] of SEVERITIES.entries()) {
  Deno.test(`createLogger() writes from ${threshold} upwards when that is its threshold`, () => {
    const { lines, log } = record(threshold);
    for (const severity of SEVERITIES) log[severity](severity);
    assertEquals(
      lines,
      SEVERITIES.slice(lowest).map((s) => `2026-01-02T03:04:05.006Z ${s.toUpperCase()} ${s}`),
    );
  });
}

const FIELDS: readonly [fields: LogFields, text: string][] = [
  [{}, ""],
  [
    { id: "abc-1.2:3/x@y%z+w,q", n: 7, big: 9n, yes: true },
    " id=abc-1.2:3/x@y%z+w,q n=7 big=9 yes=true",
  ],
  [{ gone: undefined, here: "" }, ' here=""'],
  [{ text: 'two words "q"' }, ' text="two words \\"q\\""'],
  [{ forged: "x\n2026 ERROR forged" }, ' forged="x\\n2026 ERROR forged"'],
  [{ shown: "a=b" }, ' shown="a=b"'],
];

for (const [fields, text] of FIELDS) {
  Deno.test(`createLogger() adds '${text}'`, () => {
    const { lines, log } = record("info");
    log.info("Said", fields);
    assertEquals(lines, [`2026-01-02T03:04:05.006Z INFO Said${text}`]);
  });
}

Deno.test("createLogger() keeps a message of several lines on one", () => {
  const { lines, log } = record("info");
  log.warning("one \n  two");
  assertEquals(lines, ["2026-01-02T03:04:05.006Z WARNING one; two"]);
});

Deno.test("Logger.with() adds its fields to each line and lets later ones win", () => {
  const { lines, log } = record("info");
  const inner = log.with({ a: 1, b: 1 }).with({ c: 3 });
  inner.info("Said", { b: 2 });
  log.info("Said");
  assertEquals(lines.map((line) => line.split("Said")[1]), [" a=1 b=2 c=3", ""]);
});
