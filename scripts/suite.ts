/**
 * `deno task test`: everything, from a bare checkout. Sets up what is missing, runs the checks, the unit
 * tests and the tests on the lab, and prints `N passed, N failed` last.
 */
import { fromFileUrl, join } from "@std/path";
import { messageOf } from "../lib/base/error.ts";
import { writeStdoutLine as say } from "../lib/base/log.ts";
import { parseJunit } from "./junit.ts";
import { installPrerequisites } from "./lab/debian.ts";
import { Lab } from "./lab/lab.ts";
import { prepareNode } from "./lab/node_server.ts";
import { labSettings } from "./lab/settings.ts";
import { step } from "./lab/progress.ts";

const ROOT = fromFileUrl(new URL("..", import.meta.url));
const SOURCES = ["main.ts", "lib", "scripts", "tests", "wasm"];

interface Count {
  passed: number;
  /** What failed, a sentence each: said again at the end, where a long log is looked at first. */
  failures: string[];
  /** Tests that this machine cannot run; they are in neither of the others. */
  skipped: number;
}

/** Checks that pass or fail as a whole; each counts as one test. */
const CHECKS: readonly { name: string; args: readonly string[] }[] = [
  { name: "Formatting", args: ["fmt", "--check"] },
  { name: "Lint", args: ["lint"] },
  { name: "Types", args: ["check", ...SOURCES] },
  { name: "Layers", args: ["task", "layers"] },
  { name: "WASM core: Rust tests", args: ["task", "wasm", "test"] },
  {
    name: "WASM core: the committed file is what the source builds",
    args: ["task", "wasm", "--check"],
  },
  { name: "Protocol: our api.proto is the upstream wire", args: ["task", "proto", "--check"] },
];

/** Several times what the slowest file of tests takes; one that hangs must not hang the rest. */
const FILE_LIMIT_MS = 15 * 60_000;

/** Shells a login host may have, as /bin/sh or as a user's own, in which our scripts are tried. */
const SHELLS = { busybox: ["busybox"], fish: ["fish"], tcsh: ["tcsh"], zsh: ["zsh"] };

/** Tests on labs, in the order of the files. Those of a lane disturb each other, so each lane has a lab of its own. */
const LANES: readonly { folders: readonly string[]; lab: Lab }[] = lanes();

function lanes() {
  const settings = labSettings();
  const [first, second, third] = settings.subnet.split(".").map(Number);
  const clients = {
    name: `${settings.name.slice(0, 7)}c`,
    // The network beside the first lab's, whichever that is.
    subnet: `${first}.${second}.${((third ?? 0) + 1) % 256}`,
  };
  return [
    { folders: ["tests/lab", "tests/integration"], lab: new Lab({}, say) },
    // Programs that use a runtime in earnest.
    { folders: ["tests/clients"], lab: new Lab(clients, say) },
  ];
}

async function deno(args: readonly string[]): Promise<boolean> {
  const command = new Deno.Command(Deno.execPath(), { args: [...args], cwd: ROOT });
  return (await command.spawn().status).success;
}

/** As `deno`, with all that it writes in one piece at its end, since others run at the same time. */
async function denoAside(args: readonly string[], env: Record<string, string>): Promise<boolean> {
  const signal = AbortSignal.timeout(FILE_LIMIT_MS);
  const command = new Deno.Command(Deno.execPath(), { args: [...args], cwd: ROOT, env, signal });
  const { success, stdout, stderr } = await command.output();
  for (const bytes of [stdout, stderr]) say(new TextDecoder().decode(bytes).trimEnd());
  return success;
}

/** Runs `deno test` on paths, counts from its report, and says the counts. */
async function runTests(
  name: string,
  paths: readonly string[],
  run: (args: readonly string[]) => Promise<boolean> = deno,
): Promise<Count> {
  const path = await Deno.makeTempFile({ suffix: ".xml" });
  try {
    const success = await step(
      say,
      name,
      () => run(["test", "-A", "--no-check", `--junit-path=${path}`, ...paths]),
    );
    const xml = await Deno.readTextFile(path);
    // A module that is not found leaves no report.
    const report = xml === "" ? { passed: [], failed: [], skipped: [] } : parseJunit(xml);
    const failures = report.failed.map((test) => `${name}: ${test.name}: ${test.message}`);
    if (!success && failures.length === 0) {
      failures.push(`${name}: a file that cannot be loaded, or something left outside of any test`);
    }
    const [passed, skipped] = [report.passed.length, report.skipped.length];
    say(`${name}: ${passed} passed, ${failures.length} failed, ${skipped} skipped`);
    return { passed, failures, skipped };
  } finally {
    await Deno.remove(path);
  }
}

async function runChecks(): Promise<Count> {
  const count: Count = { passed: 0, failures: [], skipped: 0 };
  for (const { name, args } of CHECKS) {
    const success = await step(say, name, () => deno(args));
    say(`${name}: ${success ? "ok" : "FAILED"}`);
    if (success) count.passed++;
    else count.failures.push(name);
  }
  return count;
}

async function runUnitTests(): Promise<Count> {
  try {
    await installPrerequisites(say, SHELLS);
  } catch (error) {
    say(`Not every shell will be tried: ${messageOf(error)}`);
  }
  return await runTests("Unit tests", ["lib", "wasm", "scripts"]);
}

async function runLabTests(): Promise<Count[]> {
  try {
    // What all labs share is made once.
    for (const { lab } of LANES) await prepareNode(lab, say);
    const counts = await Promise.allSettled(LANES.map(runLane));
    return counts.flatMap((lane) => lane.status === "fulfilled" ? lane.value : broken(lane.reason));
  } catch (error) {
    return [broken(error)];
  } finally {
    for (const { lab } of LANES) await lab.down();
  }
}

function broken(error: unknown): Count {
  return { passed: 0, failures: [`A lab's tests broke off: ${messageOf(error)}`], skipped: 0 };
}

async function runLane({ folders, lab }: typeof LANES[number]): Promise<Count[]> {
  const { name, subnet } = lab.settings;
  const env = { MULTICRI_LAB_NAME: name, MULTICRI_LAB_SUBNET: subnet };
  const counts: Count[] = [];
  for (const file of await testFiles(folders)) {
    counts.push(await runTests(file, [file], (args) => denoAside(args, env)));
  }
  return counts;
}

async function testFiles(folders: readonly string[]): Promise<string[]> {
  const files: string[] = [];
  for (const folder of folders) {
    for await (const { name } of Deno.readDir(join(ROOT, folder))) {
      if (name.endsWith("_test.ts")) files.push(join(folder, name));
    }
  }
  return files.sort();
}

const counts = [await runChecks(), await runUnitTests(), ...await runLabTests()];
const passed = counts.reduce((sum, count) => sum + count.passed, 0);
const failures = counts.flatMap((count) => count.failures);
const skipped = counts.reduce((sum, count) => sum + count.skipped, 0);
if (skipped > 0) say(`${skipped} skipped: this machine cannot run them`);
for (const failure of failures) say(`FAILED ${failure}`);
say(`${passed} passed, ${failures.length} failed`);
Deno.exit(failures.length === 0 ? 0 : 1);
