import { delay } from "@std/async/delay";

const SAMPLE_MS = 5;

/** Command lines of all processes of the machine, the lab's included, until `signal` aborts. */
export async function sampleCommandLines(signal: AbortSignal): Promise<string[]> {
  const lines = new Set<string>();
  while (!signal.aborted) {
    for await (const { name } of Deno.readDir("/proc")) {
      if (!/^\d+$/.test(name)) continue;
      const line = await Deno.readTextFile(`/proc/${name}/cmdline`).catch(() => "");
      lines.add(line.replaceAll("\0", " "));
    }
    await delay(SAMPLE_MS);
  }
  return [...lines];
}
