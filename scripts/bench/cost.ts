import { delay } from "@std/async/delay";
import type { Lab } from "../lab/lab.ts";
import type { NodeServer } from "../lab/node_server.ts";

/** proc(5) counts processor time in ticks; Linux has a hundred a second for programs. */
const TICKS_PER_SECOND = 100;

/** What a server costs while time passes, each a minute. */
export interface Cost {
  /** Processor seconds of the server itself. */
  serverSeconds: number;
  /** Processor seconds of sshd and its sftp servers on the login host. */
  sshdSeconds: number;
  /** What Slurm's controller was asked by the cluster's user. */
  slurmCalls: number;
  /** Bytes in both directions of the server's ssh connections that last. */
  sshBytes: number;
}

/** Looks at a server for a while. */
export async function costAMinute(lab: Lab, server: NodeServer, ms: number): Promise<Cost> {
  await lab.exec("ctl", ["sdiag", "--reset"]);
  const before = await counters(lab, server);
  await delay(ms);
  const after = await counters(lab, server);
  const perMinute = 60_000 / ms;
  return {
    serverSeconds: (after.serverSeconds - before.serverSeconds) * perMinute,
    sshdSeconds: (after.sshdSeconds - before.sshdSeconds) * perMinute,
    slurmCalls: after.slurmCalls * perMinute,
    sshBytes: (after.sshBytes - before.sshBytes) * perMinute,
  };
}

/** One line of it. */
export function describeCost({ serverSeconds, sshdSeconds, slurmCalls, sshBytes }: Cost): string {
  return `a minute: ${serverSeconds.toFixed(1)} s of processor on the node, ${
    sshdSeconds.toFixed(1)
  } s of sshd, ` +
    `${slurmCalls.toFixed(0)} calls to Slurm, ${(sshBytes / 1024).toFixed(0)} KiB of ssh`;
}

async function counters(lab: Lab, server: NodeServer): Promise<Cost> {
  const user = lab.login.user;
  const sumOfTicks = `awk '{ sub(/.*\\) /, ""); sum += $12 + $13 } END { print sum + 0 }'`;
  const text = async (host: "ctl" | "knode", script: string) =>
    (await lab.exec(host, ["sh", "-c", script])).stdout;
  const serverTicks = await text(
    "knode",
    `cat "/proc/$(pgrep -o -f "main.ts.*socket-path ${server.socketPath}")/stat" | ${sumOfTicks}`,
  );
  const sshdTicks = await text(
    "ctl",
    `pids=$(pgrep -d ' ' -u ${user} '^(sshd|sftp-server)'); cd /proc; for pid in $pids; do cat $pid/stat; done | ${sumOfTicks}`,
  );
  const calls = await text("ctl", "sdiag");
  const sockets = await text("knode", `ss -tniH dst ${lab.login.host}`);
  const sum = (pattern: RegExp) =>
    [...sockets.matchAll(pattern)].reduce((total, [, bytes]) => total + Number(bytes), 0);
  return {
    serverSeconds: Number(serverTicks) / TICKS_PER_SECOND,
    sshdSeconds: Number(sshdTicks) / TICKS_PER_SECOND,
    slurmCalls: Number(new RegExp(`^\\s*${user}\\b.*? count:(\\d+)`, "m").exec(calls)?.[1] ?? 0),
    sshBytes: sum(/bytes_sent:(\d+)/g) + sum(/bytes_received:(\d+)/g),
  };
}
