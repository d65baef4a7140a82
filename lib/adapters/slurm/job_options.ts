import { CriError } from "../../base/error.ts";
import { parseCustomConfig, type SlurmOption } from "../../../wasm/core.ts";

/** The domain of every annotation that is for us. */
const ANNOTATION_PREFIX = "multicri.io/";

/** The pod's annotation that names a cluster of `--clusters-file`. */
export const CLUSTER_ANNOTATION = `${ANNOTATION_PREFIX}cluster`;

/** The pod's annotation that names the directory of the cluster which its volume `/multicri` is. */
export const VOLUME_ANNOTATION = `${ANNOTATION_PREFIX}volume`;

/** The pod's annotation by which its containers share one job. */
export const ALLOCATION_ANNOTATION = `${ANNOTATION_PREFIX}allocation`;
/** The pod's annotation that says what starts the ranks of its MPI jobs: `mpirun`, or a type of srun(1), `--mpi`. */
export const MPI_ANNOTATION = `${ANNOTATION_PREFIX}mpi`;

/** The time limit of a pod's jobs; in an UpdateContainerResources, another one. */
export const TIME_LIMIT_ANNOTATION = `${ANNOTATION_PREFIX}time-limit`;

/** Annotations of ours that are no setting of a job. */
const OTHER_ANNOTATIONS: readonly string[] = [
  CLUSTER_ANNOTATION,
  VOLUME_ANNOTATION,
  ALLOCATION_ANNOTATION,
  MPI_ANNOTATION,
  `${ANNOTATION_PREFIX}runtime-handler`,
];

/** What a job is asked for, apart from the program. */
export interface JobOptions {
  /** sbatch long options without dashes; of several with one name the last counts. */
  options: SlurmOption[];
  /** SLURM_ and SBATCH_ variables for the submission, from custom configurations. */
  submitEnvironment: { name: string; value: string }[];
  /** What of it does not count, for the container's log. */
  ignoredLines: string[];
}

/** One setting of a job and the option of sbatch(1) that it becomes. */
interface Setting {
  /** The container's variable; only the seed's settings have one. */
  variable?: string;
  /** The pod's annotation, without the domain. */
  annotation: string;
  option: string;
  pattern: RegExp;
  expected: string;
}

const COUNT = /^[1-9]\d*$/;
/** The core quotes it; a space or a control character is no part of any name that Slurm knows. */
const WORD = /^[\x21-\x7e]{1,1024}$/;
const WORD_EXPECTED = "one word of printable ASCII";

/** sbatch(1), --time: minutes, minutes:seconds, hours:minutes:seconds, days-hours… */
export const TIME_LIMIT = /^(\d+-\d+(:\d+){0,2}|\d+(:\d+){0,2}|UNLIMITED|INFINITE)$/;

/** In the order in which they are written: of two with one option the later one counts. */
const SETTINGS: readonly Setting[] = [
  {
    variable: "JOB_QUEUE",
    annotation: "queue",
    option: "partition",
    pattern: /^[\w.,-]+$/,
    expected: "a partition's name",
  },
  {
    variable: "JOB_GPU",
    annotation: "gpu",
    option: "gres",
    pattern: /^gpu(:[\w.-]+)?(:\d+)?$/,
    expected: "gpu[[:type]:count], such as gpu:kepler:2",
  },
  {
    variable: "JOB_NUM_NODES",
    annotation: "num-nodes",
    option: "nodes",
    pattern: /^[1-9]\d*(-[1-9]\d*)?$/,
    expected: "a number of nodes",
  },
  {
    variable: "JOB_NUM_CORES_NODE",
    annotation: "num-cores-node",
    option: "mincpus",
    pattern: COUNT,
    expected: "a number of cores",
  },
  {
    variable: "JOB_NUM_CORES",
    annotation: "num-cores",
    option: "ntasks",
    pattern: COUNT,
    expected: "a number of cores",
  },
  {
    variable: "JOB_NUM_TASKS_NODE",
    annotation: "num-tasks-node",
    option: "ntasks-per-node",
    pattern: COUNT,
    expected: "a number of tasks",
  },
  { annotation: "account", option: "account", pattern: WORD, expected: WORD_EXPECTED },
  { annotation: "qos", option: "qos", pattern: WORD, expected: WORD_EXPECTED },
  { annotation: "constraint", option: "constraint", pattern: WORD, expected: WORD_EXPECTED },
  { annotation: "reservation", option: "reservation", pattern: WORD, expected: WORD_EXPECTED },
  { annotation: "licenses", option: "licenses", pattern: WORD, expected: WORD_EXPECTED },
  { annotation: "gres", option: "gres", pattern: WORD, expected: WORD_EXPECTED },
  {
    annotation: "time-limit",
    option: "time",
    pattern: TIME_LIMIT,
    expected: "one of sbatch's --time, as 90, 1:30:00 or 2-12",
  },
  {
    annotation: "warning-signal",
    option: "signal",
    pattern: /^(TERM|INT|HUP|QUIT|USR1|USR2)@[1-9]\d{0,4}$/,
    expected: "TERM, INT, HUP, QUIT, USR1 or USR2, and seconds before the limit, as USR1@120",
  },
];

const CUSTOM_VARIABLE = "JOB_CUSTOM_CONFIG";
const CUSTOM_ANNOTATION = "custom-config";

/** The variables of a container that are read here, and so never reach its program. */
export const JOB_VARIABLES: readonly string[] = [
  ...SETTINGS.flatMap(({ variable }) => variable ?? []),
  CUSTOM_VARIABLE,
];

/**
 * Reads what a container's job is asked for. What is nearer to the container wins: the pod's annotations come first,
 * then its `custom-config`, then the container's variables, then its JOB_CUSTOM_CONFIG.
 * @throws CriError INVALID_ARGUMENT for a value that cannot be used.
 */
export function readJobOptions(
  variables: ReadonlyMap<string, string>,
  annotations: Readonly<Record<string, string>>,
): JobOptions {
  const annotated = (name: string) => {
    const key = `${ANNOTATION_PREFIX}${name}`;
    return Object.hasOwn(annotations, key) ? (annotations[key] ?? "").trim() : "";
  };
  const single = (read: (setting: Setting) => [name: string, value: string]) =>
    SETTINGS.flatMap((setting) => {
      const [name, value] = read(setting);
      return value === "" ? [] : [optionOf(setting, name, value)];
    });
  const podConfig = parseCustomConfig(annotated(CUSTOM_ANNOTATION));
  const ownConfig = parseCustomConfig(variables.get(CUSTOM_VARIABLE) ?? "");
  const options = [
    ...single(({ annotation }) => [`${ANNOTATION_PREFIX}${annotation}`, annotated(annotation)]),
    ...podConfig.options,
    ...single(({ variable }) =>
      variable === undefined ? ["", ""] : [variable, (variables.get(variable) ?? "").trim()]
    ),
    ...ownConfig.options,
  ];
  return {
    options: options.map(toBatchShell),
    submitEnvironment: [...podConfig.environment, ...ownConfig.environment],
    ignoredLines: [
      ...unknownAnnotations(annotations),
      ...describeIgnored(`${ANNOTATION_PREFIX}${CUSTOM_ANNOTATION}`, podConfig.ignored),
      ...describeIgnored(CUSTOM_VARIABLE, ownConfig.ignored),
    ],
  };
}

function optionOf({ option, pattern, expected }: Setting, name: string, value: string) {
  if (!pattern.test(value)) throw unusable(name, expected, value);
  return { name: option, value };
}

/**
 * sbatch(1), --signal: without "B:" only job steps get it, and the program is not in one: it is the job script that
 * passes signals on.
 */
function toBatchShell(option: SlurmOption): SlurmOption {
  const { name, value } = option;
  return name === "signal" && value !== undefined && !value.includes(":")
    ? { name, value: `B:${value}` }
    : option;
}

/** A misspelt setting must not be missed in silence. */
function unknownAnnotations(annotations: Readonly<Record<string, string>>): string[] {
  const names = [...SETTINGS.map(({ annotation }) => annotation), CUSTOM_ANNOTATION];
  const known = [...OTHER_ANNOTATIONS, ...names.map((name) => `${ANNOTATION_PREFIX}${name}`)];
  return Object.keys(annotations)
    .filter((key) => key.startsWith(ANNOTATION_PREFIX) && !known.includes(key))
    .map((key) => `the annotation ${JSON.stringify(key)}: known are ${known.join(", ")}`);
}

/** One sentence a line, with the line, however many of its words were not understood. */
function describeIgnored(
  what: string,
  ignored: readonly { line: number; text: string; why: string }[],
): string[] {
  const byLine = new Map<number, string[]>();
  for (const { line, text, why } of ignored) {
    byLine.set(line, [...byLine.get(line) ?? [], `${JSON.stringify(text)}: ${why}`]);
  }
  return [...byLine].map(([line, words]) => `${what} line ${line}: ${words.join("; ")}`);
}

/** @returns the error for a value that is not as `expected`. */
export function unusable(name: string, expected: string, value: string): CriError {
  return new CriError(
    "INVALID_ARGUMENT",
    `Cannot use ${name} as it must be ${expected}: current value is ${JSON.stringify(value)}.`,
  );
}
