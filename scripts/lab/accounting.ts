import type { HostProcess, Lab } from "./lab.ts";
import { exists, remove } from "./files.ts";
import { DIE_WITH_PARENT, killTree } from "./process.ts";
import { type Progress, waitFor } from "./progress.ts";
import { ensureRoot, type RootRecipe } from "./root.ts";
import { acceptsConnections } from "./shell.ts";
import { slurmConf } from "./slurm.ts";

/**
 * The database. Not of the lab's own suite: the MariaDB there ends slurmdbd's first query with error 5027, "Number of
 * columns in result".
 */
const DATABASE_ROOT: RootRecipe = {
  name: "database",
  suite: "bookworm",
  packages: ["mariadb-server"],
};

/** What jobs may be accounted to. */
export const ACCOUNTING = { account: "physics", qos: "high" } as const;

const ACCOUNTING_PORT = 6819;
const DATABASE_LOGIN = { user: "slurm", password: "lab" } as const;
/** Where libmariadb looks for the socket of a database on its own host. */
const SOCKET_FOLDER = "/run/mariadbd";
/** A database and its first tables take a second on a quick machine. */
const START_TIMEOUT_MS = 60_000;

/**
 * In a namespace of mounts of its own: its root is that of DATABASE_ROOT with a temporary file system, and the socket
 * lies in a folder of ctl.
 */
const RUN_DATABASE = `set -eu
mount --make-rprivate /
mount -t tmpfs -o mode=1777 tmpfs "$1/tmp"
mount --bind "$2" "$1/run"
exec chroot "$1" sh -euc '
  exec </dev/null >/tmp/log 2>&1
  options="--no-defaults --user=root --datadir=/tmp/data --innodb-log-file-size=16M --innodb-lock-wait-timeout=900"
  mariadb-install-db $options --auth-root-authentication-method=normal --skip-test-db --force
  printf "%s\n" "$1" >/tmp/init
  exec mariadbd $options --skip-networking --socket=/run/mysqld.sock --pid-file=/tmp/pid --init-file=/tmp/init
' sh "$3"`;

/**
 * Accounting beside a lab's Slurm, as long as a test needs it: slurmdbd and its database on ctl, and a slurmctld that
 * takes no job for an account or QOS that does not exist.
 */
export class Accounting {
  private constructor(
    readonly lab: Lab,
    private readonly database: Deno.ChildProcess,
    private readonly daemon: HostProcess,
  ) {}

  /** Starts it, with the accounts of ACCOUNTING for the lab's user. @throws Error what does not come up. */
  static async start(lab: Lab, progress: Progress = () => {}): Promise<Accounting> {
    const root = await ensureRoot(DATABASE_ROOT, lab.settings.cache, progress);
    const { user, password } = DATABASE_LOGIN;
    const sockets = lab.path("ctl", SOCKET_FOLDER);
    // What a run that was killed may have left.
    await onCtl(lab, "pkill -KILL -x slurmdbd || :");
    await remove(sockets);
    await Deno.mkdir(sockets, { recursive: true });
    const grant = `GRANT ALL ON *.* TO ${user}@localhost IDENTIFIED BY "${password}";`;
    const database = new Deno.Command("setpriv", {
      args: [
        ...DIE_WITH_PARENT.slice(1),
        ...["unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "--"],
        ...["sh", "-c", RUN_DATABASE, "sh", root, sockets, grant],
      ],
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).spawn();
    const daemon = await startDaemon(lab).catch(async (error) => {
      await killTree(database.pid);
      await database.status;
      throw error;
    });
    const accounting = new Accounting(lab, database, daemon);
    try {
      await accounting.#makeAccounts();
    } catch (error) {
      await accounting.stop();
      throw error;
    }
    return accounting;
  }

  /** Ends it: Slurm goes on without. */
  async stop(): Promise<void> {
    await writeConf(this.lab, slurmConf(this.lab.settings));
    await restartController(this.lab);
    await this.daemon.kill();
    await killTree(this.database.pid);
    await this.database.status;
  }

  async #makeAccounts(): Promise<void> {
    const { lab } = this;
    const { account, qos } = ACCOUNTING;
    const { user } = lab.login;
    await writeConf(
      lab,
      `${slurmConf(lab.settings)}AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=ctl
AccountingStorageEnforce=associations,qos
`,
    );
    await onCtl(
      lab,
      `sacctmgr -i add cluster lab
      sacctmgr -i add qos ${qos}
      sacctmgr -i add account ${account}
      sacctmgr -i add user ${user} account=${account} qos=normal,${qos}`,
    );
    await restartController(lab);
  }
}

async function startDaemon(lab: Lab): Promise<HostProcess> {
  const { user, password } = DATABASE_LOGIN;
  const conf = [
    "AuthType=auth/munge",
    "DbdHost=ctl",
    `DbdPort=${ACCOUNTING_PORT}`,
    "SlurmUser=slurm",
    "PidFile=/run/slurmdbd.pid",
    "LogFile=/var/log/slurm/slurmdbd.log",
    "StorageType=accounting_storage/mysql",
    "StorageHost=localhost",
    `StorageUser=${user}`,
    `StoragePass=${password}`,
    "",
  ].join("\n");
  const write = "umask 077; cat >/etc/slurm/slurmdbd.conf; chown slurm: /etc/slurm/slurmdbd.conf";
  await onCtl(lab, write, conf);
  // Without its database it would wait five seconds.
  await waitFor("The database", () => exists(lab.path("ctl", `${SOCKET_FOLDER}/mysqld.sock`)), {
    timeoutMs: START_TIMEOUT_MS,
    log: "the output of mariadbd, by hand",
  });
  const daemon = await lab.spawn("ctl", ["slurmdbd", "-D"], { cwd: "/" });
  try {
    await waitFor("slurmdbd on ctl", () => acceptsConnections(lab.login.host, ACCOUNTING_PORT), {
      timeoutMs: START_TIMEOUT_MS,
      log: lab.path("ctl", "/var/log/slurm/slurmdbd.log"),
    });
  } catch (error) {
    await daemon.kill();
    throw error;
  }
  return daemon;
}

async function writeConf(lab: Lab, conf: string): Promise<void> {
  await onCtl(lab, "cat >/etc/slurm/slurm.conf", conf);
}

/** Starts slurmctld anew, with what its file says now; jobs go on. */
async function restartController(lab: Lab): Promise<void> {
  await onCtl(
    lab,
    `pkill -x slurmctld || :
    while pgrep -x slurmctld >/dev/null; do sleep 0.1; done
    # The id that the cluster had with or without accounting: another is fatal.
    rm -f /var/spool/slurmctld/clustername
    setsid --fork slurmctld -D >>/var/log/slurmctld.out 2>&1 </dev/null
    until sinfo >/dev/null 2>&1; do sleep 0.1; done`,
  );
}

async function onCtl(lab: Lab, script: string, stdin = ""): Promise<void> {
  const { code, stdout, stderr } = await lab.exec("ctl", ["sh", "-ec", script], {
    stdin,
    timeoutMs: START_TIMEOUT_MS,
  });
  if (code !== 0) throw new Error(`A step of accounting failed on ctl: ${stderr || stdout}`);
}
