import type { LabSettings } from "./settings.ts";
import { addressOf } from "./settings.ts";
import type { HostShell } from "./shell.ts";
import { waitFor } from "./progress.ts";

/** The compute nodes. */
export const COMPUTE_NODES = ["n1", "n2"] as const;

/** Partitions of the lab's cluster. */
export const PARTITIONS = {
  /** The default; starts jobs within a second. */
  main: "main",
  /** Accepts jobs and never starts one: they stay pending with the reason PartitionDown. */
  held: "held",
  /** As main, on n2 alone; its jobs make way for those of `urgent`, back into the queue if they may. */
  scavenger: "scavenger",
  /** Takes the whole of n2 for a job. */
  urgent: "urgent",
} as const;

/** Licences of the cluster. */
export const LICENSES = "solver:4";

const CONTROLLER_TIMEOUT_MS = 30_000;
/** Longer than Slurm's own retries while a controller is busy. */
const SINFO_TIMEOUT_MS = 60_000;
const NODES_TIMEOUT_MS = 60_000;

/**
 * slurm.conf(5) of the lab. Many small jobs fit at once: nodes with two CPUs that 500 jobs may share (a
 * thousand CPUs would make `squeue --json` 300 kB a job). Processes are tracked by parentage, as the
 * hosts' cgroups are the machine's business.
 */
export function slurmConf(settings: LabSettings): string {
  const nodes = COMPUTE_NODES.map((node) =>
    `NodeName=${node} NodeAddr=${addressOf(settings, node)} CPUs=2 RealMemory=20000 State=UNKNOWN`
  );
  return [
    "ClusterName=lab",
    `SlurmctldHost=ctl(${addressOf(settings, "ctl")})`,
    "AuthType=auth/munge",
    "CredType=cred/munge",
    "SlurmUser=slurm",
    "StateSaveLocation=/var/spool/slurmctld",
    "SlurmdSpoolDir=/var/spool/slurmd",
    "SlurmctldPidFile=/run/slurmctld.pid",
    "SlurmdPidFile=/run/slurmd.pid",
    "SlurmctldLogFile=/var/log/slurm/slurmctld.log",
    "SlurmdLogFile=/var/log/slurm/slurmd.log",
    "ProctrackType=proctrack/linuxproc",
    "TaskPlugin=task/none",
    "SelectType=select/cons_tres",
    "SelectTypeParameters=CR_CPU",
    "MpiDefault=none",
    "ReturnToService=2",
    "SlurmctldTimeout=120",
    "SlurmdTimeout=120",
    "MessageTimeout=60",
    "KillWait=5",
    "MaxJobCount=20000",
    "SlurmdParameters=config_overrides",
    // A job starts a quarter of a second after it was submitted, and hundreds at once are all considered.
    "SchedulerParameters=sched_interval=2,batch_sched_delay=0,sched_max_job_start=0," +
    "default_queue_depth=2000,max_rpc_cnt=0,bf_max_job_test=2000",
    "PreemptType=preempt/partition_prio",
    "PreemptMode=REQUEUE",
    `Licenses=${LICENSES}`,
    ...nodes,
    `PartitionName=${PARTITIONS.main} Nodes=ALL Default=YES OverSubscribe=FORCE:500 MaxTime=INFINITE PreemptMode=OFF PriorityTier=10 State=UP`,
    `PartitionName=${PARTITIONS.held} Nodes=ALL Default=NO OverSubscribe=FORCE:500 MaxTime=INFINITE State=DOWN`,
    `PartitionName=${PARTITIONS.scavenger} Nodes=n2 Default=NO MaxTime=INFINITE PriorityTier=1 State=UP`,
    `PartitionName=${PARTITIONS.urgent} Nodes=n2 Default=NO OverSubscribe=EXCLUSIVE MaxTime=INFINITE PreemptMode=OFF PriorityTier=100 State=UP`,
    "",
  ].join("\n");
}

/** cgroup.conf(5): Slurm uses no cgroups here; the old one wants to be told of a kind and then asks for nothing. */
export function cgroupConf({ cluster }: Pick<LabSettings, "cluster">): string {
  return cluster === "old" ? "CgroupPlugin=cgroup/v1\n" : "CgroupPlugin=disabled\n";
}

/** munge(7) wants 32 to 1024 bytes of key. */
export const MUNGE_KEY_BYTES = 128;

/** Starts munged, slurmctld and the slurmd of every node; returns when all nodes are idle. */
export async function startSlurm(
  settings: LabSettings,
  shells: Record<"ctl" | (typeof COMPUTE_NODES)[number], HostShell>,
  mungeKey: Uint8Array,
): Promise<void> {
  const cluster = [shells.ctl, ...COMPUTE_NODES.map((node) => shells[node])];
  await Promise.all(cluster.map(async (shell) => {
    await shell.write("/etc/munge/munge.key", mungeKey);
    await shell.write("/etc/slurm/slurm.conf", slurmConf(settings));
    await shell.write("/etc/slurm/cgroup.conf", cgroupConf(settings));
    await shell.script(
      `chown munge: /etc/munge/munge.key && chmod 400 /etc/munge/munge.key
       install -d -o munge -g munge -m 755 /run/munge
       install -d -o slurm -g slurm /var/spool/slurmctld /var/log/slurm && install -d /var/spool/slurmd`,
    );
    await shell.daemon("munged", ["runuser", "-u", "munge", "--", "munged", "--foreground"]);
    await shell.waitForPath("munged", "/run/munge/munge.socket.2");
  }));
  await shells.ctl.daemon("slurmctld", ["slurmctld", "-D"]);
  await waitFor("slurmctld on ctl", async () => {
    return (await shells.ctl.run(["scontrol", "ping"])).stdout.includes("is UP");
  }, { timeoutMs: CONTROLLER_TIMEOUT_MS, log: shells.ctl.path("/var/log/slurm/slurmctld.log") });
  // A slurmd that finds no controller waits for seconds before it tries again.
  await Promise.all(
    COMPUTE_NODES.map((node) => shells[node].daemon("slurmd", ["slurmd", "-D", "-N", node])),
  );
  await waitFor("The compute nodes", () => nodesAreIdle(shells.ctl), {
    timeoutMs: NODES_TIMEOUT_MS,
    log: `${shells.n1.path("/var/log/slurm/slurmd.log")} and slurmctld.log of ctl`,
  });
}

async function nodesAreIdle(ctl: HostShell): Promise<boolean> {
  return (await nodeStates(ctl)).every((state) => state === "idle");
}

/** Whether the controller answers and all compute nodes are there, idle or at work. */
export async function nodesAnswer(ctl: HostShell): Promise<boolean> {
  return (await nodeStates(ctl)).every((state) =>
    /^(idle|mixed|allocated|completing)$/.test(state)
  );
}

/** The state of each compute node in sinfo(1)'s words; a `*` at the end says that it does not answer. */
async function nodeStates(ctl: HostShell): Promise<string[]> {
  const argv = ["sinfo", "-h", "-N", "-p", PARTITIONS.main, "-o", "%T"];
  const { code, stdout } = await ctl.run(argv, { timeoutMs: SINFO_TIMEOUT_MS });
  const states = stdout.split("\n").filter(Boolean);
  return code === 0 && states.length === COMPUTE_NODES.length ? states : ["unknown"];
}
