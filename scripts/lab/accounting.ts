import type { HostShell } from "./shell.ts";

/** Debian's packages of what is started here. */
export const ACCOUNTING_PACKAGES = ["mariadb-server", "slurmdbd"] as const;

/** Lines of slurm.conf(5) for a cluster whose ended jobs sacct(1) knows. */
export const ACCOUNTING_CONF = [
  "AccountingStorageType=accounting_storage/slurmdbd",
  "AccountingStorageHost=ctl",
  "JobAcctGatherType=jobacct_gather/linux",
] as const;

const SLURMDBD_PORT = 6819;

/** The password is for a database that has no network. */
const DATABASE = { name: "slurm_acct_db", user: "slurm", password: "lab" } as const;

/** A small database, without the network; slurmdbd warns of a short lock time. */
const MARIADB_CONF = `[mariadbd]
skip-networking
innodb_buffer_pool_size=64M
innodb_log_file_size=16M
innodb_lock_wait_timeout=900
performance_schema=off
`;

/** slurmdbd.conf(5). */
const SLURMDBD_CONF = [
  "AuthType=auth/munge",
  "DbdHost=ctl",
  `DbdPort=${SLURMDBD_PORT}`,
  "SlurmUser=slurm",
  "PidFile=/run/slurmdbd.pid",
  "LogFile=/var/log/slurm/slurmdbd.log",
  "StorageType=accounting_storage/mysql",
  "StorageHost=localhost",
  `StorageUser=${DATABASE.user}`,
  `StoragePass=${DATABASE.password}`,
  `StorageLoc=${DATABASE.name}`,
  "",
].join("\n");

/** Starts a database and slurmdbd on the controller's host, on which munged must run. */
export async function startAccounting(ctl: HostShell, address: string): Promise<void> {
  await ctl.write("/etc/mysql/mariadb.conf.d/99-lab.cnf", MARIADB_CONF);
  await ctl.write("/etc/slurm/slurmdbd.conf", SLURMDBD_CONF, 0o600);
  await ctl.script(`
    chown slurm: /etc/slurm/slurmdbd.conf
    install -d -o mysql -g mysql -m 755 /run/mysqld /run/mariadbd
    rm -rf /var/lib/mysql && install -d -o mysql -g mysql -m 700 /var/lib/mysql
    mariadb-install-db --user=mysql --datadir=/var/lib/mysql --skip-test-db >/dev/null`);
  await ctl.daemon("mariadbd", ["mariadbd", "--user=mysql", "--datadir=/var/lib/mysql"]);
  await ctl.waitForPath("mariadbd", "/run/mysqld/mysqld.sock");
  const { name, user, password } = DATABASE;
  const statements = [
    `create user '${user}'@'localhost' identified by '${password}'`,
    `grant all on ${name}.* to '${user}'@'localhost'`,
  ];
  await ctl.runOk(["mariadb", "-e", statements.join("; ")]);
  await ctl.daemon("slurmdbd", ["slurmdbd", "-D"]);
  await ctl.waitForPort("slurmdbd", address, SLURMDBD_PORT);
}
