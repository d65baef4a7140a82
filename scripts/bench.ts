/**
 * `deno task bench [NAME…]`: what multicri costs beside what it stands before or instead of, measured in one run.
 * Machines differ and are noisy: the ratios are the result, not the milliseconds.
 */
import { messageOf } from "../lib/base/error.ts";
import { writeStderrLine, writeStdoutLine } from "../lib/base/log.ts";
import { benchCritest } from "./bench/critest.ts";
import { benchExec } from "./bench/exec.ts";
import { benchFlood } from "./bench/flood.ts";
import { benchIdle } from "./bench/idle.ts";
import { benchImages } from "./bench/images.ts";
import { benchLogs } from "./bench/logs.ts";
import { benchRouter } from "./bench/router.ts";
import { benchStart } from "./bench/start.ts";
import { benchUpload } from "./bench/upload.ts";
import { Lab } from "./lab/lab.ts";
import { prepareNode } from "./lab/node_server.ts";

const BENCHMARKS: Readonly<Record<string, (lab: Lab) => Promise<void>>> = {
  critest: benchCritest,
  exec: benchExec,
  flood: benchFlood,
  idle: benchIdle,
  images: benchImages,
  logs: benchLogs,
  router: benchRouter,
  start: benchStart,
  upload: benchUpload,
};

async function main(names: readonly string[]): Promise<number> {
  const unknown = names.find((name) => !Object.hasOwn(BENCHMARKS, name));
  if (unknown !== undefined) {
    writeStderrLine(
      `There is no benchmark '${unknown}': there are ${Object.keys(BENCHMARKS).join(", ")}.`,
    );
    return 2;
  }
  const lab = new Lab({}, writeStderrLine);
  try {
    await prepareNode(lab, writeStderrLine);
    for (const [name, run] of Object.entries(BENCHMARKS)) {
      if (names.length > 0 && !names.includes(name)) continue;
      writeStdoutLine(`== ${name}`);
      await run(lab);
    }
    return 0;
  } catch (error) {
    writeStderrLine(messageOf(error));
    return 1;
  } finally {
    await lab.down();
  }
}

Deno.exit(await main(Deno.args));
