/** What a cluster offers, judged: a sentence about each thing, and what does not work without it. */

/** What was found of one thing. */
export interface SiteFinding {
  what: string;
  /** `missing`: no job runs; `limited`: jobs run, and what is told does not work. */
  verdict: "ok" | "missing" | "limited";
  says: string;
}

type Fields = ReadonlyMap<string, string>;

/** `--overlap` came with it. */
const LEAST_SLURM = [20, 11] as const;
/** A few images. */
const LITTLE_SPACE_KIB = 5 * 1024 * 1024;
/** Compilers and frameworks of today write as much into /tmp. */
const LITTLE_SCRATCH_KIB = 1024 * 1024;
/** What a file may take to be seen from a node before logs are noticeably late. */
const LATE_S = 2;
/** What jobs do with programs that few need. */
const NODE_WANTED_SAYS =
  "stdin and tty take mkfifo, subPaths and mounts within volumes realpath, statistics getconf; the others tell why " +
  "a job could not start";

const SETUID_SAYS =
  "the runtime is installed setuid, so that nobody but root may enter its containers: no exec, and no probes or " +
  "hooks that run a command; where the kernel lets users make namespaces, export APPTAINER_USERNS=1 in CLUSTER_CONFIG";

/** Judges what LOGIN_SCRIPT printed. */
export function judgeLogin(fields: Fields): SiteFinding[] {
  const get = (name: string) => (fields.get(name) ?? "").trim();
  const [slurm, home, free] = [get("slurm"), get("home"), Number(get("free") || NaN)];
  return [
    get("missing") === ""
      ? ok("commands", "all that the login host must have are there")
      : missing("commands", `the login host lacks ${get("missing")}: nothing can be submitted`),
    get("srun") !== "" ? ok("srun", get("srun")) : limited(
      "srun",
      "no srun on the login host: no exec, attach, port-forward, and no probes or hooks that run a command; " +
        "a container in its pod's job (multicri.io/allocation) gets no SIGTERM",
    ),
    judgeSlurm(slurm),
    get("config") === "1"
      ? ok("controller", "it answers")
      : missing("controller", "`scontrol show config` says nothing: is slurmctld up?"),
    home.startsWith("/") && !/[:,]/.test(home)
      ? ok("home", `${home}, ${get("filesystem") || "file system unknown"}`)
      : missing(
        "home",
        `the home directory must be an absolute path without : and ,: it is ${home}`,
      ),
    free >= LITTLE_SPACE_KIB
      ? ok("space", `${gibibytes(free)} free`)
      : limited("space", `${gibibytes(free)} free in the home directory: few images fit`),
    get("tracking") === "proctrack/cgroup"
      ? ok("processes", "Slurm tracks them by cgroups")
      : limited(
        "processes",
        `Slurm tracks them by ${
          get("tracking") || "nothing known"
        }: what a program leaves behind may outlive its job`,
      ),
    get("accounting") === "" ? ok("accounting", "sacct knows how jobs ended") : limited(
      "accounting",
      `sacct says: ${
        get("accounting")
      }. How a job ended that was killed while the cluster could not be reached ` +
        "may stay unknown (code 255)",
    ),
    get("flock") !== "" ? ok("locks", "flock") : limited(
      "locks",
      "no flock: two servers that submit one container at once are told apart later",
    ),
    get("builder") !== "" ? ok("builds", `${get("builder")} on the login host`) : limited(
      "builds",
      "no apptainer on the login host: CRI_SLURM_BUILD_IN_CLUSTER must be `job`, or off",
    ),
  ];
}

/** Judges what `nodeScript` printed. */
export function judgeNode(fields: Fields): SiteFinding[] {
  const get = (name: string) => (fields.get(name) ?? "").trim();
  const has = (name: string) => get(name) !== "";
  if (has("unwritable")) {
    return [missing("space", `nothing can be written in the home directory: ${get("unwritable")}`)];
  }
  if (has("refused")) return [missing("a job", `sbatch refuses it: ${get("refused")}`)];
  if (!has("host")) {
    const state = get("waits") || "gone";
    return [missing(
      "a job",
      /PENDING/.test(state)
        ? `it waits in the queue (${state}), so no node was looked at: name another partition by JOB_QUEUE`
        : `it left nothing in the home directory (${state}): compute nodes must see what the login host sees`,
    )];
  }
  const job = ok("a job", `it ran on ${get("host")}, which sees the home directory`);
  const words = has("prerun_words") ? `; its last line: ${get("prerun_words")}` : "";
  if (has("prerun_exit")) {
    const says =
      `CLUSTER_CONFIG calls exit (${get("prerun_exit")}), which ends each job before its ` +
      `container starts: it must use return, or a subshell${words}`;
    return [job, missing("prerun", says)];
  }
  return [
    job,
    ...(has("prerun") && get("prerun") !== "0"
      ? [missing("prerun", `CLUSTER_CONFIG ended with ${get("prerun")}: no job starts${words}`)]
      : []),
    has("node_missing")
      ? missing("node", `it lacks ${get("node_missing")}: jobs cannot be run`)
      : has("node_wanted")
      ? limited("node", `it lacks ${get("node_wanted")}: ${NODE_WANTED_SAYS}`)
      : ok("node", "it has what a job's script calls"),
    judgeRuntime(get("runtime"), get("runtime_version")),
    ...(has("runtime") ? judgeContainers(get, has) : []),
    isSetuid(has)
      ? limited("commands in containers", SETUID_SAYS)
      : has("perl") && get("overlap").startsWith("0")
      ? ok("commands in containers", "perl and srun --overlap are there")
      : limited(
        "commands in containers",
        `${
          has("perl") ? `srun --overlap fails (${get("overlap")})` : "the node has no perl"
        }: no exec, attach, ` +
          "port-forward, and no probes or hooks that run a command",
      ),
    ...(has("late") ? [judgeLateness(Number(get("late")) / 10)] : []),
    judgeScratch(get),
    judgeMpi(get),
  ];
}

function judgeLateness(seconds: number): SiteFinding {
  const says = `what a node writes is seen after ${seconds} s`;
  return seconds <= LATE_S ? ok("files", says) : limited(
    "files",
    `${says}: logs and ends come that late; CRI_SLURM_FOLLOW=node does without them`,
  );
}

function judgeSlurm(version: string): SiteFinding {
  const [, major, minor] = /^slurm\S* (\d+)\.(\d+)/.exec(version) ?? [];
  if (major === undefined || minor === undefined) {
    return missing("Slurm", `sbatch does not tell its version: ${version}`);
  }
  const [leastMajor, leastMinor] = LEAST_SLURM;
  return Number(major) > leastMajor || Number(major) === leastMajor && Number(minor) >= leastMinor
    ? ok("Slurm", version)
    : limited(
      "Slurm",
      `${version} is older than 20.11: srun has no --overlap, so no command reaches a container`,
    );
}

function judgeRuntime(path: string, version: string): SiteFinding {
  if (path === "") {
    return missing(
      "runtime",
      "neither apptainer nor singularity is in the node's PATH: load its module in CLUSTER_CONFIG",
    );
  }
  const [, major = "", minor = ""] = /(\d+)\.(\d+)/.exec(version) ?? [];
  const least = version.startsWith("apptainer") ? [1, 1] : [3, 10];
  const isOld = Number(major) < (least[0] ?? 0) ||
    Number(major) === least[0] && Number(minor) < (least[1] ?? 0);
  return isOld
    ? missing(
      "runtime",
      `${version} is too old: it must be Apptainer 1.1, SingularityCE 3.10 or newer`,
    )
    : ok("runtime", `${path}, ${version}`);
}

/** Whether containers are made by root's rights: those of a runtime that is not told to do without. */
function isSetuid(has: (name: string) => boolean): boolean {
  return has("setuid") && !has("userns");
}

function judgeContainers(
  get: (name: string) => string,
  has: (name: string) => boolean,
): SiteFinding[] {
  const setuid = isSetuid(has);
  const starts = get("container").startsWith("0")
    ? ok(
      "containers",
      setuid ? "they start, by a setuid runtime" : "they start, by user namespaces",
    )
    : missing(
      "containers",
      `none starts${
        has("namespaces") || setuid
          ? ""
          : ", and the node allows neither user namespaces nor a setuid runtime"
      }: ${get("container").replace(/^\d+ /, "")}`,
    );
  if (setuid) return [starts];
  return [
    starts,
    has("fuse") && has("squashfuse") ? ok("images", "they are mounted by squashfuse") : limited(
      "images",
      `${
        has("fuse") ? "no squashfuse" : "no /dev/fuse that users may open"
      }: each start unpacks its image into the node's /tmp`,
    ),
  ];
}

function judgeScratch(get: (name: string) => string): SiteFinding {
  const free = Number(get("scratch_free") || NaN);
  const words = `${gibibytes(free)} free in ${get("scratch")} of the node for the containers' /tmp`;
  return free >= LITTLE_SCRATCH_KIB
    ? ok("temporary files", words)
    : limited("temporary files", words);
}

function judgeMpi(get: (name: string) => string): SiteFinding {
  const types = new Set(get("mpi_types").match(/\b(pmix\w*|pmi2|cray_shasta)\b/g));
  const ways = [
    ...(get("mpirun") === "" ? [] : [get("mpirun")]),
    ...(get("modules") === "" ? [] : ["modules"]),
    ...(types.size === 0 ? [] : [`srun --mpi (${[...types].join(", ")})`]),
  ];
  return ways.length === 0
    ? limited("MPI", "no mpirun, no modules, and no type of srun --mpi: MPI_VERSION cannot be used")
    : ok("MPI", ways.join("; "));
}

function gibibytes(kib: number): string {
  return Number.isNaN(kib) ? "an unknown space" : `${(kib / 1024 / 1024).toFixed(1)} GiB`;
}

function ok(what: string, says: string): SiteFinding {
  return { what, verdict: "ok", says };
}

function limited(what: string, says: string): SiteFinding {
  return { what, verdict: "limited", says };
}

function missing(what: string, says: string): SiteFinding {
  return { what, verdict: "missing", says };
}
