/** What pods ask of Slurm by annotations, on the real lab, driven by crictl alone. */
import { assertEquals, assertStringIncludes } from "@std/assert";
import { Harness } from "./harness.ts";

let harness: Harness;
Deno.test.beforeAll(async () => {
  harness = await Harness.start({ name: "settings", flags: ["--join-commands=false"] });
});
Deno.test.afterAll(() => harness.stop());

const sh = (script: string) => ["/bin/sh", "-c", script];

Deno.test("a pod's annotations become the job's settings, and its variables win", async () => {
  const made = await harness.run({
    command: sh("echo never"),
    annotations: {
      "multicri.io/queue": "main",
      "multicri.io/num-cores": "2",
      "multicri.io/licenses": "ansys:1",
      "multicri.io/time-limit": "1-02:03",
      "multicri.io/custom-config": "#SBATCH --hold",
      "multicri.io/qoss": "high",
    },
    cluster: { JOB_NUM_CORES: "3" },
  });
  const { own } = await harness.logs(made.container);
  // Licences and QOS are a site's; the lab has none, so Slurm says no in its own words.
  const { status } = await harness.exited(made.container);
  assertEquals([status.reason, status.exitCode], ["StartError", 128]);
  assertStringIncludes(status.message, "license");
  assertEquals(own.length > 0, true);
  await harness.removeCleanly(made);
});
