/**
 * The main job in one command: brings up the lab, starts multicri in its Kubernetes node, and runs
 * deploy/first-pod.yaml through crictl as a Slurm job. Leaves the server running until Ctrl-C.
 */
import { basename, fromFileUrl } from "@std/path";
import { messageOf } from "../lib/base/error.ts";
import { writeStdoutLine as say } from "../lib/base/log.ts";
import { Lab } from "./lab/lab.ts";
import { NodeServer, prepareNode } from "./lab/node_server.ts";
import { step } from "./lab/progress.ts";
import { readPodManifest } from "./pod_manifest.ts";

const POD_LOGS_DIR = "/var/log/pods";

/** Lines of the server's log that are shown when something failed. */
const LOG_LINES = 20;

/** What crictl is given, as files in the node. */
const FIRST_SANDBOX = "/run/first-sandbox.json";
const FIRST_CONTAINER = "/run/first-container.json";

/** Runs the pod of the manifest; resolves with the container's id and exit code. */
async function runFirstPod(lab: Lab, server: NodeServer): Promise<void> {
  const manifestPath = fromFileUrl(new URL("../deploy/first-pod.yaml", import.meta.url));
  const pod = readPodManifest(await Deno.readTextFile(manifestPath), {
    uid: crypto.randomUUID(),
    podLogsDir: POD_LOGS_DIR,
    secretValues: {
      host: lab.login.host,
      port: String(lab.login.port),
      username: lab.login.user,
      password: lab.login.password,
    },
  });
  const [container] = pod.containers;
  if (container === undefined) throw new Error("deploy/first-pod.yaml must hold a container.");

  const sandboxFile = await server.writeJson(basename(FIRST_SANDBOX), pod.sandbox);
  const containerFile = await server.writeJson(basename(FIRST_CONTAINER), container.config);
  await step(say, `Pulling ${container.image}`, () => server.crictlOk(["pull", container.image]));
  const sandbox = await server.crictlOk(["runp", "--runtime", pod.runtimeHandler, sandboxFile]);
  const id = await server.crictlOk(["create", sandbox, containerFile, sandboxFile]);
  await server.crictlOk(["start", id]);
  say(`Container ${id} of pod ${pod.sandbox.metadata.name} is started. Its log:`);
  say("");
  const follow = await lab.spawn("knode", server.crictlArgv(["logs", "--follow", id]), {
    stdout: "inherit",
    stderr: "inherit",
  });
  await follow.child.status;
  const { status, info } = JSON.parse(await server.crictlOk(["inspect", id]));
  say("");
  say(
    `Slurm job ${info.slurm.jobId} on ${info.slurm.job?.host}: ${status.state}, ` +
      `exit code ${status.exitCode} (${status.reason})`,
  );
  if (status.exitCode !== 0) {
    throw new Error(`The first job failed: ${status.message || status.reason}; its log is above`);
  }
}

/** How the reader starts a task: with the variables that chose this lab, and without a Deno in PATH. */
function taskCommand(): string {
  const chosen = ["MULTICRI_LAB_NAME", "MULTICRI_LAB_SUBNET"].flatMap((name) => {
    const value = Deno.env.get(name);
    return value === undefined ? [] : [`${name}=${value}`];
  });
  return [...chosen, `npx -y deno@${Deno.version.deno} task`].join(" ");
}

function sayHowToGoOn(lab: Lab, server: NodeServer): void {
  const enter = `${taskCommand()} lab exec knode`;
  const crictl = server.crictlArgv([]).join(" ");
  say("");
  say(
    "multicri goes on running in the lab's Kubernetes node. By hand, in another terminal and this folder:",
  );
  say(`  ${enter} ${crictl} ps -a`);
  say(`  ${enter} ${crictl} logs CONTAINER`);
  say(`  ${enter} ${crictl} runp --runtime multicri ${FIRST_SANDBOX}      # prints a pod's id`);
  say(
    `  ${enter} ${crictl} create POD ${FIRST_CONTAINER} ${FIRST_SANDBOX}   # then: start CONTAINER`,
  );
  say(`  ${taskCommand()} lab shell ctl       # the cluster's login host: squeue, sbatch`);
  say(
    `  ${taskCommand()} lab shell knode     # the node: edit those two files, or run scripts/multicri`,
  );
  say(`  tail -f ${lab.path("knode", server.logPath)}   # the server's own log`);
  say("Ctrl-C ends the server and the lab.");
}

/**
 * Resolves at the first Ctrl-C. Later ones are heard and ignored: a terminal and the task runner send one each, and
 * whoever presses it again must not cut the clean-up short.
 */
function untilInterrupted(): Promise<void> {
  return new Promise((resolve) => {
    Deno.addSignalListener("SIGINT", () => resolve());
    Deno.addSignalListener("SIGTERM", () => resolve());
  });
}

/** The end of the server's log, which goes with the lab. */
async function sayLog(server: NodeServer): Promise<void> {
  const log = await server.log().catch(() => "");
  const lines = log.trimEnd().split("\n").slice(-LOG_LINES);
  if (log !== "") say(`The end of the server's log:\n${lines.join("\n")}`);
}

async function main(): Promise<number> {
  const lab = new Lab({}, say);
  const interrupted = untilInterrupted();
  const server = new NodeServer(lab, {
    flags: ["--allowed-clusters", `${lab.login.host}:${lab.login.port}`],
  });
  const work = async () => {
    await prepareNode(lab, say);
    await step(say, "Starting multicri in the Kubernetes node", () => server.start());
    await runFirstPod(lab, server);
    sayHowToGoOn(lab, server);
    await interrupted;
  };
  try {
    // Ctrl-C ends it at any moment, not only when all is up.
    await Promise.race([work(), interrupted]);
    return 0;
  } catch (error) {
    say(`It did not work: ${messageOf(error)}`);
    await sayLog(server);
    return 1;
  } finally {
    await server.stop();
    // A program of the clean-up may have heard the Ctrl-C too.
    await lab.down().catch(() => lab.down());
  }
}

Deno.exit(await main());
