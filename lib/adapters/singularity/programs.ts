import { join } from "@std/path";
import type { Node } from "./node.ts";
import type { OciRuntime } from "./oci_runtime.ts";
import type { Places } from "./places.ts";

/**
 * Prints the processes in the cgroups of the container $1, which have its id in their names. Those of other namespaces
 * are told as 0.
 */
const PROCESSES = `
processes() {
  find /sys/fs/cgroup -name cgroup.procs \\( -path "*/$1/*" -o -path "*-$1.scope/*" \\) -exec cat {} + 2>/dev/null |
    grep -vx 0 | sort -un || true
}`;
const LIST = `${PROCESSES}
processes "$1"`;
/** Sends the signal $2 to the process that the file $3 names, if it is one of them, else to all. */
const SIGNAL = `${PROCESSES}
all=$(processes "$1")
first=$(cat -- "$3" 2>/dev/null) || true
for process in $all; do [ "$process" != "$first" ] || all=$first; done
for process in $all; do kill -s "$2" -- "$process" 2>/dev/null || true; done`;
/** They may make others meanwhile. */
const KILL = `${PROCESSES}
for try in 1 2 3 4 5; do
  all=$(processes "$1")
  [ -n "$all" ] || exit 0
  for process in $all; do kill -s KILL -- "$process" 2>/dev/null || true; done
  sleep 0.05
done`;

/** Kills the process that the file $1 names and that is about the container $2; says so. */
const GIVE_UP = `
starter=$(cat -- "$1") && tr '\\0' '\\n' <"/proc/$starter/cmdline" 2>/dev/null | grep -qxF -- "$2" || exit 0
kill -s KILL -- "$starter" && echo killed`;

/** The programs of containers, also where somebody removed what crun knows of one; then its cgroups tell. */
export class Programs {
  constructor(
    private readonly runtime: OciRuntime,
    private readonly node: Node,
    private readonly places: Places,
  ) {}

  /** Whether it runs. */
  async isRunning(id: string): Promise<boolean> {
    const state = await this.runtime.state(id);
    if (state !== undefined) return state.status !== "stopped";
    return await this.node.script("look for a program", LIST, [id]) !== "";
  }

  /** Gives a start up that an earlier server began and that is still under way (supervise.pl); false when none is. */
  async giveUpStart(id: string): Promise<boolean> {
    const path = join(this.places.container(id).bundle, "starter");
    if (await Deno.stat(path).then(() => false, () => true)) return false;
    return await this.node.script("give up a start", GIVE_UP, [path, id]) !== "";
  }

  /** Asks a program to end; nothing when it has. @param signal As kill(1) names it. */
  async ask(id: string, signal: string): Promise<void> {
    if (await this.runtime.kill(id, signal)) return;
    const { bundle } = this.places.container(id);
    const args = [id, signal.replace(/^SIG/, ""), join(bundle, "pid")];
    await this.node.script("signal a program", SIGNAL, args);
  }

  /** Kills a program; nothing when it has ended. */
  async kill(id: string): Promise<void> {
    if (await this.runtime.kill(id, "SIGKILL")) return;
    await this.node.script("kill a program", KILL, [id]);
  }
}
