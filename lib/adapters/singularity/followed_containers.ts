import { basename } from "@std/path";
import { messageOf } from "../../base/error.ts";
import { ContainerLog } from "../../logs/container_log.ts";
import { logPathOf } from "../../logs/log_path.ts";
import { type ContainerState, markExited } from "../../store/container_state.ts";
import type { ContainerRecord } from "../../store/records.ts";
import type { Table } from "../../store/table.ts";
import type { NodeMeans } from "./means.ts";
import type { PreparePlace } from "./prepare.ts";
import type { Programs } from "./programs.ts";
import { KILLED_EXIT_CODE, RunningContainer } from "./running_container.ts";

/** Those containers of this node that run, and ended ones whose output is not all in their logs. */
export class FollowedContainers {
  readonly #followed = new Map<string, RunningContainer>();
  /** One for the files of all. */
  readonly #watcher: Deno.FsWatcher;

  constructor(
    private readonly means: Pick<NodeMeans, "store" | "clock" | "log" | "config">,
    private readonly place: Pick<PreparePlace, "node" | "places">,
    private readonly programs: Programs,
    /** Told of the pod of a container that somebody else killed: all of its processes end with the pod's first. */
    private readonly killed: (sandboxId: string) => void,
  ) {
    this.#watcher = Deno.watchFs(place.places.folders.files, { recursive: false });
    this.#watch().catch((error) => {
      means.log.error("Output is looked for by the clock alone", { error: messageOf(error) });
    });
  }

  get(id: string): RunningContainer | undefined {
    return this.#followed.get(id);
  }

  /** Those whose end was not told. */
  running(): RunningContainer[] {
    return [...this.#followed.values()].filter(({ hasEnded }) => !hasEnded);
  }

  /** Who can follow a container, and does not yet. */
  follower({ id, sandboxId, config, state }: ContainerRecord): RunningContainer {
    const { store, clock, log } = this.means;
    const sandbox = store.sandboxes.get(sandboxId);
    const path = sandbox === undefined ? "" : logPathOf(sandbox.config, config);
    const { maxLogBytes, jobLogLines, podLogsDir } = this.means.config;
    const positions = store.logPositions;
    const containerLog = new ContainerLog(id, path, positions, clock, maxLogBytes, podLogsDir);
    const container: RunningContainer = new RunningContainer(
      id,
      this.place.places.container(id).files,
      containerLog,
      this.place.node,
      clock,
      log,
      this.programs,
      async (message) => jobLogLines ? await containerLog.note(message) : undefined,
      (end) => {
        changeState(store.containers, id, (state) => markExited(state, end));
        if (end.exitCode === KILLED_EXIT_CODE && !container.isKilled) this.killed(sandboxId);
      },
      state.phase === "exited",
    );
    return container;
  }

  /** Copies its output, and writes its end into its record. */
  follow(container: RunningContainer): void {
    this.#followed.set(container.id, container);
    container.follow().finally(() => {
      if (this.#followed.get(container.id) === container) this.#followed.delete(container.id);
    });
  }

  /** Follows a container no more, for good. */
  async giveUp(id: string): Promise<void> {
    await this.#followed.get(id)?.giveUp();
    this.#followed.delete(id);
  }

  /** Leaves the containers alone. */
  async close(): Promise<void> {
    this.#watcher.close();
    await Promise.all([...this.#followed.values()].map((container) => container.close()));
  }

  /** Wakes whoever follows a container whose file has changed. */
  async #watch(): Promise<void> {
    for await (const { paths } of this.#watcher) {
      for (const path of paths) this.#followed.get(basename(path).split(".")[0] ?? "")?.touch();
    }
  }
}

/** Writes down what has happened to a container. It counts on a full disk too: another server finds it out again. */
export function changeState(
  containers: Table<ContainerRecord>,
  id: string,
  change: (state: ContainerState) => ContainerState,
): void {
  containers.settle(id, (record) => {
    const state = change(record.state);
    return state === record.state ? record : { ...record, state };
  });
}
