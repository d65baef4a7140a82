import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { CriError } from "../../base/error.ts";
import { readJobOptions } from "./job_options.ts";

const read = (annotations: Record<string, string>, variables: Record<string, string> = {}) =>
  readJobOptions(new Map(Object.entries(variables)), annotations);

const BECOMES: readonly [annotation: string, value: string, option: string, written?: string][] = [
  ["queue", "short,long", "partition"],
  ["gpu", "gpu:kepler:2", "gres"],
  ["num-nodes", "2-4", "nodes"],
  ["num-cores-node", " 3\n", "mincpus", "3"],
  ["num-cores", "6", "ntasks"],
  ["num-tasks-node", "7", "ntasks-per-node"],
  ["account", "physics", "account"],
  ["qos", "high", "qos"],
  ["constraint", "[rack1|rack2]&ib*4", "constraint"],
  ["reservation", "course_7", "reservation"],
  ["licenses", "ansys@server:2,matlab:1", "licenses"],
  ["gres", "fpga:1,tmp:20G", "gres"],
  ["time-limit", "2-12:30", "time"],
  ["warning-signal", "USR1@120", "signal", "B:USR1@120"],
];

for (const [annotation, value, name, written = value] of BECOMES) {
  Deno.test(`readJobOptions() makes --${name} of the annotation ${annotation}`, () => {
    assertEquals(read({ [`multicri.io/${annotation}`]: value }), {
      options: [{ name, value: written }],
      submitEnvironment: [],
      ignoredLines: [],
    });
  });
}

Deno.test("readJobOptions() lets what is nearer to the container come later, and so win", () => {
  const { options, submitEnvironment } = read({
    "multicri.io/custom-config": "#SBATCH --partition=2\nSLURM_DEBUG=1",
    "multicri.io/queue": "1",
  }, { JOB_CUSTOM_CONFIG: "--partition=4; SLURM_DEBUG=2", JOB_QUEUE: "3" });
  assertEquals(options.map(({ value }) => value), ["1", "2", "3", "4"]);
  assertEquals(submitEnvironment.map(({ value }) => value), ["1", "2"]);
});

for (const [given, written] of [["USR1@60", "B:USR1@60"], ["10", "B:10"], ["R:10", "R:10"]]) {
  Deno.test(`readJobOptions() makes --signal=${written} of a custom --signal=${given}`, () => {
    const { options } = read({}, { JOB_CUSTOM_CONFIG: `#SBATCH --signal=${given}` });
    assertEquals(options, [{ name: "signal", value: written ?? "" }]);
  });
}

Deno.test("readJobOptions() names what of it does not count", () => {
  const { options, ignoredLines } = read({
    "multicri.io/qoss": "high",
    "multicri.io/cluster": "hpc",
    "multicri.io/runtime-handler": "multicri",
    "example.org/qos": "low",
    "multicri.io/custom-config": "nonsense",
  }, { JOB_CUSTOM_CONFIG: "also nonsense" });
  assertEquals(options, []);
  assertEquals(ignoredLines.length, 3);
  const [unknown = "", pod = "", own = ""] = ignoredLines;
  assertStringIncludes(
    unknown,
    'the annotation "multicri.io/qoss": known are multicri.io/cluster,',
  );
  assertStringIncludes(pod, "multicri.io/custom-config line 1: ");
  assertStringIncludes(own, "JOB_CUSTOM_CONFIG line 1: ");
});

const REFUSED: readonly [annotation: string, value: string, words: string][] = [
  ["queue", "a b", "a partition's name"],
  ["gpu", "2", "gpu[[:type]:count]"],
  ["num-nodes", "0", "a number of nodes"],
  ["account", "a b", "one word of printable ASCII"],
  ["qos", "high\n#SBATCH --uid=0", "one word of printable ASCII"],
  ["constraint", "é", "one word of printable ASCII"],
  ["time-limit", "two hours", "as 90, 1:30:00 or 2-12"],
  ["warning-signal", "KILL@60", "as USR1@120"],
  ["warning-signal", "USR1", "as USR1@120"],
];

for (const [annotation, value, words] of REFUSED) {
  Deno.test(`readJobOptions() refuses ${JSON.stringify(value)} as ${annotation}`, () => {
    const error = assertThrows(() => read({ [`multicri.io/${annotation}`]: value }), CriError);
    assertEquals(error.code, "INVALID_ARGUMENT");
    assertStringIncludes(error.message, `Cannot use multicri.io/${annotation} as it must be`);
    assertStringIncludes(error.message, words);
  });
}

Deno.test("readJobOptions() sees no annotation in what every object has", () => {
  const inherited: Record<string, string> = Object.create({ "multicri.io/qos": "high" });
  assertEquals(read(inherited).options, []);
});
