import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { CriError } from "../../base/error.ts";
import type { Clusters } from "../../config/clusters.ts";
import { readSettings } from "./settings.ts";
import { checkImage, checkParts } from "./shared_login.ts";

const LOGIN = { host: "login", port: 22, user: "shared", password: "secret" };
const CLUSTERS: Clusters = {
  allowed: [],
  named: new Map([
    ["open", { login: LOGIN, namespaces: undefined, prerun: false }],
    ["trusting", { login: LOGIN, namespaces: undefined, prerun: true }],
  ]),
  defaultName: undefined,
};
const OWN = { CLUSTER_HOST: "login", CLUSTER_USERNAME: "u", CLUSTER_PASSWORD: "secret" };

function read(
  cluster: "own" | "open" | "trusting",
  values: Record<string, string>,
  annotations: Record<string, string> = {},
) {
  const all = cluster === "own" ? { ...OWN, ...values } : values;
  return readSettings(
    Object.entries(all).map(([key, value]) => ({ key, value: new TextEncoder().encode(value) })),
    {
      annotations: cluster === "own"
        ? annotations
        : { "multicri.io/cluster": cluster, ...annotations },
      metadata: undefined,
    },
    CLUSTERS,
  );
}

const CUSTOM: readonly [config: string, refused: string | undefined][] = [
  ["#SBATCH --time=10 -A physics; --nodelist=n1", undefined],
  ["#SBATCH --hold --gres=gpu:1 --mem=1G --requeue", undefined],
  ["SBATCH_ACCOUNT=physics", undefined],
  ["# nothing", undefined],
  ["#SBATCH --time=10\nSLURM_TASK_PROLOG=/home/u/multi-cri/v/x", "set SLURM_TASK_PROLOG"],
  ["export SLURM_EPILOG=/x", "set SLURM_EPILOG"],
  ["SLURM_CPU_BIND=none", "set SLURM_CPU_BIND"],
  ["SBATCH_CONTAINER_IMAGE=x", "set SBATCH_CONTAINER_IMAGE"],
  ["--task-prolog=/x", "use --task-prolog"],
  ["--container-image=docker://x", "use --container-image"],
  ["#SBATCH --bbf=/home/u/x", "use --bbf"],
  ["SBATCH_BURST_BUFFER=x", "use --bb"],
  ["--nodefile=/home/u/x", "use --nodefile"],
  ["--nodelist=./x", "name a file by --nodelist"],
  ["-x /home/u/x", "name a file by --exclude"],
  ["--mail-user=-x --mail-type=END", "use --mail-user"],
];

for (const [config, refused] of CUSTOM) {
  Deno.test(`checkSettings() ${refused === undefined ? "takes" : "refuses"} ${JSON.stringify(config)} with the node's login`, () => {
    const ways = [
      (cluster: "own" | "open" | "trusting") => read(cluster, { JOB_CUSTOM_CONFIG: config }),
      (cluster: "own" | "open" | "trusting") =>
        read(cluster, {}, { "multicri.io/custom-config": config }),
    ];
    for (const way of ways) {
      const { options, submitEnvironment } = way("own");
      // What the pod may do on its own, or where it is allowed, stays what it is.
      assertEquals(way("trusting").submitEnvironment, submitEnvironment);
      if (refused === undefined) {
        assertEquals(way("open").options, options);
        continue;
      }
      const error = assertThrows(() => way("open"), CriError, "prerun: true");
      assertEquals(error.code, "PERMISSION_DENIED");
      assertStringIncludes(error.message, `Cannot ${refused}`);
    }
  });
}

Deno.test("checkSettings() takes every annotation that is a setting, with the node's login", () => {
  const annotations = {
    ...{ queue: "short", gpu: "gpu:1", "num-nodes": "2", "num-cores-node": "3", "num-cores": "6" },
    ...{ "num-tasks-node": "3", account: "physics", qos: "high", constraint: "ib" },
    ...{ reservation: "r", licenses: "l", gres: "fpga", "time-limit": "5" },
    "warning-signal": "USR1@120",
  };
  const prefixed = Object.fromEntries(
    Object.entries(annotations).map(([name, value]) => [`multicri.io/${name}`, value]),
  );
  const { options, ignoredLines } = read("open", {}, prefixed);
  assertEquals([options.length, ignoredLines], [Object.keys(annotations).length, []]);
});

Deno.test("checkImage() refuses a definition file with the node's login unless commands are allowed", () => {
  const definition = { volumeFile: { kind: "local-def-file", path: "x.def" } } as const;
  const check = (cluster: "own" | "open" | "trusting", image: Parameters<typeof checkImage>[0]) =>
    checkImage(image, read(cluster, {}).cluster, CLUSTERS);
  check("own", definition);
  check("trusting", definition);
  check("open", {});
  check("open", { volumeFile: { kind: "local-image", path: "x.sif" } });
  const error = assertThrows(() => check("open", definition), CriError, "local-def-file.");
  assertEquals(error.code, "PERMISSION_DENIED");
  assertStringIncludes(error.message, "prerun: true");
});

Deno.test("checkParts() refuses what programs of the pod can replace, with the node's login unless commands are allowed", () => {
  const check = (cluster: "own" | "open" | "trusting", ...replaceable: string[]) =>
    checkParts({ replaceable }, read(cluster, {}).cluster, CLUSTERS);
  check("own", "/part");
  check("trusting", "/part");
  check("open");
  const error = assertThrows(() => check("open", "/part", "/other"), CriError, '"/part"');
  assertEquals(error.code, "PERMISSION_DENIED");
  assertStringIncludes(error.message, "prerun: true");
});
