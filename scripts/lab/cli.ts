import { messageOf } from "../../lib/base/error.ts";
import { writeStderrLine, writeStdoutLine } from "../../lib/base/log.ts";
import { Lab } from "./lab.ts";
import { HOST_NAMES, type HostName, KNODE_PATHS } from "./settings.ts";

const USAGE = `A real Slurm cluster, a registry and a Kubernetes node on this machine (run as root).

  deno task lab up                          start it, or leave it as it is when it is up
  deno task lab down                        remove all of it
  deno task lab status                      show its hosts, addresses and partitions
  deno task lab exec [--user=NAME] HOST COMMAND…   run a command in a host
  deno task lab shell [--user=NAME] HOST    open a shell in a host
  deno task lab logs [HOST]                 show the end of its logs

Hosts: ${
  HOST_NAMES.join(", ")
}. MULTICRI_LAB_NAME and MULTICRI_LAB_SUBNET (as 10.78.0) make a second lab.`;

/** How many words may follow each command; a surplus one, as in `down --help`, must not be overlooked. */
const MAX_ARGUMENTS: Record<string, number> = {
  ...{ up: 0, down: 0, status: 0, logs: 1, shell: 2, exec: Infinity, help: 0, "--help": 0 },
};

/** Lines of each log that `logs` shows. */
const LOG_LINES = 30;

const print = writeStdoutLine;

/** Runs one command of the lab's command line and returns the exit code. */
async function main(args: string[]): Promise<number> {
  const lab = new Lab({}, writeStderrLine);
  const [command, ...rest] = args;
  const known = MAX_ARGUMENTS[command ?? "help"] ?? -1;
  if (rest.length > known) {
    print(USAGE);
    return command === "help" || command === "--help" ? 0 : 2;
  }
  switch (command) {
    case "up":
      await lab.up();
      await showStatus(lab);
      return 0;
    case "down":
      await lab.down();
      return 0;
    case "status":
      return await showStatus(lab) ? 0 : 1;
    case "exec":
      return await enter(lab, rest);
    case "shell":
      return await enter(lab, rest, ["bash", "-l"]);
    case "logs":
      await showLogs(lab, rest[0] === undefined ? undefined : hostName(rest[0]));
      return 0;
    default:
      print(USAGE);
      return 0;
  }
}

function hostName(text: string | undefined): HostName {
  const found = HOST_NAMES.find((name) => name === text);
  if (found === undefined) {
    throw new Error(
      `A host must be one of ${HOST_NAMES.join(", ")}: it is ${text ?? "missing"}.`,
    );
  }
  return found;
}

async function enter(lab: Lab, args: string[], fixed?: string[]): Promise<number> {
  const user = args[0]?.startsWith("--user=") ? args.shift()?.slice("--user=".length) : undefined;
  const host = hostName(args[0]);
  const argv = fixed ?? args.slice(1);
  if (argv.length === 0) throw new Error("exec must be given a command after the host's name.");
  const { child } = await lab.spawn(host, argv, {
    ...(user === undefined ? {} : { user }),
    env: {
      TERM: Deno.env.get("TERM") ?? "dumb",
      // So that scripts/multicri runs there by hand.
      ...(host === "knode" ? lab.knodeEnv : {}),
    },
    ...(host === "knode" && fixed !== undefined ? { cwd: KNODE_PATHS.checkout } : {}),
    stdin: "inherit",
    stdout: "inherit",
    stderr: "inherit",
  });
  return (await child.status).code;
}

async function showStatus(lab: Lab): Promise<boolean> {
  const { state, hosts } = await lab.status();
  print(`lab "${lab.settings.name}": ${state}`);
  for (const { name, address, running } of hosts) {
    print(`  ${name.padEnd(10)}${address.padEnd(16)}${running ? "running" : "not running"}`);
  }
  if (state !== "up") return false;
  const { host, port, user, password, privateKeyPath } = lab.login;
  print(`login      ssh -p ${port} -i ${privateKeyPath} ${user}@${host}   (password: ${password})`);
  print(
    `registry   http://${lab.registry} and http://${lab.registryName}: ${
      Object.values(lab.images).join(", ")
    }`,
  );
  print((await lab.exec("ctl", ["sinfo"])).stdout.trimEnd());
  return true;
}

async function showLogs(lab: Lab, host?: HostName): Promise<void> {
  const paths = await lab.logPaths(host);
  if (paths.length === 0) print("There are no logs: the lab is down.");
  for (const path of paths) {
    const lines = (await Deno.readTextFile(path)).trimEnd().split("\n");
    print(`==> ${path}\n${lines.slice(-LOG_LINES).join("\n")}\n`);
  }
}

if (import.meta.main) {
  try {
    Deno.exit(await main([...Deno.args]));
  } catch (error) {
    writeStderrLine(messageOf(error));
    Deno.exit(1);
  }
}
