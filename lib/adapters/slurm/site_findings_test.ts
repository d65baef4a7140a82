import { assertEquals, assertMatch } from "@std/assert";
import { judgeLogin, judgeNode, type SiteFinding } from "./site_findings.ts";

const LOGIN = {
  missing: "",
  srun: "/usr/bin/srun",
  slurm: "slurm 23.02.6",
  home: "/home/u",
  filesystem: "nfs",
  free: String(50 * 1024 * 1024),
  config: "1",
  tracking: "proctrack/cgroup",
  accounting: "",
  flock: "/usr/bin/flock",
  builder: "/usr/bin/apptainer",
};
const NODE = {
  host: "n1",
  node_missing: "",
  perl: "/usr/bin/perl",
  runtime: "/usr/bin/apptainer",
  runtime_version: "apptainer version 1.3.2-1.el9",
  namespaces: "yes",
  fuse: "yes",
  squashfuse: "/usr/bin/squashfuse_ll",
  container: "0 ",
  mpirun: "",
  modules: "yes",
  mpi_types:
    "MPI plugin types are... none pmix pmi2 specific pmix plugin versions available: pmix_v4",
  scratch: "/tmp",
  scratch_free: String(20 * 1024 * 1024),
  overlap: "0 ",
  late: "7",
};

Deno.test("judgeNode() has nothing against a setuid runtime that is told to make user namespaces", () => {
  const fields = { ...NODE, setuid: "yes", userns: "1" };
  assertEquals(others(judgeNode(new Map(Object.entries(fields)))), []);
});

Deno.test("judgeNode() says nothing of files when no step could write one", () => {
  const { late: _, ...fields } = NODE;
  const findings = judgeNode(new Map(Object.entries({ ...fields, overlap: "127 no srun" })));
  assertEquals(findings.filter(({ what }) => what === "files"), []);
  assertEquals(others(findings).map(({ what }) => what), ["commands in containers"]);
});

function others(findings: readonly SiteFinding[]): SiteFinding[] {
  return findings.filter(({ verdict }) => verdict !== "ok");
}

Deno.test("judgeLogin() and judgeNode() find nothing to say against a good cluster", () => {
  assertEquals(others(judgeLogin(new Map(Object.entries(LOGIN)))), []);
  assertEquals(others(judgeNode(new Map(Object.entries(NODE)))), []);
});

const CASES: readonly [
  part: "login" | "node",
  change: Record<string, string>,
  what: string,
  verdict: SiteFinding["verdict"],
  says: RegExp,
][] = [
  ["login", { missing: " sbatch tar" }, "commands", "missing", /lacks sbatch tar/],
  ["login", { srun: "" }, "srun", "limited", /no srun.*no exec/],
  ["login", { slurm: "not found" }, "Slurm", "missing", /not tell its version/],
  ["login", { slurm: "slurm 20.02.7" }, "Slurm", "limited", /no --overlap/],
  ["login", { config: "0" }, "controller", "missing", /slurmctld/],
  ["login", { home: "/a:b" }, "home", "missing", /without : and ,/],
  ["login", { free: "1048576" }, "space", "limited", /^1\.0 GiB free/],
  ["login", { free: "" }, "space", "limited", /^an unknown space/],
  ["login", { tracking: "proctrack/pgid" }, "processes", "limited", /proctrack\/pgid/],
  ["login", { accounting: "disabled" }, "accounting", "limited", /disabled.*255/],
  ["login", { flock: "" }, "locks", "limited", /no flock/],
  ["login", { builder: "" }, "builds", "limited", /CRI_SLURM_BUILD_IN_CLUSTER/],
  ["node", { unwritable: "mkdir: No space left" }, "space", "missing", /No space left/],
  ["node", { refused: "no such account" }, "a job", "missing", /refuses it: no such account/],
  ["node", { host: "", waits: "PENDING Resources" }, "a job", "missing", /waits.*Resources/],
  ["node", { host: "", waits: "" }, "a job", "missing", /must see what the login host sees/],
  ["node", { prerun: "1" }, "prerun", "missing", /ended with 1/],
  ["node", { prerun_exit: "0", runtime: "" }, "prerun", "missing", /calls exit \(0\)/],
  ["node", { prerun: "1", prerun_words: "no module x" }, "prerun", "missing", /line: no module x/],
  ["node", { node_missing: " date" }, "node", "missing", /lacks date/],
  ["node", { node_wanted: " realpath" }, "node", "limited", /lacks realpath.*subPaths/],
  ["node", { runtime: "" }, "runtime", "missing", /load its module/],
  ["node", { runtime_version: "apptainer version 1.0.3" }, "runtime", "missing", /too old/],
  ["node", { runtime_version: "singularity version 3.8.7" }, "runtime", "missing", /too old/],
  ["node", { container: "255 FATAL: no" }, "containers", "missing", /none starts: FATAL: no/],
  [
    "node",
    { container: "1 x", namespaces: "" },
    "containers",
    "missing",
    /neither user namespaces/,
  ],
  ["node", { setuid: "yes" }, "commands in containers", "limited", /setuid.*APPTAINER_USERNS/],
  [
    "node",
    { scratch: "/x", scratch_free: "1024" },
    "temporary files",
    "limited",
    /^0\.0 GiB free in \/x/,
  ],
  ["node", { scratch_free: "" }, "temporary files", "limited", /^an unknown space free in \/tmp/],
  ["node", { fuse: "" }, "images", "limited", /no \/dev\/fuse.*unpacks its image/],
  ["node", { squashfuse: "" }, "images", "limited", /no squashfuse/],
  ["node", { perl: "" }, "commands in containers", "limited", /no perl/],
  ["node", { overlap: "1 unknown option" }, "commands in containers", "limited", /unknown option/],
  ["node", { late: "300" }, "files", "limited", /after 30 s/],
  ["node", { modules: "", mpi_types: "none" }, "MPI", "limited", /cannot be used/],
];

for (const [part, change, what, verdict, says] of CASES) {
  Deno.test(`${part === "login" ? "judgeLogin" : "judgeNode"}() says ${verdict} of ${what} when ${JSON.stringify(change)}`, () => {
    const [judge, good] = part === "login" ? [judgeLogin, LOGIN] : [judgeNode, NODE];
    const found = others(judge(new Map(Object.entries<string>({ ...good, ...change }))));
    assertEquals(found.map((one) => [one.what, one.verdict]), [[what, verdict]]);
    assertMatch(found[0]?.says ?? "", says);
  });
}

Deno.test("judgeNode() takes SingularityCE 3.10 and newer", () => {
  for (const version of ["singularity-ce version 3.10.0", "singularity-ce version 4.1.3"]) {
    assertEquals(
      others(judgeNode(new Map(Object.entries({ ...NODE, runtime_version: version })))),
      [],
    );
  }
});
