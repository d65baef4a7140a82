import { join } from "@std/path";
import { CriError } from "../../base/error.ts";
import type { Executor, RunResult } from "../../executors/executor.ts";

/** Each of its verbs takes some ten milliseconds; a loaded node may need much longer. */
const VERB_TIMEOUT_MS = 60_000;

/** What crun(1) says of a container. */
export interface OciState {
  status: "creating" | "created" | "running" | "stopped" | "paused";
  /** Of the first process, in the node's numbers; 0 when there is none. */
  pid: number;
}

/** It forgets a container soon after its end. */
const ENDED: OciState = { status: "stopped", pid: 0 };

/** crun(1), which runs OCI bundles, with its records in a folder of ours. */
export class OciRuntime {
  /** What every command line of it begins with. */
  readonly words: readonly [string, ...string[]];

  /** @param systemdCgroups Whether systemd makes the cgroups, as it must where it is the init system. */
  constructor(
    private readonly executor: Executor,
    private readonly stateDir: string,
    systemdCgroups: boolean,
  ) {
    const cgroups = systemdCgroups ? ["--systemd-cgroup"] : [];
    this.words = ["crun", "--root", join(stateDir, "crun"), ...cgroups];
  }

  /**
   * Where a socket can be made by which crun hands over a terminal; a short path, since unix(7) has but 108 bytes for
   * it.
   */
  newSocketPath(): string {
    return join(this.stateDir, `tty-${crypto.getRandomValues(new Uint8Array(8)).toHex()}`);
  }

  /** Undefined when there is no such container. */
  async state(id: string): Promise<OciState | undefined> {
    const result = await this.#run(["state", id]);
    if (result.code !== 0) return undefined;
    return JSON.parse(new TextDecoder().decode(result.stdout)) as OciState;
  }

  /** Whether its record of a container is there; one that began is missing only when somebody removed it. */
  async knows(id: string): Promise<boolean> {
    return await Deno.stat(join(this.stateDir, "crun", id)).then(() => true, () => false);
  }

  /** Sends a signal to the first process; false when there is none, or crun does not know of it. */
  async kill(id: string, signal: string): Promise<boolean> {
    return (await this.#run(["kill", id, signal])).code === 0;
  }

  /** Kills what is left of a container and forgets it; nothing when it is gone. */
  async delete(id: string): Promise<void> {
    await this.#run(["delete", "--force", id]);
  }

  /**
   * Changes the limits of a running container; nothing when it ends. @throws CriError FAILED_PRECONDITION in crun's
   * words.
   */
  async update(id: string, resources: unknown): Promise<void> {
    const stdin = new TextEncoder().encode(JSON.stringify(resources));
    const result = await this.#run(["update", "--resources", "-", id], stdin);
    if (result.code === 0 || (await this.state(id) ?? ENDED).status === "stopped") return;
    throw new CriError(
      "FAILED_PRECONDITION",
      `Cannot change the resources of the container ${id}: ${lastWords(result)}.`,
    );
  }

  /** The ids of all containers that it knows. */
  async list(): Promise<string[]> {
    const { stdout } = await this.#run(["list", "--quiet"]);
    return new TextDecoder().decode(stdout).split("\n").filter((id) => id !== "");
  }

  #run(args: readonly string[], stdin?: Uint8Array): Promise<RunResult> {
    return this.executor.run([...this.words, ...args], {
      timeoutMs: VERB_TIMEOUT_MS,
      ...(stdin === undefined ? {} : { stdin }),
    });
  }
}

/** What a shell or Perl puts around the words of the programs that we wrote for it. */
const OF_INTERPRETERS = /^sh: (?:line )?\d+: | at -e line \d+\.?$/gm;

/** What a program said last, on one line, without a full stop. */
export function lastWords({ stdout, stderr }: RunResult): string {
  const MAX_LENGTH_CHARS = 1000;
  const text = new TextDecoder().decode(stderr.length > 0 ? stderr : stdout);
  const line = text.trim().replaceAll(OF_INTERPRETERS, "").replaceAll(/\s*\n\s*/g, "; ").replace(
    /\.$/,
    "",
  );
  return line === "" ? "it did not say why" : line.slice(-MAX_LENGTH_CHARS);
}
