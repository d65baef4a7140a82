/**
 * `deno task churn [CONTAINERS] [KILLS]`: so many containers come and go on the lab's Kubernetes node, by ten workers,
 * and again while the server is killed so many times. Ends with 1 when one did not do as it must, or anything is left.
 */
import { writeStderrLine, writeStdoutLine } from "../lib/base/log.ts";
import { churn } from "../tests/node_churn.ts";
import { lab } from "../tests/on_node.ts";
import { prepareNode } from "./lab/node_server.ts";

const DEFAULT_CONTAINERS = 500;
const DEFAULT_KILLS = 3;
/** Of what is said of failures. */
const MAX_LINES = 20;

async function main(containers: number, kills: number): Promise<number> {
  await prepareNode(lab, writeStderrLine);
  let isWhole = true;
  for (const killed of [0, kills]) {
    const { before, after, failures, repeated, seconds } = await churn("churn", containers, killed);
    writeStdoutLine(
      `${containers} containers in ${seconds.toFixed(0)} s, the server killed ${killed} times, ` +
        `${repeated} calls repeated, ${failures.length} failures`,
    );
    for (const failure of failures.slice(0, MAX_LINES)) writeStdoutLine(failure);
    for (const [what, count] of Object.entries(before)) {
      const left = (after[what] ?? 0) - count;
      writeStdoutLine(`${what}: ${count} before, ${after[what]} after`);
      isWhole &&= left === 0;
    }
    isWhole &&= failures.length === 0;
  }
  return isWhole ? 0 : 1;
}

if (import.meta.main) {
  if (Deno.args.length > 2 || !Deno.args.every((word) => /^\d{1,9}$/.test(word))) {
    throw new Error("deno task churn [CONTAINERS] [KILLS] takes two whole numbers.");
  }
  const [containers = DEFAULT_CONTAINERS, kills = DEFAULT_KILLS] = Deno.args.map(Number);
  Deno.exit(await main(containers, kills));
}
