/**
 * Clusters as they are: login shells and their noise, modules, runtimes, nodes without FUSE, cached homes; each on the
 * real lab.
 */
import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { delay } from "@std/async/delay";
import { cacheHome } from "../faults/cached_home.ts";
import { BUSYBOX, Harness } from "./harness.ts";

const CLUSTER = ["ctl", "n1", "n2"] as const;
const NODES = ["n1", "n2"] as const;
/** How late the login host sees the home; `task faults` has what NFS does by default. */
const CACHE_S = 3;

let harness: Harness;
Deno.test.beforeAll(async () => {
  harness = await Harness.start({ name: "wild" });
});
Deno.test.afterAll(() => harness?.stop());

/** Runs a script as root on hosts of the cluster. @throws Error when it fails. */
async function asRoot(hosts: readonly (typeof CLUSTER)[number][], script: string): Promise<void> {
  for (const host of hosts) {
    const { code, stderr } = await harness.lab.exec(host, ["bash", "-euc", script]);
    if (code !== 0) throw new Error(`${script} failed on ${host}: ${stderr}`);
  }
}

/** What an account's own files say and do when a shell starts, and what a shell of that kind reads. */
const NOISE = `echo "Welcome to the cluster!"; echo "quota: 97 % used" >&2; cd /tmp`;
const SHELLS: readonly { shell: string; files: readonly string[] }[] = [
  { shell: "/bin/bash", files: [".bashrc", ".profile"] },
  { shell: "/usr/bin/dash", files: [".profile"] },
  { shell: "/usr/bin/zsh", files: [".zshenv", ".zshrc"] },
  { shell: "/usr/bin/tcsh", files: [".tcshrc"] },
  { shell: "/usr/bin/fish", files: [".config/fish/config.fish"] },
];

for (const [index, { shell, files }] of SHELLS.entries()) {
  const user = `wild${index}`;
  const password = "it's a $ecret";
  Deno.test(`a job runs and is stopped where the login shell is ${shell}, which is not silent`, async () => {
    // tcsh knows no redirection of stderr alone.
    const noise = shell.endsWith("tcsh") ? `echo "Welcome to the cluster!"; cd /tmp` : NOISE;
    await asRoot(
      CLUSTER,
      `useradd --uid ${2000 + index} --no-create-home --shell ${shell} ${user}
       echo ${user}:"${password.replace("$", "\\$")}" | chpasswd`,
    );
    await asRoot(
      ["ctl"],
      `mkdir -p /home/${user}/.config/fish; cd /home/${user}
       for file in ${files.join(" ")}; do echo '${noise}' >$file; done
       chown -R ${user}: . && chmod 700 .`,
    );
    try {
      const cluster = { CLUSTER_USERNAME: user, CLUSTER_PASSWORD: password };
      const script = 'echo "$VALUE"; trap "echo TERM; exit 9" TERM; while :; do sleep 0.1; done';
      const made = await harness.run({
        command: ["/bin/sh", "-c", script],
        cluster,
        env: { VALUE: "it's !! `id` $HOME \\ é" },
      });
      await harness.until(made.container, "at work", async () => {
        return (await harness.logs(made.container)).stdout.length > 0;
      });
      const exec = await harness.server.crictl(["exec", "--sync", made.container, "echo", "a  b"]);
      assertEquals(exec.stdout.trimEnd(), "a  b", exec.stderr);
      await harness.server.crictlOk(["stop", "--timeout", "20", made.container]);
      const { status } = await harness.exited(made.container);
      const { stdout, stderr } = await harness.logs(made.container);
      assertEquals([status.exitCode, stdout, stderr], [9, ["it's !! `id` $HOME \\ é", "TERM"], []]);
      await harness.server.crictlOk(["rmp", "--force", made.pod]);
    } finally {
      await asRoot(["n1", "n2", "ctl"], `userdel --force ${user}`);
      await asRoot(["ctl"], `rm -rf /home/${user}`);
    }
  });
}

/** A directory that only its node has, and a module tree of the site. */
const SITE = "/opt/site";

Deno.test("a job runs where singularity is all there is, in a module that must be loaded", async () => {
  await asRoot(
    NODES,
    `mkdir -p ${SITE}/bin ${SITE}/modules/singularity
     cp /usr/bin/apptainer ${SITE}/bin/singularity
     mkdir ${SITE}/changes && mount -t tmpfs none ${SITE}/changes
     mkdir ${SITE}/changes/upper ${SITE}/changes/work
     mount -t overlay -o lowerdir=/usr/bin,upperdir=${SITE}/changes/upper,workdir=${SITE}/changes/work none /usr/bin
     rm /usr/bin/apptainer /usr/bin/singularity
     printf '#%%Module\\nprepend-path PATH ${SITE}/bin\\n' >${SITE}/modules/singularity/4.1
     cp /etc/environment-modules/modulespath ${SITE}/before
     echo ${SITE}/modules >>/etc/environment-modules/modulespath`,
  );
  try {
    const command = ["/bin/sh", "-c", 'echo "$VALUE"'];
    const env = { VALUE: "$HOME 'x'" };
    const without = await harness.run({ command, env });
    const { status } = await harness.exited(without.container);
    assertEquals(status.exitCode, 125);
    assertStringIncludes(status.message, "neither apptainer nor singularity is in PATH");
    await harness.removeCleanly(without);
    const made = await harness.run({
      command,
      env,
      cluster: { CLUSTER_CONFIG: "module load singularity/4.1" },
    });
    const end = await harness.exited(made.container);
    assertEquals(end.status.exitCode, 0, end.status.message);
    assertEquals((await harness.logs(made.container)).stdout, ["$HOME 'x'"]);
    await harness.removeCleanly(made);
  } finally {
    await asRoot(
      NODES,
      `umount -l /usr/bin ${SITE}/changes; cp ${SITE}/before /etc/environment-modules/modulespath; rm -rf ${SITE}`,
    );
  }
});

Deno.test("a job runs where there is no FUSE, and unpacks its image in the node's own scratch", async () => {
  await asRoot(NODES, "rm /dev/fuse; mkdir -p /scratch; chmod 1777 /scratch");
  try {
    const prerun = `export APPTAINER_TMPDIR=/scratch/$SLURM_JOB_ID APPTAINER_BIND=/scratch
      mkdir "$APPTAINER_TMPDIR"; trap 'rm -rf "$APPTAINER_TMPDIR"' EXIT`;
    const made = await harness.run({
      image: BUSYBOX,
      command: ["/bin/sh", "-c", "ls -d /scratch/*/*; echo from the job >/scratch/result"],
      cluster: { CLUSTER_CONFIG: prerun, JOB_CUSTOM_CONFIG: "--nodelist=n1" },
    });
    const { status } = await harness.exited(made.container);
    const { stdout, stderr } = await harness.logs(made.container);
    assertEquals([status.exitCode, stderr], [0, []], status.message);
    assertMatch(stdout.join("\n"), /^\/scratch\/\d+\/rootfs-\d+$/m);
    const kept = await harness.lab.exec("n1", ["cat", "/scratch/result"]);
    assertEquals(kept.stdout, "from the job\n");
    const other = await harness.lab.exec("n2", ["ls", "/scratch"]);
    assertEquals(other.stdout, "", "the scratch is not the node's own");
    await harness.removeCleanly(made);
  } finally {
    await asRoot(NODES, "mknod -m 666 /dev/fuse c 10 229; rm -rf /scratch");
  }
});

Deno.test("a job's log is whole and its code its own where the login host sees its home late", async () => {
  await using _home = await cacheHome(harness.lab, CACHE_S);
  const made = await harness.run({
    command: ["/bin/sh", "-c", "for i in 1 2 3 4 5 6; do echo $i; sleep 0.5; done; exit 5"],
  });
  const { status } = await harness.exited(made.container);
  const { stdout } = await harness.logs(made.container);
  assertEquals([status.exitCode, stdout], [5, ["1", "2", "3", "4", "5", "6"]], status.message);
  // It removes only what it sees; a kubelet tries again too.
  while ((await harness.server.crictl(["rmp", "--force", made.pod])).code !== 0) {
    await delay(CACHE_S * 1000);
  }
  await harness.nothingLeft(made);
});
