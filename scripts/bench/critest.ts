import { writeStdoutLine } from "../../lib/base/log.ts";
import { networkFolder, PLUGINS, startContainerd } from "../lab/containerd.ts";
import { runCritest } from "../lab/critest.ts";
import type { Lab } from "../lab/lab.ts";
import { NodeServer } from "../lab/node_server.ts";
import { compareSamples } from "./samples.ts";

/** Both runtimes are measured in turns, so that the machine's moods hit both alike. */
const ROUNDS = 5;
/** Pods, and containers, of each runtime in each round. */
const NUMBER = 12;
/** The first ones of a round are not counted: code is compiled, caches are filled and the image is mounted. */
const WARM_UP = 2;

const FOLDER = "/run/critest-benchmark";
const PARAMS = `${FOLDER}/params.yaml`;
/** The specs that are measured, and the file in which each leaves its times. */
const FOCUS = ["lifecycle of PodSandbox", "basic operations on Container"];
const CONTAINER_RESULTS = "container_benchmark_data.json";
const RESULTS = ["pod_benchmark_data.json", CONTAINER_RESULTS];

/** What critest writes of one spec. */
interface Results {
  operationsNames: string[];
  datapoints: { sampleIndex: number; operationsDurationsNs: number[] }[];
}

/**
 * `critest -benchmark` on containerd and on multicri with containers on the node itself, each pod in a network of its
 * own, by the same plugins and configuration.
 */
export async function benchCritest(lab: Lab): Promise<void> {
  const containerd = await startContainerd(lab);
  const server = new NodeServer(lab, {
    name: "benchnode",
    flags: [
      ...["--adapter-name", "singularity", "--enable-pod-network", "-v", "0"],
      `--network-conf-dir=${networkFolder("containerd")}`,
      `--network-bin-dir=${PLUGINS}`,
    ],
  });
  await server.forget();
  await server.start();
  try {
    writeStdoutLine("milliseconds, p50 and p99 of each");
    const theirs = new Map<string, number[]>();
    const ours = new Map<string, number[]>();
    for (let round = 0; round < ROUNDS; round++) {
      await measure(lab, containerd.socketPath, theirs);
      await measure(lab, server.socketPath, ours);
    }
    for (const [operation, samples] of theirs) {
      compareSamples(operation, 1, [
        { name: "containerd", samples },
        { name: "multicri", samples: ours.get(operation) ?? [] },
      ]);
    }
  } finally {
    await server.stop();
    await containerd.stop();
    await lab.exec("knode", ["rm", "-rf", FOLDER]);
  }
}

/** Runs critest's benchmarks once, and adds the times of each operation. @throws {Error} when one of them fails. */
async function measure(
  lab: Lab,
  socketPath: string,
  samples: Map<string, number[]>,
): Promise<void> {
  const folder = lab.path("knode", FOLDER);
  await Deno.mkdir(folder, { recursive: true });
  await Deno.writeTextFile(
    lab.path("knode", PARAMS),
    `podsNumber: ${NUMBER}\ncontainersNumber: ${NUMBER}\n`,
  );
  const { failed } = await runCritest(lab, {
    socketPath,
    focus: FOCUS,
    flags: [
      "-benchmark",
      ...["-benchmarking-params-file", PARAMS, "-benchmarking-output-dir", FOLDER],
    ],
  });
  if (failed.length > 0) throw new Error(`critest's benchmark failed: ${JSON.stringify(failed)}`);
  for (const file of RESULTS) {
    const { operationsNames, datapoints }: Results = JSON.parse(
      await Deno.readTextFile(`${folder}/${file}`),
    );
    const counted = datapoints.filter(({ sampleIndex }) => sampleIndex >= WARM_UP);
    const sums = operationsNames.map((
      name,
    ): [string, number[]] => [name, [operationsNames.indexOf(name)]]);
    if (file === CONTAINER_RESULTS) sums.push(["CreateContainer + StartContainer", [0, 1]]);
    for (const [operation, indices] of sums) {
      const all = samples.get(operation) ?? [];
      for (const { operationsDurationsNs } of counted) {
        all.push(
          indices.reduce((sum, index) => sum + (operationsDurationsNs[index] ?? NaN), 0) / 1e6,
        );
      }
      samples.set(operation, all);
    }
  }
}
