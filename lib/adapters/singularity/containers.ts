import { basename, join } from "@std/path";
import { CriError, messageOf } from "../../base/error.ts";
import { ContainerLog } from "../../logs/container_log.ts";
import { ROTATION_WAIT_MS } from "../../logs/full_log.ts";
import {
  beginStart,
  type ContainerState,
  markExited,
  markRunning,
  START_ERROR_EXIT_CODE,
  START_ERROR_REASON,
  undoStart,
} from "../../store/container_state.ts";
import type { ContainerRecord } from "../../store/records.ts";
import type { OciResources, OciSpec } from "./bundle/oci_spec.ts";
import type { NodeMeans } from "./means.ts";
import type { OciRuntime } from "./oci_runtime.ts";
import { type NodeWorkload, type PreparePlace, removeBundle, targetNamespace } from "./prepare.ts";
import { isSupervised, RunningContainer } from "./running_container.ts";
import { awaitHandler, stopSignal } from "./stop_signal.ts";
import { hasInput, startSupervised } from "./supervisor.ts";

/** So long a program may take until it handles the signal that is to end it. */
const YOUNG_MS = 3_000;
/** A killed program ends at once; its output may take as long as its drain, a loaded node longer, and a full log waits. */
const KILL_WAIT_MS = 30_000 + ROTATION_WAIT_MS;
/** A supervisor that was started just before this process died needs this long to start its container. */
const LATE_START_MS = 2_000;

/** The containers of this node: their starts, ends and files. */
export class Containers {
  readonly #running = new Map<string, RunningContainer>();
  /** Those that were asked to end: many programs take a second signal for "at once", so it comes once. */
  readonly #asked = new Set<string>();
  readonly #watcher: Deno.FsWatcher;

  constructor(
    private readonly means: NodeMeans,
    private readonly place: PreparePlace,
    private readonly runtime: OciRuntime,
  ) {
    this.#watcher = Deno.watchFs(place.places.folders.files, { recursive: false });
    this.#watch().catch((error) => {
      means.log.error("Output is looked for by the clock alone", { error: messageOf(error) });
    });
  }

  /** @throws CriError FAILED_PRECONDITION for a container that does not run. */
  require(id: string): RunningContainer {
    const found = this.#running.get(id);
    if (found !== undefined) return found;
    throw new CriError("FAILED_PRECONDITION", `The container ${id} does not run.`);
  }

  /** @throws CriError as `Adapter.startContainer`. */
  async start(id: string): Promise<void> {
    const { store, clock, executor } = this.means;
    this.#change(id, beginStart);
    const container = this.#record(id);
    const { config } = container;
    const running = this.#follower(container);
    const files = this.place.places.container(id);
    // Whatever fails is the end of the container: a kubelet would replace one that is only created at once, for ever.
    try {
      // Its process id may be another's by now.
      await targetNamespace(this.place, container);
      await running.log.prepare();
      if (hasInput(config)) {
        await this.place.node.script("make a pipe", 'rm -f -- "$1"; mkfifo -m 600 -- "$1"', [
          files.input,
        ]);
      }
      const { cgroupsPath } = container.workload as NodeWorkload;
      await startSupervised(executor, this.runtime, id, files, config, cgroupsPath);
    } catch (error) {
      await running.close();
      this.#change(id, (state) =>
        markExited(state, {
          finishedAtMs: clock.now(),
          exitCode: START_ERROR_EXIT_CODE,
          reason: START_ERROR_REASON,
          message: messageOf(error),
        }));
      throw error;
    }
    this.#running.set(id, running);
    this.#change(id, (state) => markRunning(state, clock.now()));
    running.follow();
    if (store.containers.get(id) === undefined) await this.runtime.delete(id);
  }

  /** Ends a container: its signal, and SIGKILL after the grace. Resolves when the record says exited. */
  async stop(id: string, graceMs: number, signal: AbortSignal): Promise<void> {
    const { store } = this.means;
    const isSettled = ({ state }: ContainerRecord) => state.phase !== "starting";
    await store.containers.waitFor(id, isSettled, signal);
    const container = store.containers.get(id);
    if (container?.state.phase !== "running") return;
    if (graceMs > 0) {
      const asks = stopSignal(
        container.config.stopSignal,
        (container.workload as NodeWorkload).stopSignal,
      );
      if (!this.#asked.has(id)) {
        this.#asked.add(id);
        if (this.means.clock.now() - container.state.startedAtMs < YOUNG_MS) {
          await awaitHandler(this.place.node, String(this.pidOf(id)), asks);
        }
        await this.runtime.kill(id, asks);
      }
      if (await this.#endsWithin(id, graceMs, signal)) return;
    }
    await this.runtime.kill(id, "SIGKILL");
    if (await this.#endsWithin(id, KILL_WAIT_MS, signal)) return;
    throw new CriError(
      "UNAVAILABLE",
      `Cannot see the end of the container ${id}: it was killed ${KILL_WAIT_MS} ms ago.`,
    );
  }

  /** Removes what an ended or never started container left. */
  async remove(container: ContainerRecord): Promise<void> {
    const { id } = container;
    await this.#running.get(id)?.close();
    this.#running.delete(id);
    this.#asked.delete(id);
    const hasEnded = await this.#hasEnd(id);
    if (!hasEnded) await this.runtime.delete(id);
    await removeBundle(this.place, id, imagesOf(container), hasEnded);
    await this.#removeFiles(id);
  }

  /** Gives a container that was not started other limits. */
  async changeResources(id: string, resources: OciResources): Promise<void> {
    const path = join(this.place.places.container(id).bundle, "config.json");
    const spec: OciSpec = JSON.parse(await Deno.readTextFile(path));
    spec.linux.resources = { devices: spec.linux.resources.devices ?? [], ...resources };
    await Deno.writeTextFile(path, JSON.stringify(spec), { mode: 0o600 });
  }

  /** The files that list the cgroups of running containers, by their ids. */
  cgroupLists(): ReadonlyMap<string, string> {
    const { places } = this.place;
    return new Map(
      [...this.#running.keys()].map((id) => [id, join(places.container(id).bundle, "cgroups")]),
    );
  }

  /** The process id of a container's program on the node, as crun wrote it; 0 when it is gone. */
  pidOf(id: string): number {
    try {
      return Number(
        Deno.readTextFileSync(join(this.place.places.container(id).bundle, "pid")),
      );
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return 0;
      throw error;
    }
  }

  /** Takes up what runs, and removes what has no record. */
  async recover(): Promise<void> {
    const { store, clock, log } = this.means;
    const late: ContainerRecord[] = [];
    for (const container of store.containers.all()) {
      for (const imageId of imagesOf(container)) {
        this.place.imageRoots.adopt(imageId, container.id);
      }
      const { phase } = container.state;
      if (phase !== "starting" && phase !== "running") continue;
      if (!await this.#takeUp(container)) late.push(container);
    }
    if (late.length > 0) await clock.sleep(LATE_START_MS);
    for (const container of late) {
      if (!await this.#takeUp(container)) this.#change(container.id, undoStart);
    }
    const { bundles, layers, files } = this.place.places.folders;
    const left = new Set([...await this.runtime.list()]);
    for (const folder of [bundles, layers, files]) {
      for await (const { name } of Deno.readDir(folder)) {
        left.add(basename(name).split(".")[0] ?? "");
      }
    }
    for (const id of left) {
      if (store.containers.get(id) !== undefined) continue;
      log.info("Removing what is left of a container without a record", { container: id });
      await this.runtime.delete(id);
      await removeBundle(this.place, id, []);
      await this.#removeFiles(id);
    }
    await this.place.imageRoots.removeUnused();
    await clock.sleep(0);
  }

  /** Leaves the containers alone. */
  async close(): Promise<void> {
    this.#watcher.close();
    await Promise.all([...this.#running.values()].map((running) => running.close()));
  }

  /** Follows a container that has been begun; false for one of which there is nothing (yet). */
  async #takeUp(container: ContainerRecord): Promise<boolean> {
    try {
      if (!await this.#isBegun(container)) return false;
    } catch (error) {
      this.means.log.error("Cannot take up a container again", {
        container: container.id,
        error: messageOf(error),
      });
      return true;
    }
    const running = this.#follower(container);
    this.#running.set(container.id, running);
    this.#change(container.id, (before) => markRunning(before, this.means.clock.now()));
    running.follow();
    return true;
  }

  async #isBegun({ id, state }: ContainerRecord): Promise<boolean> {
    const { files } = this.place.places.container(id);
    // What ran before has output and an end, whatever is left of it.
    return state.phase === "running" || await isSupervised(files) || await this.#hasEnd(id) ||
      await this.runtime.state(id) !== undefined;
  }

  #follower({ id, sandboxId, config }: ContainerRecord): RunningContainer {
    const { store, clock, log } = this.means;
    const folder = store.sandboxes.get(sandboxId)?.config.logDirectory ?? "";
    const path = config.logPath === "" || folder === "" ? "" : join(folder, config.logPath);
    const { maxLogBytes, jobLogLines } = this.means.config;
    const containerLog = new ContainerLog(id, path, store.logPositions, clock, maxLogBytes);
    return new RunningContainer(
      id,
      this.place.places.container(id).files,
      containerLog,
      this.place.node,
      clock,
      log,
      async () => await this.runtime.isRunning(id),
      async (message) => jobLogLines ? await containerLog.note(message) : undefined,
      (end) => {
        this.#running.delete(id);
        this.#change(id, (state) => markExited(state, end));
      },
    );
  }

  async #endsWithin(id: string, ms: number, signal: AbortSignal): Promise<boolean> {
    const over = new AbortController();
    const either = AbortSignal.any([signal, over.signal]);
    const ended = this.means.store.containers
      .waitFor(id, ({ state }) => state.phase === "exited", either)
      .then(() => true, () => false);
    const late = this.means.clock.sleep(ms, either).then(() => false, () => false);
    const outcome = await Promise.race([ended, late]);
    over.abort();
    signal.throwIfAborted();
    return outcome;
  }

  /** Whether its supervisor has written down its end. */
  async #hasEnd(id: string): Promise<boolean> {
    const path = `${this.place.places.container(id).files}.exit`;
    return await Deno.stat(path).then(() => true, () => false);
  }

  async #removeFiles(id: string): Promise<void> {
    const { files } = this.place.places.container(id);
    for (const kind of ["stdout", "stderr", "exit", "exit.new"]) {
      await Deno.remove(`${files}.${kind}`).catch((error) => {
        if (!(error instanceof Deno.errors.NotFound)) throw error;
      });
    }
  }

  /** Wakes whoever follows a container whose file has changed. */
  async #watch(): Promise<void> {
    for await (const { paths } of this.#watcher) {
      for (const path of paths) this.#running.get(basename(path).split(".")[0] ?? "")?.touch();
    }
  }

  #record(id: string): ContainerRecord {
    const container = this.means.store.containers.get(id);
    if (container !== undefined) return container;
    throw new CriError("NOT_FOUND", `The container ${id} is gone.`);
  }

  #change(id: string, change: (state: ContainerState) => ContainerState): void {
    this.means.store.containers.update(
      id,
      (record) => ({ ...record, state: change(record.state) }),
    );
  }
}

/** The images that a container holds: its own and its volumes'. */
function imagesOf({ imageId, volumeImageIds = [] }: ContainerRecord): string[] {
  return [imageId, ...volumeImageIds];
}
