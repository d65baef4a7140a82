import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { CriError } from "../../base/error.ts";
import type { ClusterChoice, KeptLogin } from "../../config/clusters.ts";
import { isReserved, loginOf, readSettings } from "./settings.ts";

const LOGIN = { CLUSTER_HOST: "login", CLUSTER_USERNAME: "u", CLUSTER_PASSWORD: "secret" };

type Values = Record<string, string | Uint8Array>;

const read = (values: Values, allowed: { host: string; port: number }[] = []) =>
  readSettings(
    Object.entries(values).map(([key, value]) => ({
      key,
      value: typeof value === "string" ? new TextEncoder().encode(value) : value,
    })),
    { annotations: {}, metadata: undefined },
    { allowed, named: new Map(), defaultName: undefined },
  );

Deno.test("readSettings() needs only a host, a user and a password", () => {
  assertEquals(read(LOGIN), {
    cluster: { kind: "own", login: { host: "login", port: 22, user: "u", password: "secret" } },
    options: [],
    submitEnvironment: [],
    ignoredLines: [],
    prerun: "",
    program: [],
  });
});

Deno.test("readSettings() takes the environment of a full job apart", () => {
  const settings = read({
    ...LOGIN,
    CLUSTER_HOST: " fe80::1%eth0 ",
    CLUSTER_PORT: "2222\n",
    CLUSTER_CONFIG: "module load x\n",
    JOB_QUEUE: "short,long",
    JOB_GPU: "gpu:kepler:2",
    JOB_NUM_NODES: "2-4",
    JOB_NUM_CORES_NODE: "3",
    JOB_NUM_CORES: "6",
    JOB_NUM_TASKS_NODE: " 7 ",
    JOB_CUSTOM_CONFIG: "#SBATCH --time=5\nnonsense\nSLURM_DEBUG=1\n--partition=other",
    MPI_FLAGS: "",
    MPI_VERSION: "",
    KUBERNETES_SERVICE_HOST: "10.0.0.1",
    JOB_COMPLETION_INDEX: "3",
    JOB_QUEUE_SERVICE_HOST: "10.0.0.2",
    EMPTY: "",
    ODD: "\ufeffa\n$b",
  });
  assertEquals(settings.cluster, {
    kind: "own",
    login: { host: "fe80::1%eth0", port: 2222, user: "u", password: "secret" },
  });
  assertEquals(settings.options, [
    { name: "partition", value: "short,long" },
    { name: "gres", value: "gpu:kepler:2" },
    { name: "nodes", value: "2-4" },
    { name: "mincpus", value: "3" },
    { name: "ntasks", value: "6" },
    { name: "ntasks-per-node", value: "7" },
    { name: "time", value: "5" },
    { name: "partition", value: "other" },
  ]);
  assertEquals(settings.submitEnvironment, [{ name: "SLURM_DEBUG", value: "1" }]);
  assertEquals(settings.ignoredLines.length, 1);
  assertStringIncludes(settings.ignoredLines[0] ?? "", "JOB_CUSTOM_CONFIG line 2: ");
  assertEquals(settings.prerun, "module load x\n");
  assertEquals(settings.program, [
    { name: "JOB_COMPLETION_INDEX", value: "3" },
    { name: "JOB_QUEUE_SERVICE_HOST", value: "10.0.0.2" },
    { name: "EMPTY", value: "" },
    { name: "ODD", value: "\ufeffa\n$b" },
  ]);
});

Deno.test("readSettings() lets the last value of a repeated name win", () => {
  const encode = (text: string) => new TextEncoder().encode(text);
  const settings = readSettings(
    [
      ...Object.entries(LOGIN).map(([key, value]) => ({ key, value: encode(value) })),
      { key: "A", value: encode("1") },
      { key: "A", value: encode("2") },
    ],
    { annotations: {}, metadata: undefined },
    { allowed: [], named: new Map(), defaultName: undefined },
  );
  assertEquals(settings.program, [{ name: "A", value: "2" }]);
});

const REFUSALS: readonly [values: Values, code: string, words: string][] = [
  [{ CLUSTER_HOST: " " }, "INVALID_ARGUMENT", "CLUSTER_HOST must be set"],
  [{ CLUSTER_USERNAME: "" }, "INVALID_ARGUMENT", "CLUSTER_USERNAME must be set"],
  [{ CLUSTER_PASSWORD: "" }, "INVALID_ARGUMENT", "CLUSTER_PASSWORD or CLUSTER_KEYVALUE"],
  [{ CLUSTER_HOST: "a b" }, "INVALID_ARGUMENT", "a host name or address"],
  [{ CLUSTER_HOST: "login\nX" }, "INVALID_ARGUMENT", "a host name or address"],
  [{ CLUSTER_USERNAME: "$(id)" }, "INVALID_ARGUMENT", "a user name"],
  [{ CLUSTER_JUMP_USERNAME: "v" }, "INVALID_ARGUMENT", "CLUSTER_JUMP_HOST must be set"],
  [{ CLUSTER_JUMP_HOST: "$(id)" }, "INVALID_ARGUMENT", "a host name or address"],
  [{ CLUSTER_PORT: "0" }, "INVALID_ARGUMENT", "a port number from 1 to 65535"],
  [{ CLUSTER_PORT: "65536" }, "INVALID_ARGUMENT", "a port number from 1 to 65535"],
  [{ CLUSTER_PORT: "0x16" }, "INVALID_ARGUMENT", "a port number from 1 to 65535"],
  [{ CLUSTER_KEYVALUE: "not a key" }, "INVALID_ARGUMENT", "key"],
  [{ JOB_QUEUE: "a b" }, "INVALID_ARGUMENT", "a partition's name"],
  [{ JOB_GPU: "2" }, "INVALID_ARGUMENT", "gpu[[:type]:count]"],
  [{ JOB_NUM_NODES: "0" }, "INVALID_ARGUMENT", "a number of nodes"],
  [{ JOB_NUM_CORES: "two" }, "INVALID_ARGUMENT", 'current value is "two"'],
  [{ JOB_NUM_TASKS_NODE: "-1" }, "INVALID_ARGUMENT", "a number of tasks"],
  [{ MPI_VERSION: "/home/u/own" }, "INVALID_ARGUMENT", "MPI_VERSION"],
  [{ "": "x" }, "INVALID_ARGUMENT", "its name must not be empty"],
  [{ TOKEN: new Uint8Array([0xff, 0xfe]) }, "INVALID_ARGUMENT", "TOKEN: its value must be UTF-8"],
];

for (const [values, code, words] of REFUSALS) {
  Deno.test(`readSettings() refuses ${JSON.stringify(values)} with a sentence`, () => {
    const error = assertThrows(() => read({ ...LOGIN, ...values }), CriError);
    assertEquals(error.code, code);
    assertStringIncludes(error.message, words);
    assertEquals(error.message.includes("secret"), false);
  });
}

Deno.test("readSettings() tells of an annotation that the container's own login makes mean nothing", () => {
  const annotations = { "multicri.io/cluster": "gpu" };
  const envs = Object.entries(LOGIN).map(([key, value]) => ({
    key,
    value: new TextEncoder().encode(value),
  }));
  const { cluster, ignoredLines } = readSettings(
    envs,
    { annotations, metadata: undefined },
    { allowed: [], named: new Map(), defaultName: undefined },
  );
  assertEquals([cluster.kind, ignoredLines.length], ["own", 1]);
  assertStringIncludes(ignoredLines[0] ?? "", '"multicri.io/cluster"');
});

const JUMPS: readonly [values: Values, jump: Record<string, unknown>][] = [
  [{ CLUSTER_JUMP_HOST: "gate" }, { host: "gate", port: 22, user: "u", password: "secret" }],
  [
    {
      CLUSTER_JUMP_HOST: "gate",
      CLUSTER_JUMP_PORT: "2222",
      CLUSTER_JUMP_USERNAME: "v",
      CLUSTER_JUMP_PASSWORD: "other",
    },
    { host: "gate", port: 2222, user: "v", password: "other" },
  ],
];

for (const [values, jump] of JUMPS) {
  Deno.test(`readSettings() goes through a jump host when the pod has ${Object.keys(values).join(", ")}`, () => {
    const { cluster } = read({ ...LOGIN, ...values });
    assertEquals(cluster.kind === "own" && cluster.login.jump, jump);
  });
}

Deno.test("readSettings() refuses a jump host that the administrator does not allow", () => {
  const allowed = [{ host: "login", port: 22 }];
  const error = assertThrows(
    () => read({ ...LOGIN, CLUSTER_JUMP_HOST: "gate" }, allowed),
    CriError,
  );
  assertEquals([error.code, error.message.includes("gate:22")], ["PERMISSION_DENIED", true]);
});

const CLUSTERS: readonly [host: string, port: string, allowed: boolean][] = [
  ["login", "22", true],
  ["other", "2222", true],
  ["login", "2222", false],
  ["evil", "22", false],
];

for (const [host, port, allowed] of CLUSTERS) {
  Deno.test(`readSettings() ${allowed ? "accepts" : "refuses"} ${host}:${port} when the administrator lists clusters`, () => {
    const values = { ...LOGIN, CLUSTER_HOST: host, CLUSTER_PORT: port };
    const list = [{ host: "login", port: 22 }, { host: "other", port: 2222 }];
    if (allowed) {
      return assertEquals(
        (read(values, list).cluster as { login: { host: string } }).login.host,
        host,
      );
    }
    const error = assertThrows(() => read(values, list), CriError, "--allowed-clusters");
    assertEquals(error.code, "PERMISSION_DENIED");
  });
}

const NODE_SECRET = "hunter2";

function kept(changes: Partial<KeptLogin> = {}): KeptLogin {
  const login = { host: "node", port: 22, user: "shared", password: NODE_SECRET };
  return { login, namespaces: undefined, prerun: false, ...changes };
}

const KEPT = new Map([
  ["open", kept()],
  ["physics", kept({ namespaces: ["physics"] })],
  ["nobody", kept({ namespaces: [] })],
  ["prerun", kept({ prerun: true })],
]);

const ANNOTATION = "multicri.io/cluster";

interface Asked {
  values?: Values;
  annotation?: string;
  namespace?: string;
  defaultName?: string;
}

const choose = ({ values = {}, annotation, namespace = "ns", defaultName }: Asked) =>
  readSettings(
    Object.entries(values).map(([key, value]) => ({
      key,
      value: new TextEncoder().encode(String(value)),
    })),
    {
      annotations: annotation === undefined ? {} : { [ANNOTATION]: annotation },
      metadata: { name: "p", namespace, uid: "u", attempt: 0 },
    },
    { allowed: [{ host: "login", port: 22 }], named: KEPT, defaultName },
  ).cluster;

const OWN: ClusterChoice = {
  kind: "own",
  login: { host: "login", port: 22, user: "u", password: "secret" },
};

const CHOICES: readonly [what: string, Asked, ClusterChoice][] = [
  ["an annotation names it", { annotation: "open" }, { kind: "named", name: "open" }],
  ["it is the default", { defaultName: "open" }, { kind: "named", name: "open" }],
  ["annotation and default differ", { annotation: "open", defaultName: "nobody" }, {
    kind: "named",
    name: "open",
  }],
  ["the pod brings its own", { values: LOGIN }, OWN],
  ["the pod brings its own beside both", {
    values: LOGIN,
    annotation: "open",
    defaultName: "open",
  }, OWN],
  ["its namespace is listed", { annotation: "physics", namespace: "physics" }, {
    kind: "named",
    name: "physics",
  }],
  ["the entry allows the prerun", {
    annotation: "prerun",
    values: { CLUSTER_CONFIG: "module load x" },
  }, { kind: "named", name: "prerun" }],
  ["the entry allows the prerun, so that MPI may run too", {
    annotation: "prerun",
    values: { MPI_VERSION: "4", MPI_FLAGS: "sh" },
  }, { kind: "named", name: "prerun" }],
  ["the prerun is empty", { annotation: "open", values: { CLUSTER_CONFIG: "" } }, {
    kind: "named",
    name: "open",
  }],
];

for (const [what, asked, expected] of CHOICES) {
  Deno.test(`readSettings() chooses ${expected.kind === "own" ? "the pod's login" : expected.name} when ${what}`, () => {
    assertEquals(choose(asked), expected);
  });
}

const NOT_CHOSEN: readonly [Asked, code: string, words: string][] = [
  [{ annotation: "missing" }, "INVALID_ARGUMENT", "must be open or physics or nobody or prerun"],
  [{ annotation: "" }, "INVALID_ARGUMENT", 'current value is ""'],
  [{ annotation: "constructor" }, "INVALID_ARGUMENT", '"constructor"'],
  [{ annotation: "physics" }, "PERMISSION_DENIED", "in the namespace ns"],
  [{ annotation: "physics", namespace: "" }, "PERMISSION_DENIED", "other namespaces only"],
  [{ annotation: "nobody" }, "PERMISSION_DENIED", "other namespaces only"],
  [{ defaultName: "physics" }, "PERMISSION_DENIED", "other namespaces only"],
  [
    { annotation: "open", values: { CLUSTER_CONFIG: "cat ~/.ssh/id" } },
    "PERMISSION_DENIED",
    "prerun: true",
  ],
  [{ defaultName: "open", values: { CLUSTER_CONFIG: " " } }, "PERMISSION_DENIED", "prerun: true"],
  [
    { annotation: "open", values: { MPI_VERSION: "4", MPI_FLAGS: "-np 2" } },
    "PERMISSION_DENIED",
    "Cannot run MPI",
  ],
  [{}, "INVALID_ARGUMENT", "CLUSTER_HOST must be set"],
  // Half a login of the pod's must never become the node's.
  ...[...Object.keys(LOGIN), "CLUSTER_PORT", "CLUSTER_KEYVALUE"].flatMap((name) =>
    [{ annotation: "open" }, { defaultName: "open" }].map((
      asked,
    ): [Asked, string, string] => [
      { ...asked, values: { [name]: "secret" } },
      "INVALID_ARGUMENT",
      "must be set in the environment",
    ])
  ),
];

for (const [asked, code, words] of NOT_CHOSEN) {
  Deno.test(`readSettings() refuses ${JSON.stringify(asked)} where the node keeps logins`, () => {
    const error = assertThrows(() => choose(asked), CriError, words);
    assertEquals(error.code, code);
    for (const secret of ["secret", NODE_SECRET]) {
      assertEquals(error.message.includes(secret), false);
    }
  });
}

Deno.test("loginOf() gives the login, and throws NOT_FOUND when the node keeps it no more", () => {
  const clusters = { allowed: [], named: KEPT, defaultName: undefined };
  assertEquals(loginOf({ kind: "named", name: "open" }, clusters).user, "shared");
  assertEquals(loginOf(OWN, clusters).user, "u");
  const error = assertThrows(() => loginOf({ kind: "named", name: "gone" }, clusters), CriError);
  assertEquals(error.code, "NOT_FOUND");
});

const NAMES: readonly [name: string, reserved: boolean][] = [
  ["CLUSTER_ANYTHING", true],
  ["KUBERNETES_PORT", true],
  ["JOB_QUEUE", true],
  ["JOB_GPU", true],
  ["MPI_FLAGS", true],
  ["MPI_VERSION", true],
  ["JOB_COMPLETION_INDEX", false],
  ["JOB_X_SERVICE_HOST", false],
  ["MPI_FLAGS_2", false],
  ["MY_CLUSTER_HOST", false],
  ["CLUSTER", false],
  ["constructor", false],
];

for (const [name, reserved] of NAMES) {
  Deno.test(`isReserved() says ${reserved} of ${name}`, () => {
    assertEquals(isReserved(name), reserved);
  });
}

Deno.test("readSettings() tells what of MPI is ignored, and only then", () => {
  const values = { ...LOGIN, MPI_FLAGS: "-np 2" };
  assertStringIncludes(read(values).ignoredLines.join(), "MPI_FLAGS: without MPI_VERSION");
  assertEquals(read({ ...values, MPI_VERSION: "default" }).ignoredLines, []);
});
