/** What programs write into /tmp, /var/tmp and their home directory, on the real lab. */
import { assertEquals, assertStringIncludes } from "@std/assert";
import { Harness } from "./harness.ts";

let harness: Harness;
Deno.test.beforeAll(async () => {
  harness = await Harness.start({ name: "scratch" });
  // What tests that kill jobs may have left.
  await onNode("rm -rf /tmp/multicri-*");
});
Deno.test.afterAll(() => harness?.stop());

const sh = (script: string) => ["/bin/sh", "-c", script];
const ON_N1 = { "multicri.io/custom-config": "#SBATCH --nodelist=n1" };

async function onNode(script: string): Promise<string> {
  const { code, stdout, stderr } = await harness.lab.exec("n1", ["sh", "-c", script]);
  assertEquals(code, 0, stderr);
  return stdout.trim();
}
const left = () => onNode("ls -d /tmp/multicri-* /scratch/multicri-* 2>/dev/null || :");

Deno.test("a program writes more than fits into Apptainer's memory, and nothing of it stays on the node", async () => {
  const fill = (path: string) => `dd if=/dev/zero of="${path}/big" bs=1M count=70 2>/dev/null`;
  const made = await harness.run({
    annotations: ON_N1,
    command: sh(
      `set -e; ${["/tmp", "/var/tmp", "$HOME"].map(fill).join("; ")}; mkdir /tmp/closed; ` +
        "echo x >/tmp/closed/x; chmod 000 /tmp/closed; stat -c %a /tmp; du -m /tmp/big | cut -f 1",
    ),
  });
  const { status } = await harness.exited(made.container);
  const { stdout, stderr } = await harness.logs(made.container);
  assertEquals([status.exitCode, stdout], [0, ["1777", "70"]], stderr.join("\n"));
  await harness.until(made.container, "removed", async () => await left() === "");
  await harness.removeCleanly(made);
});

Deno.test("CLUSTER_CONFIG says where the node has room, and what a killed job left goes with the next one", async () => {
  await onNode("mkdir -p -m 1777 /scratch");
  try {
    const run = (script: string) =>
      harness.run({
        annotations: ON_N1,
        cluster: { CLUSTER_CONFIG: "export TMPDIR=/scratch" },
        command: sh(script),
      });
    const first = await run("echo kept >/tmp/file; echo there; sleep 600");
    await harness.until(
      first.container,
      "written",
      async () => (await harness.logs(first.container)).stdout.includes("there"),
    );
    const place = await left();
    assertStringIncludes(place, "/scratch/multicri-");
    assertEquals(await onNode(`cat ${place}/tmp/file`), "kept");
    // As a node's out-of-memory killer may: nothing tidies.
    const { info } = await harness.inspect(first.container);
    await onNode(
      `for p in $(grep -lz SLURM_JOB_ID=${info.slurm.jobId} /proc/[0-9]*/environ | cut -d / -f 3); do kill -9 $p; done`,
    );
    await harness.exited(first.container);
    assertEquals(await left(), place);
    await onNode(`touch -d '2 minutes ago' ${place}`);
    const second = await run("echo next");
    assertEquals((await harness.exited(second.container)).status.exitCode, 0);
    await harness.until(second.container, "removed", async () => await left() === "");
    for (const made of [first, second]) await harness.removeCleanly(made);
  } finally {
    await onNode("rm -rf /scratch");
  }
});
