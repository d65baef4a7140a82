import { assertEquals } from "@std/assert";
import { concat } from "@std/bytes/concat";
import { ByteQueue } from "../../streaming/byte_queue.ts";
import { TerminalSizes } from "../../streaming/terminal_sizes.ts";
import { INPUT_WINDOW_BYTES, StepInput } from "./step_input.ts";

/** Lets everything run that can. */
const settle = () => new Promise((resolve) => setTimeout(resolve));

/** Reads frames in the background, and tells what came: letters and lengths, or text. */
function reader(input: StepInput) {
  const seen: { letter: string; bytes: Uint8Array }[] = [];
  (async () => {
    for await (const frame of input.frames) {
      seen.push({ letter: String.fromCharCode(frame[0] ?? 0), bytes: frame.slice(5) });
    }
  })();
  return {
    seen,
    sent: () =>
      seen.reduce((sum, { letter, bytes }) => sum + (letter === "i" ? bytes.length : 0), 0),
  };
}

Deno.test("StepInput sends no more than the window until it is told what was taken", async () => {
  const stdin = new ByteQueue(Infinity);
  const input = new StepInput({ stdin });
  const { seen, sent } = reader(input);
  await stdin.push(new Uint8Array(2 * INPUT_WINDOW_BYTES + 10));
  stdin.end();
  await settle();
  assertEquals(sent(), INPUT_WINDOW_BYTES);
  input.taken(100);
  await settle();
  assertEquals(sent(), INPUT_WINDOW_BYTES + 100);
  input.taken(INPUT_WINDOW_BYTES);
  await settle();
  assertEquals([sent(), seen.at(-1)?.letter], [2 * INPUT_WINDOW_BYTES + 10, "e"]);
  await input.close();
});

Deno.test("StepInput sends bytes, sizes and the end as frames", async () => {
  const stdin = new ByteQueue(100);
  const resizes = new TerminalSizes();
  const input = new StepInput({ stdin, resizes });
  const { seen } = reader(input);
  await stdin.push(new TextEncoder().encode("hello"));
  await settle();
  resizes.add(new TextEncoder().encode('{"Width":80,"Height":24}'));
  await settle();
  stdin.end();
  await settle();
  assertEquals(seen.map(({ letter, bytes }) => letter + new TextDecoder().decode(bytes)), [
    "ihello",
    "w80 24",
    "e",
  ]);
  await input.close();
});

Deno.test("StepInput.close() lets go of a client that is still there", async () => {
  const stdin = new ByteQueue(1);
  const input = new StepInput({ stdin });
  const pushed = stdin.push(concat([new Uint8Array(10)]));
  await settle();
  await input.close();
  await pushed;
  // Nothing waits for anybody.
  await stdin.push(new Uint8Array(10));
});
