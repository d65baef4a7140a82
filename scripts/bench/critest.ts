import { writeStdoutLine } from "../../lib/base/log.ts";
import { networkFolder, PLUGINS, startContainerd } from "../lab/containerd.ts";
import { runCritest } from "../lab/critest.ts";
import type { Lab } from "../lab/lab.ts";
import { NodeServer } from "../lab/node_server.ts";
import { compareSamples, type Samples } from "./samples.ts";

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
const RESULTS = ["pod_benchmark_data.json", "container_benchmark_data.json"];

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
    const name = (operation: string, samples: Samples | undefined, runtime: string) => {
      if (samples === undefined) throw new Error(`critest did not measure ${operation}.`);
      return { name: runtime, samples };
    };
    for (const operation of [...theirs.keys(), CREATE_AND_START]) {
      compareSamples(operation, 1, [
        name(operation, samplesOf(theirs, operation), "containerd"),
        name(operation, samplesOf(ours, operation), "multicri"),
      ]);
    }
  } finally {
    await server.stop();
    await containerd.stop();
    await lab.exec("knode", ["rm", "-rf", FOLDER]);
  }
}

/** Of one container, together. */
const CREATE_AND_START = "CreateContainer + StartContainer";

function samplesOf(samples: ReadonlyMap<string, number[]>, operation: string): Samples | undefined {
  if (operation !== CREATE_AND_START) return samples.get(operation);
  const starts = samples.get("StartContainer") ?? [];
  return samples.get("CreateContainer")?.map((ms, index) => ms + (starts[index] ?? NaN));
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
    for (const [index, name] of operationsNames.entries()) {
      const list = samples.get(name) ?? [];
      list.push(
        ...counted.map(({ operationsDurationsNs }) => (operationsDurationsNs[index] ?? NaN) / 1e6),
      );
      samples.set(name, list);
    }
  }
}
