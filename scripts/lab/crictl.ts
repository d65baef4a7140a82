import { clientFile } from "../clients.ts";
import type { Lab } from "./lab.ts";
import type { CommandResult } from "./process.ts";
import { KNODE_PATHS } from "./settings.ts";

/** A client's patience with one call. */
const CALL_TIMEOUT_SECONDS = 150;

/** crictl in the lab's Kubernetes node, against one CRI socket there. */
export class Crictl {
  constructor(readonly lab: Lab, readonly socketPath: string) {}

  /** The command that runs crictl in the node against this socket. */
  argv(args: readonly string[]): string[] {
    return [
      `${KNODE_PATHS.clients}/${clientFile("crictl")}`,
      "--config",
      "/dev/null",
      "--runtime-endpoint",
      `unix://${this.socketPath}`,
      "--image-endpoint",
      `unix://${this.socketPath}`,
      "--timeout",
      `${CALL_TIMEOUT_SECONDS}s`,
      ...args,
    ];
  }

  /** Runs crictl to its end; a non-zero exit code is a result. */
  async run(args: readonly string[], stdin?: string): Promise<CommandResult> {
    return await this.lab.exec("knode", this.argv(args), {
      timeoutMs: (CALL_TIMEOUT_SECONDS + 10) * 1000,
      ...(stdin === undefined ? {} : { stdin }),
    });
  }

  /** As `run`, for commands that must succeed. @throws Error with what crictl wrote. */
  async ok(args: readonly string[]): Promise<string> {
    const { code, stdout, stderr } = await this.run(args);
    if (code !== 0) throw new Error(`crictl ${args.join(" ")} failed: ${stderr || stdout}`);
    return stdout.trim();
  }

  /** The ids of all pod sandboxes, running or not. */
  async pods(): Promise<string[]> {
    return (await this.ok(["pods", "--quiet", "--no-trunc"])).split("\n").filter(Boolean);
  }

  /** Stops and removes pod sandboxes with all that is in them. */
  async removePods(ids: readonly string[]): Promise<void> {
    if (ids.length > 0) await this.ok(["rmp", "--force", ...ids]);
  }
}
