import { assertEquals, assertStringIncludes } from "@std/assert";
import { basename, dirname, join } from "@std/path";
import { parseExit } from "./status_files.ts";
import { allocationName } from "./allocation.ts";
import { endAllocationScript, signalStepScript } from "./allocation_scripts.ts";
import { SUBMIT_EXIT, submitScript } from "./cluster_scripts.ts";
import { archive, namesIn, type ScriptPlace, testInShells, text } from "./test_scripts.ts";
import { cleanSandboxScript } from "./volume_scripts.ts";

const CARRIER = "#!/bin/bash\n# it's\n";

/** Containers of one sandbox that share a job. */
class Shared {
  readonly sandbox: string;
  readonly name: string;

  constructor(readonly place: ScriptPlace) {
    this.sandbox = dirname(place.directory);
    this.name = allocationName(basename(this.sandbox));
  }

  directory(id: string): string {
    return join(this.sandbox, id);
  }

  async submit(id: string) {
    const directory = this.directory(id);
    const options = [`--job-name=${this.name}`, "--comment=it's $(id)"];
    const allocation = {
      sandboxDirectory: this.sandbox,
      jobName: this.name,
      options,
      carrier: CARRIER,
    };
    const job = {
      directory,
      jobName: `multicri-${id}`,
      optionNames: [],
      environment: [],
      allocation,
    };
    const stdin = await archive({ "job.sh": "" });
    return await this.place.cluster.run(submitScript(job), { stdin });
  }

  requests(): string[] | undefined {
    return namesIn(join(this.sandbox, "allocation/start"));
  }

  /** As the job does. */
  async begin(id: string, step: string): Promise<void> {
    const allocation = join(this.sandbox, "allocation");
    await Deno.rename(join(allocation, "start", id), join(allocation, "started", id));
    await Deno.writeTextFile(join(this.directory(id), "status/step"), step);
  }
}

/** sbatch that knows a job's name from its arguments, and squeue that tells states. */
async function prepare({ cluster }: ScriptPlace): Promise<void> {
  await cluster.program(
    "sbatch",
    `
if [ -e "$FAKE/sbatch.fails" ]; then cat "$FAKE/sbatch.fails" >&2; exit 1; fi
id=$(($(ls "$FAKE/jobs" | wc -l) + 101)); mkdir "$FAKE/jobs/$id"; echo RUNNING >"$FAKE/jobs/$id/state"; echo "$id"`,
  );
  await cluster.program(
    "squeue",
    `
if [ -e "$FAKE/squeue.fails" ]; then cat "$FAKE/squeue.fails" >&2; exit 1; fi
case "$*" in *multicri-pod-*) ;; *) exit 0 ;; esac
for job in "$FAKE"/jobs/*; do [ ! -e "$job/state" ] || echo "\${job##*/} $(cat "$job/state")"; done`,
  );
}

testInShells({
  "submitScript() submits one job for all containers of a pod": async (place) => {
    await prepare(place);
    const shared = new Shared(place);
    const answers = await Promise.all(["c1", "c2", "c3"].map((id) => shared.submit(id)));
    assertEquals(
      answers.map(({ code, stdout }) => [code, text(stdout)]),
      [1, 2, 3].map(() => [0, "101\n"]),
    );
    assertEquals(await place.cluster.calls("sbatch"), 1);
    assertEquals(await place.cluster.calls("sbatch", "--comment=it's $(id)"), 1);
    assertEquals(shared.requests(), ["c1", "c2", "c3"]);
    const carrier = await Deno.readTextFile(join(shared.sandbox, "allocation/carrier.sh"));
    assertEquals(carrier, CARRIER);
  },

  "submitScript() asks once for a container whose submission is repeated": async (place) => {
    await prepare(place);
    const shared = new Shared(place);
    await shared.submit("c1");
    await Deno.remove(join(shared.directory("c1"), "jobid"));
    await shared.begin("c1", "0\n1\n");
    assertEquals(text((await shared.submit("c1")).stdout), "101\n");
    assertEquals([shared.requests(), await place.cluster.calls("sbatch")], [[], 1]);
  },

  "submitScript() submits another job when the pod's has ended, or is just ending": async (
    place,
  ) => {
    await prepare(place);
    const shared = new Shared(place);
    await shared.submit("c1");
    await place.cluster.fake("jobs/101/state", "COMPLETING");
    assertEquals(text((await shared.submit("c2")).stdout), "102\n");
    assertEquals(shared.requests(), ["c2"]);
    // As the job does at its end.
    const allocation = join(shared.sandbox, "allocation");
    await Deno.rename(join(allocation, "start"), join(allocation, "closed"));
    await place.cluster.fake("jobs/101/state");
    await place.cluster.fake("jobs/102/state", "RUNNING");
    assertEquals(text((await shared.submit("c3")).stdout), "103\n");
    assertEquals(shared.requests(), ["c3"]);
  },

  "submitScript() tells why a pod's job cannot be submitted": async (place) => {
    await prepare(place);
    const shared = new Shared(place);
    await place.cluster.fake("squeue.fails", "Unable to contact slurm controller");
    const unanswered = await shared.submit("c1");
    assertEquals(unanswered.code, SUBMIT_EXIT.TRY_AGAIN);
    await place.cluster.fake("squeue.fails");
    await place.cluster.fake("sbatch.fails", "sbatch: error: invalid partition");
    const refused = await shared.submit("c1");
    assertEquals(refused.code, SUBMIT_EXIT.REFUSED);
    assertStringIncludes(text(refused.stderr), "invalid partition");
    await place.cluster.fake("sbatch.fails");
    assertEquals(text((await shared.submit("c1")).stdout), "101\n");
  },

  "signalStepScript() keeps a container from beginning that was only asked for": async (place) => {
    await prepare(place);
    const shared = new Shared(place);
    for (const id of ["c1", "c2"]) await shared.submit(id);
    for (const [id, signal, code] of [["c1", "TERM", 143], ["c2", "KILL", 137]] as const) {
      const directory = shared.directory(id);
      for (let times = 0; times < 2; times++) {
        const { code } = await place.cluster.run(signalStepScript(directory, "101", signal));
        assertEquals(code, 0);
      }
      const exit = parseExit(await Deno.readFile(join(directory, "status/exit")));
      assertEquals([exit?.exitCode, exit?.signalled], [code, true]);
    }
    assertEquals([shared.requests(), await place.cluster.calls("scancel")], [[], 0]);
  },

  "signalStepScript() signals the container's step and nothing else": async (place) => {
    await prepare(place);
    await place.cluster.program("srun", "");
    const shared = new Shared(place);
    await shared.submit("c1");
    await shared.begin("c1", "7\n4711\n");
    for (const signal of ["TERM", "KILL"] as const) {
      await place.cluster.run(signalStepScript(shared.directory("c1"), "101", signal));
    }
    assertEquals(await place.cluster.calls("srun", "--jobid=101"), 1);
    assertEquals(await place.cluster.calls("srun", "kill -s TERM 4711"), 1);
    assertEquals(await place.cluster.calls("scancel", "--signal=KILL 101.7"), 1);
    assertEquals(await place.cluster.calls("scancel"), 1);
  },

  "endAllocationScript() lets the job end, and cancels one that waits": async (place) => {
    await prepare(place);
    const shared = new Shared(place);
    const end = () => place.cluster.run(endAllocationScript(shared.sandbox));
    // Somebody removed its directory.
    assertEquals((await end()).code, 0);
    assertEquals(await place.cluster.calls("scancel", "--state"), 0);
    assertEquals(await place.cluster.calls("scancel", `--name=${shared.name}`), 1);
    await shared.submit("c1");
    assertEquals((await end()).code, 0);
    assertEquals(namesIn(join(shared.sandbox, "allocation"))?.includes("end"), true);
    assertEquals(await place.cluster.calls("scancel", `--state=PENDING`), 1);
    assertEquals(await place.cluster.calls("scancel", `--name=${shared.name}`), 2);
  },

  "signalStepScript() finds the step by its name, and tells its end, when the directory is gone":
    async (
      place,
    ) => {
      await prepare(place);
      await place.cluster.program(
        "squeue",
        "\nprintf '101.%s\\n' 'batch batch' '3 multicri-c1' '4 multicri-c11'",
      );
      const shared = new Shared(place);
      await shared.submit("c1");
      const directory = shared.directory("c1");
      await Deno.remove(shared.sandbox, { recursive: true });
      await place.cluster.run(signalStepScript(directory, "101", "TERM"));
      assertEquals(namesIn(directory), undefined);
      await place.cluster.run(signalStepScript(directory, "101", "KILL"));
      const exit = parseExit(await Deno.readFile(join(directory, "status/exit")));
      assertEquals([exit?.exitCode, exit?.signalled], [137, true]);
      for (const signal of ["TERM", "KILL"]) {
        assertEquals(await place.cluster.calls("scancel", `--signal=${signal} 101.3`), 1);
      }
      assertEquals(await place.cluster.calls("scancel"), 2);
    },

  "cleanSandboxScript() cancels the pod's job and removes its directories": async (place) => {
    await prepare(place);
    await place.cluster.program("scancel", "");
    const shared = new Shared(place);
    await shared.submit("c1");
    await Deno.remove(shared.directory("c1"), { recursive: true });
    assertEquals((await place.cluster.run(cleanSandboxScript(shared.sandbox))).code, 0);
    assertEquals(await place.cluster.calls("scancel", `--name=${shared.name}`), 1);
    assertEquals(namesIn(shared.sandbox), undefined);
  },
});
