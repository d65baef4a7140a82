import { clientFile, ensureClient } from "../clients.ts";
import { mergeReports, parseJunit, specsOf, type TestReport } from "../junit.ts";
import { Crictl } from "./crictl.ts";
import { pushCritestImages } from "./critest_images.ts";
import type { Lab } from "./lab.ts";
import { unmountBelow } from "./mounts.ts";
import { lastWords } from "./process.ts";
import type { Progress } from "./progress.ts";
import { KNODE_PATHS } from "./settings.ts";

/** What is chosen for a run of critest. */
export interface CritestOptions {
  /** The runtime's CRI socket, as a path in the node. */
  socketPath: string;
  /** The image service's, when it is another. */
  imageSocketPath?: string;
  /** Patience with one call; critest's own default is 2 s. */
  callTimeoutSeconds?: number;
  /** Patience with the whole run. */
  timeoutSeconds?: number;
  /** Regular expressions (Go's) of the specs' full names. */
  focus?: string[];
  skip?: string[];
  /**
   * Regular expressions too: of specs that do little but wait. Each is run by a critest of its own beside
   * the one that runs the others, so that their minutes are spent together; whatever `focus` says.
   */
  beside?: string[];
  /** Any other flags, as `-websocket-exec`. */
  flags?: string[];
}

/** Where pods' logs lie; a runtime may refuse to write them elsewhere. */
const POD_LOGS_DIR = "/var/log/pods";

/** What critest gets beyond its own limit, to write its report. */
const GRACE_SECONDS = 60;

/**
 * Runs critest in the lab's Kubernetes node against a CRI socket there, with its images in the lab's
 * registry, and removes the pods and files it leaves.
 *
 * @throws {Error} when it does not end in time or ends without a report.
 */
export async function runCritest(
  lab: Lab,
  options: CritestOptions,
  progress: Progress = () => {},
): Promise<TestReport> {
  await ensureClient("crictl", progress);
  await ensureClient("critest", progress);
  await pushCritestImages(lab, progress);
  const crictl = new Crictl(lab, options.socketPath);
  const podsBefore = new Set(await crictl.pods());
  // critest makes its pods' log folders in TMPDIR.
  const folder = `${POD_LOGS_DIR}/critest-${crypto.randomUUID()}`;
  await Deno.mkdir(lab.path("knode", folder), { recursive: true });
  const { focus = [], skip = [], beside = [] } = options;
  const selections: Selection[] = [
    { focus, skip: [...skip, ...beside] },
    ...beside.map((pattern) => ({ focus: [pattern], skip })),
  ];
  try {
    // All have ended before anything is removed.
    const runs = await Promise.allSettled(
      selections.map((selection, index) =>
        runSelection(lab, options, selection, folder, `junit-${index}.xml`)
      ),
    );
    return mergeReports(runs.map((run) => {
      if (run.status === "rejected") throw run.reason;
      return run.value;
    }));
  } finally {
    const left = (await crictl.pods()).filter((id) => !podsBefore.has(id));
    await crictl.removePods(left);
    // A failed spec about mounts leaves them.
    await unmountBelow(lab, folder);
    await lab.exec("knode", ["rm", "-rf", "--one-file-system", folder]);
  }
}

/** Which specs one critest runs. */
interface Selection {
  focus: string[];
  skip: string[];
}

/** Runs one critest in the folder of the node. @throws {Error} as `runCritest`. */
async function runSelection(
  lab: Lab,
  options: CritestOptions,
  { focus, skip }: Selection,
  folder: string,
  reportName: string,
): Promise<TestReport> {
  const { callTimeoutSeconds = 60, timeoutSeconds = 1200 } = options;
  const report = `${folder}/${reportName}`;
  const { code, stdout, stderr } = await lab.exec("knode", [
    ...[`${KNODE_PATHS.clients}/${clientFile("critest")}`, "-config", "/dev/null"],
    ...["-runtime-endpoint", `unix://${options.socketPath}`],
    ...["-image-endpoint", `unix://${options.imageSocketPath ?? options.socketPath}`],
    ...["-runtime-service-timeout", `${callTimeoutSeconds}s`],
    ...["-image-service-timeout", `${callTimeoutSeconds}s`],
    ...["-ginkgo.junit-report", report, "-ginkgo.timeout", `${timeoutSeconds}s`],
    ...["-ginkgo.no-color", ...options.flags ?? []],
    ...focus.flatMap((pattern) => ["-ginkgo.focus", pattern]),
    ...skip.flatMap((pattern) => ["-ginkgo.skip", pattern]),
  ], {
    env: { TMPDIR: folder },
    cwd: folder,
    timeoutMs: (timeoutSeconds + GRACE_SECONDS) * 1000,
  });
  const xml = await Deno.readTextFile(lab.path("knode", report)).catch((cause) => {
    const words = lastWords(stderr || stdout);
    throw new Error(`critest ended with code ${code} and without a report: ${words}`, { cause });
  });
  return specsOf(parseJunit(xml));
}
