import type { Lab } from "./lab.ts";
import { NodeProgram, type NodeProgramSpec, type StartLimits } from "./node_program.ts";

/** A program in the lab's Kubernetes node that is started and ended as often as its user likes. */
export abstract class NodeService {
  #program: NodeProgram | undefined;

  /** @param logPath Where its output is appended to, as a path in the node. */
  constructor(readonly lab: Lab, readonly logPath: string) {}

  /** Starts the program and waits until it is at work. @throws {Error} as `NodeProgram.start`. */
  protected async launch(
    spec: Omit<NodeProgramSpec, "logPath">,
    limits: StartLimits,
  ): Promise<void> {
    this.#program = await NodeProgram.start(this.lab, { ...spec, logPath: this.logPath }, limits);
  }

  /** Ends it as systemd would, and waits for it. */
  async stop(): Promise<void> {
    await this.#program?.stop();
    this.#program = undefined;
  }

  /** Ends it by SIGKILL: nothing of it runs any more, nothing is tidied. */
  async kill(): Promise<void> {
    await this.#program?.kill();
    this.#program = undefined;
  }

  /** What it has logged. */
  log(): Promise<string> {
    return Deno.readTextFile(this.lab.path("knode", this.logPath));
  }
}
