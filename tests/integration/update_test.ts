/** Other resources for jobs, on the real lab, driven by crictl alone. */
import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { Harness } from "./harness.ts";

const MEBIBYTE = 1024 * 1024;
const RESOURCES = {
  cpu_quota: 100_000,
  cpu_period: 100_000,
  memory_limit_in_bytes: 100 * MEBIBYTE,
};

let harness: Harness;
Deno.test.beforeAll(async () => {
  harness = await Harness.start({ name: "update" });
});
Deno.test.afterAll(() => harness?.stop());

/** `crictl update` to other cores and mebibytes. */
async function update(container: string, cores: number, mebibytes: number) {
  const options = ["--cpu-quota", String(cores * 100_000), "--memory", `${mebibytes * MEBIBYTE}`];
  return await harness.server.crictl(["update", ...options, container]);
}

/** The memory limit of a container as ContainerStatus has it. */
async function limitOf(container: string): Promise<string> {
  const { status } = JSON.parse(await harness.server.crictlOk(["inspect", container]));
  return status.resources.linux.memoryLimitInBytes;
}

Deno.test("a waiting job gets other cores and memory, and runs with them", async () => {
  const made = await harness.run({
    command: ["/bin/sh", "-c", "sleep 60"],
    linux: { resources: RESOURCES },
    cluster: { JOB_CUSTOM_CONFIG: "#SBATCH --hold" },
  });
  const { info } = await harness.until(
    made.container,
    "held",
    ({ info }) => info.slurm.pending !== undefined,
  );
  assertEquals((await update(made.container, 2, 200)).code, 0);
  const job = info.slurm.jobId ?? "";
  const shown = async () => await harness.onCluster(`scontrol --oneliner show job ${job}`);
  assertStringIncludes(await shown(), "NumCPUs=2 NumTasks=1 CPUs/Task=2");
  assertStringIncludes(await shown(), "MinMemoryNode=200M");
  assertEquals(await limitOf(made.container), String(200 * MEBIBYTE));
  await harness.onCluster(`scontrol release ${job}`);
  await harness.running(made.container);
  assertMatch(await shown(), /(Alloc|\s)TRES=cpu=2/);

  const refused = await update(made.container, 1, 200);
  assertStringIncludes(refused.stderr, "Slurm changes them of waiting jobs only");
  assertEquals((await update(made.container, 1.5, 199.5)).code, 0);
  assertEquals(await limitOf(made.container), String(199.5 * MEBIBYTE));
  const { own } = await harness.logs(made.container);
  assertStringIncludes(own.join("\n"), `job ${job} changed: CPUsPerTask=2`);
  await harness.removeCleanly(made);
});

Deno.test("a container is started with what it was changed to before", async () => {
  const made = await harness.create({
    command: ["/bin/sh", "-c", "sleep 60"],
    linux: { resources: RESOURCES },
  });
  assertEquals((await update(made.container, 2, 300)).code, 0);
  await harness.server.crictlOk(["start", made.container]);
  const { info } = await harness.running(made.container);
  const shown = await harness.onCluster(`scontrol --oneliner show job ${info.slurm.jobId}`);
  assertStringIncludes(shown, "CPUs/Task=2");
  assertStringIncludes(shown, "MinMemoryNode=300M");
  await harness.removeCleanly(made);
});
