import { assertEquals } from "@std/assert";
import { writeStderrLine } from "../../lib/base/log.ts";
import { exists } from "../../scripts/lab/files.ts";
import { Lab } from "../../scripts/lab/lab.ts";
import { childrenOf, readIfThere, run, runOk } from "../../scripts/lab/process.ts";
import { waitFor } from "../../scripts/lab/progress.ts";

/** A lab of its own, beside the one that other tests share. */
const OPTIONS = { name: "lifetest", subnet: "10.79.0" };
const lab = new Lab(OPTIONS, writeStderrLine);
const cli = new URL("../../scripts/lab/cli.ts", import.meta.url).pathname;

/** How often a starting lab is killed. */
const KILLS = 4;
/** Longer than a start from a cached root takes on an idle machine. */
const MAX_KILL_DELAY_MS = 2_000;

/** What of this lab can be seen on the machine: interface, mounts, cgroups, processes in its roots. */
async function traces(): Promise<string[]> {
  const { name, folder, machineInterface } = lab.settings;
  const links = (await runOk(["ip", "-oneline", "link"])).split("\n")
    .filter((line) => line.includes(`: ${machineInterface}@`));
  const mounts = (await Deno.readTextFile("/proc/self/mountinfo")).split("\n")
    .filter((line) => line.includes(folder));
  const groups = await run(["find", "/sys/fs/cgroup", "-name", `multicri-lab-${name}-*`]);
  const processes: string[] = [];
  for await (const { name: pid } of Deno.readDir("/proc")) {
    if (!/^\d+$/.test(pid) || Number(pid) === Deno.pid) continue;
    const seen = await readIfThere(`/proc/${pid}/mountinfo`).catch(() => undefined);
    if (seen?.includes(`/labs/${name}/`)) processes.push(`process ${pid}`);
  }
  const left = await exists(folder) ? [folder] : [];
  return [...links, ...mounts, ...groups.stdout.split("\n").filter(Boolean), ...processes, ...left];
}

async function partitionsAreIdle(): Promise<void> {
  const { stdout } = await lab.exec("ctl", ["sinfo", "-h", "-p", "main", "-o", "%T %D"]);
  assertEquals(stdout, "idle 2\n");
}

async function untilBroken(): Promise<void> {
  await waitFor("The loss", async () => (await lab.status()).state === "broken", {
    timeoutMs: 10_000,
    log: lab.settings.folder,
  });
}

Deno.test("Lab.up() makes a lab, and down() leaves nothing of it", async () => {
  await lab.down();
  assertEquals(await traces(), []);
  await lab.up();
  await partitionsAreIdle();
  await lab.exec("ctl", [
    "sh",
    "-c",
    "sbatch --wrap 'sleep 300'; setsid --fork sleep 300 >&- 2>&-",
  ]);
  await lab.exec("knode", ["sh", "-c", "mount -t tmpfs x /mnt; ip link add br9 type bridge"]);
  await lab.down();
  assertEquals(await traces(), []);
  assertEquals((await lab.status()).state, "down");
  await lab.down();
});

Deno.test("Lab.up() makes a lab whole again when a host or a service has died", async () => {
  await lab.up();
  await lab.exec("ctl", ["pkill", "-x", "sshd"]);
  await untilBroken();
  await lab.up();
  assertEquals((await lab.status()).state, "up");

  const launcher = await Deno.readTextFile(`${lab.settings.folder}/hosts/n2/launcher.stat`);
  for (const pid of await childrenOf(Number.parseInt(launcher))) Deno.kill(pid, "SIGKILL");
  await untilBroken();
  await lab.up();
  await partitionsAreIdle();
  await lab.down();
  assertEquals(await traces(), []);
});

Deno.test("Lab.up() succeeds after an up() that was killed at any moment", async () => {
  const env = { MULTICRI_LAB_NAME: OPTIONS.name, MULTICRI_LAB_SUBNET: OPTIONS.subnet };
  const delays = Array.from({ length: KILLS }, () => Math.random() * MAX_KILL_DELAY_MS);
  writeStderrLine(`killed after ${delays.map((ms) => ms.toFixed()).join(", ")} ms`);
  for (const delayMs of delays) {
    await lab.down();
    const up = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", cli, "up"],
      env,
      stdout: "null",
      stderr: "null",
    }).spawn();
    await new Promise((resolve) => setTimeout(resolve, delayMs));
    up.kill("SIGKILL");
    await up.status;
    await lab.up();
    await partitionsAreIdle();
  }
  await lab.down();
  assertEquals(await traces(), []);
});

Deno.test("two programs that start the lab at once end with one lab", async () => {
  const start = () => new Lab(OPTIONS, writeStderrLine).up();
  await Promise.all([start(), start()]);
  await partitionsAreIdle();
  await lab.down();
  assertEquals(await traces(), []);
});
