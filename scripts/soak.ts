/**
 * `deno task soak [MINUTES]`: a kubelet's load, many times faster than a kubelet's, on containerd through multicri and
 * on multicri's own pods. Reports the server's memory over time and every call that failed.
 */
import { delay } from "@std/async/delay";
import { messageOf } from "../lib/base/error.ts";
import { writeStderrLine, writeStdoutLine } from "../lib/base/log.ts";
import { CriClient, IMAGE } from "../tests/cri_client.ts";
import { TestClient } from "../lib/server/test_client.ts";
import { startContainerd } from "./lab/containerd.ts";
import { pushCritestImages } from "./lab/critest_images.ts";
import { Lab } from "./lab/lab.ts";
import { NodeServer, prepareNode } from "./lab/node_server.ts";

const DEFAULT_MINUTES = 10;

/** A kubelet asks for the lists every second. */
const LOOK_MS = 50;

/** Pods that are there all the time, and what of them is looked at each time. */
const STANDING_PODS = 30;

/** Between two pods that come and go. */
const POD_MS = 2_000;

/** A report's lines. */
const REPORTS = 20;

async function main(minutes: number): Promise<number> {
  const lab = new Lab({}, writeStderrLine);
  await prepareNode(lab, writeStderrLine);
  await pushCritestImages(lab, writeStderrLine);
  const containerd = await startContainerd(lab);
  const server = new NodeServer(lab, {
    name: "soak",
    flags: ["--remote-runtime-endpoints", `default:${containerd.socketPath}`],
  });
  await server.forget();
  await server.start();
  const client = new CriClient(lab.path("knode", server.socketPath));
  const events = new TestClient(lab.path("knode", server.socketPath));
  const failures = new Map<string, number>();
  let calls = 0;
  let seen = 0;
  const counted = async <T>(work: Promise<T>): Promise<T | undefined> => {
    calls++;
    return await work.catch((error) => {
      const words = messageOf(error);
      failures.set(words, (failures.get(words) ?? 0) + 1);
      return undefined;
    });
  };
  try {
    const stream = events.stream("GetContainerEvents");
    stream.on("data", () => seen++);
    stream.on("error", (error) => {
      if (running) failures.set(messageOf(error), 1);
    });
    let running = true;
    await client.call("pullImage", { image: { image: IMAGE } });
    const standing: string[] = [];
    for (let made = 0; made < STANDING_PODS; made++) {
      const { id } = await client.runContainer("sleep 86400");
      standing.push(id);
    }
    const look = async () => {
      for (let turn = 0; running; turn++) {
        await Promise.all([
          counted(client.call("listPodSandbox", { filter: {} })),
          counted(client.call("listContainers", { filter: {} })),
          counted(client.call("version")),
          counted(client.call("status")),
          counted(
            client.call("containerStatus", { containerId: standing[turn % standing.length] ?? "" }),
          ),
          ...(turn % 10 === 0
            ? [counted(client.call("listContainerStats")), counted(client.call("imageFsInfo"))]
            : []),
        ]);
        await delay(LOOK_MS);
      }
    };
    const comeAndGo = async (runtimeHandler: string) => {
      while (running) {
        const config = client.podConfig();
        const made = await counted(client.call("runPodSandbox", { config, runtimeHandler }));
        await delay(POD_MS);
        if (made === undefined) continue;
        await counted(client.call("stopPodSandbox", made));
        await counted(client.call("removePodSandbox", made));
      }
    };
    const loads = [look(), comeAndGo(""), comeAndGo("multicri")];
    for (let report = 0; report <= REPORTS; report++) {
      writeStdoutLine(
        `${(report * minutes / REPORTS).toFixed(1).padStart(6)} min  ` +
          `${await server
            .memoryMebibytes()} MiB  ${calls} calls  ${seen} events  ${failures.size} kinds of failure`,
      );
      if (report < REPORTS) await delay(minutes * 60_000 / REPORTS);
    }
    running = false;
    await Promise.all(loads);
    stream.cancel();
    for (const [words, times] of failures) writeStdoutLine(`${times} × ${words}`);
    return failures.size === 0 ? 0 : 1;
  } finally {
    client.close();
    events.close();
    await server.stop();
    await containerd.stop();
    await lab.down();
  }
}

Deno.exit(await main(Number(Deno.args[0] ?? DEFAULT_MINUTES)));
