/** How jobs end. */
import { assertEquals, assertStringIncludes } from "@std/assert";
import { exit, START, watchTest } from "./test_watched.ts";

const EXITS: readonly [text: string, code: number, reason: string, notes: number][] = [
  [exit(0), 0, "Completed", 0],
  [exit(7), 7, "Error", 0],
  [exit(139), 139, "Error", 0],
  [exit(125, "error=no apptainer\n"), 125, "StartError", 1],
  [exit(255, "error=the container runtime says: stat /no/such\n"), 128, "StartError", 1],
  ["rubbish", 255, "Error", 1],
];

for (const [text, code, reason, notes] of EXITS) {
  watchTest(
    `ends with ${code} ${reason} when the exit file is ${JSON.stringify(text)}`,
    async (watched) => {
      await watched.write("status/start", START);
      await watched.write("stdout", "unfinished");
      await watched.write("status/exit", text);
      await watched.pass();
      assertEquals([watched.end(), watched.ended], [[code, reason], ["c1"]]);
      assertEquals(watched.notes.length, 2 + notes);
      assertStringIncludes(
        await Deno.readTextFile(watched.records.path("c1.log")),
        " F unfinished\n",
      );
      assertEquals(watched.watch.watches("c1"), false);
    },
  );
}

watchTest("lets the exit file win over what Slurm says", async (watched) => {
  await watched.queue("FAILED|N/A|10|n1|NonZeroExitCode");
  await watched.write("status/exit", exit(3));
  await watched.pass();
  assertEquals(watched.end(), [3, "Error"]);
});

watchTest("waits for the exit file of a job that Slurm calls ended", async (watched) => {
  await watched.write("status/start", START);
  await watched.queue("COMPLETED|N/A|10|n1|None");
  await watched.pass();
  assertEquals(watched.state()?.phase, "running");
  await watched.write("status/exit", exit(4));
  await watched.pass();
  assertEquals(watched.end(), [4, "Error"]);
});

const ENDS: readonly [line: string | undefined, scontrol: string, end: [number, string]][] = [
  ["TIMEOUT|N/A|10|n1|TimeLimit", "JobState=TIMEOUT ExitCode=0:15", [222, "DeadlineExceeded"]],
  ["OUT_OF_MEMORY|N/A|10|n1|None", "JobState=OUT_OF_MEMORY ExitCode=0:125", [137, "OOMKilled"]],
  ["NODE_FAIL|N/A|10|n1|None", "", [224, "NodeFail"]],
  [undefined, "", [255, "JobLost"]],
];

for (const [line, scontrol, end] of ENDS) {
  watchTest(
    `ends with ${end.join(" ")} when squeue says ${line} and no exit file comes`,
    async (watched) => {
      await watched.write("status/start", START);
      await watched.queue(line);
      if (scontrol !== "") await watched.cluster.fake("jobs/101/scontrol", scontrol);
      await watched.pass();
      assertEquals(watched.end(), undefined);
      await watched.pass();
      assertEquals(watched.end(), end);
    },
  );
}

watchTest("ends a job at once when it was cancelled before it had a node", async (watched) => {
  await watched.queue("CANCELLED|N/A|10||None");
  await watched.pass();
  assertEquals(watched.end(), [221, "Cancelled"]);
});

for (const [killed, code] of [[false, 143], [true, 137]] as const) {
  watchTest(
    `ends with ${code} when the job was stopped ${killed ? "by force" : "gently"} and left no code`,
    async (watched) => {
      watched.stop(killed);
      await watched.queue("CANCELLED|N/A|10||None");
      await watched.pass();
      assertEquals(watched.end(), [code, "Cancelled"]);
      const note = `job 101 ended with ${code}: The container was stopped`;
      assertStringIncludes(watched.notes.at(-1) ?? "", note);
    },
  );
}

watchTest("keeps the program's own code when a stopped job left one", async (watched) => {
  watched.stop(false);
  await watched.write("status/exit", exit(9));
  await watched.pass();
  assertEquals(watched.end(), [9, "Error"]);
});

watchTest(
  "ends with 137 when the job was killed and its image's file system fell first",
  async (watched) => {
    watched.stop(true);
    await watched.write("status/start", START);
    await watched.write("status/exit", exit(135));
    await watched.pass();
    assertEquals(watched.end(), [137, "Error"]);
  },
);

const VERDICTS: readonly [exit: string, scontrol: string, end: [number, string]][] = [
  [exit(143, "signal=TERM\n"), "JobState=TIMEOUT ExitCode=0:15", [222, "DeadlineExceeded"]],
  [exit(0, "signal=TERM\n"), "JobState=CANCELLED ExitCode=0:15", [221, "Cancelled"]],
  [exit(137), "JobState=OUT_OF_MEMORY ExitCode=0:125", [137, "OOMKilled"]],
  [exit(139), "JobState=FAILED ExitCode=139:0", [139, "Error"]],
  [exit(137), "", [137, "Error"]],
];

for (const [text, scontrol, end] of VERDICTS) {
  watchTest(
    `ends with ${end.join(" ")} when a signal came and Slurm says ${scontrol || "nothing"}`,
    async (watched) => {
      await watched.write("status/start", START);
      await watched.write("status/exit", text);
      await watched.cluster.fake("jobs/101/scontrol", "JobId=101 JobState=COMPLETING");
      await watched.pass(1_000);
      assertEquals(watched.end(), undefined);
      await watched.cluster.fake("jobs/101/scontrol", scontrol === "" ? undefined : scontrol);
      await watched.pass(1_000);
      assertEquals(watched.end(), end);
    },
  );
}
