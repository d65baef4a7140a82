import { join } from "@std/path";
import { CriError, messageOf } from "../../base/error.ts";
import { ROTATION_WAIT_MS } from "../../logs/full_log.ts";
import {
  beginStart,
  markExited,
  markRunning,
  START_ERROR_EXIT_CODE,
  START_ERROR_REASON,
  undoStart,
} from "../../store/container_state.ts";
import type { ContainerRecord } from "../../store/records.ts";
import { pidIn, readSpec, removeOutput } from "./container_files.ts";
import { changeState, FollowedContainers } from "./followed_containers.ts";
import type { NodeMeans } from "./means.ts";
import type { OciRuntime } from "./oci_runtime.ts";
import { type NodeWorkload, type PreparePlace, removeBundle, targetNamespace } from "./prepare.ts";
import { removeUnknown } from "./left_containers.ts";
import { Programs } from "./programs.ts";
import {
  endedInOrder,
  endFailedStart,
  isSupervised,
  RunningContainer,
} from "./running_container.ts";
import { awaitHandler, stopSignal } from "./stop_signal.ts";
import { hasInput, startFailure, startSupervised } from "./supervisor.ts";

/** So long a program may take until it handles the signal that is to end it. */
const YOUNG_MS = 3_000;
/**
 * A killed program ends at once; its output may take as long as its drain, a loaded node longer, and a full log waits.
 */
const KILL_WAIT_MS = 30_000 + ROTATION_WAIT_MS;
/** A supervisor that was started just before this process died needs this long to start its container. */
const LATE_START_MS = 2_000;

/** The containers of this node: their starts, ends and files. */
export class Containers {
  /** Of starts that are under way: how they are given up. */
  readonly #starts = new Map<string, AbortController>();
  /** Those that were asked to end: many programs take a second signal for "at once", so it comes once. */
  readonly #asked = new Set<string>();
  readonly #programs: Programs;
  readonly #followed: FollowedContainers;

  constructor(
    private readonly means: NodeMeans,
    private readonly place: PreparePlace,
    private readonly runtime: OciRuntime,
    /** See `FollowedContainers`. */
    killed: (sandboxId: string) => void,
  ) {
    this.#programs = new Programs(runtime, place.node, place.places);
    this.#followed = new FollowedContainers(means, place, this.#programs, killed);
  }

  /** @throws CriError FAILED_PRECONDITION for a container that does not run. */
  require(id: string): RunningContainer {
    const found = this.#followed.get(id);
    if (found !== undefined && !found.hasEnded) return found;
    throw new CriError("FAILED_PRECONDITION", `The container ${id} does not run.`);
  }

  /** @throws CriError NOT_FOUND for a container that was removed. */
  record(id: string): ContainerRecord {
    const container = this.means.store.containers.get(id);
    if (container !== undefined) return container;
    throw new CriError("NOT_FOUND", `The container ${id} is gone.`);
  }

  /** @throws CriError as `Adapter.startContainer`. */
  async start(id: string): Promise<void> {
    const given = new AbortController();
    this.#starts.set(id, given);
    try {
      // Not begun without a record of it: another server could not tell.
      this.means.store.containers.update(
        id,
        (record) => ({ ...record, state: beginStart(record.state) }),
      );
      await this.#start(this.record(id), given.signal);
    } finally {
      this.#starts.delete(id);
    }
  }

  async #start(container: ContainerRecord, signal: AbortSignal): Promise<void> {
    const { store, clock, executor, log } = this.means;
    const { id, config } = container;
    const running = this.#followed.follower(container);
    const files = this.place.places.container(id);
    // Whatever fails is the end of the container: a kubelet would replace one that is only created at once, for ever.
    try {
      await readSpec(files.bundle);
      // Its process id may be another's by now.
      await targetNamespace(this.place, container);
      await running.log.prepare();
      if (hasInput(config)) {
        await this.place.node.script("make a pipe", 'rm -f -- "$1"; mkfifo -m 600 -- "$1"', [
          files.input,
        ]);
      }
      const { cgroupsPath } = container.workload as NodeWorkload;
      await startSupervised(executor, this.runtime, id, files, config, cgroupsPath, signal);
    } catch (thrown) {
      const error = signal.aborted
        ? new CriError("FAILED_PRECONDITION", startFailure(id, "it was stopped before it began"))
        : thrown;
      await endFailedStart(files.files, clock, () => this.#programs.kill(id)).catch((reason) => {
        log.error("Cannot end a start that failed", { container: id, error: messageOf(reason) });
      });
      await running.close();
      changeState(store.containers, id, (state) =>
        markExited(state, {
          finishedAtMs: clock.now(),
          exitCode: START_ERROR_EXIT_CODE,
          reason: START_ERROR_REASON,
          message: messageOf(error),
        }));
      throw error;
    }
    changeState(store.containers, id, (state) => markRunning(state, clock.now()));
    this.#followed.follow(running);
    if (store.containers.get(id) === undefined) await this.runtime.delete(id);
  }

  /** Ends a container: its signal, and SIGKILL after the grace. Resolves when the record says exited. */
  async stop(id: string, graceMs: number, signal: AbortSignal): Promise<void> {
    const { store } = this.means;
    this.#starts.get(id)?.abort();
    const isSettled = ({ state }: ContainerRecord) => state.phase !== "starting";
    await store.containers.waitFor(id, isSettled, signal);
    const container = store.containers.get(id);
    if (container?.state.phase !== "running") return;
    const isGivenUp = await this.#programs.giveUpStart(id);
    if (isGivenUp && await this.#endsWithin(id, KILL_WAIT_MS, signal)) return;
    if (graceMs > 0) {
      await this.#ask(container, container.state.startedAtMs);
      if (await this.#endsWithin(id, graceMs, signal)) return;
    }
    this.#followed.get(id)?.expectKill();
    await this.#programs.kill(id);
    if (await this.#endsWithin(id, KILL_WAIT_MS, signal)) return;
    throw new CriError(
      "UNAVAILABLE",
      `Cannot see the end of the container ${id}: it was killed ${KILL_WAIT_MS} ms ago.`,
    );
  }

  /** Sends its signal to a container, once; one that could not be sent is sent by the next call. */
  async #ask({ id, config, workload }: ContainerRecord, startedAtMs: number): Promise<void> {
    if (this.#asked.has(id)) return;
    this.#asked.add(id);
    const asks = stopSignal(config.stopSignal, (workload as NodeWorkload).stopSignal);
    try {
      if (this.means.clock.now() - startedAtMs < YOUNG_MS) {
        const pid = pidIn(this.place.places.container(id).bundle);
        await awaitHandler(this.place.node, String(pid), asks);
      }
      await this.#programs.ask(id, asks);
    } catch (error) {
      this.#asked.delete(id);
      throw error;
    }
  }

  /** Removes what an ended or never started container left. */
  async remove(container: ContainerRecord): Promise<void> {
    const { id } = container;
    await this.#followed.giveUp(id);
    this.#asked.delete(id);
    const isTidy = await endedInOrder(id, this.place.places.container(id).files);
    if (!isTidy) await this.runtime.delete(id);
    await removeBundle(this.place, id, imagesOf(container), isTidy);
    await removeOutput(this.place.places.container(id));
  }

  /** The files that list the cgroups of running containers, by their ids. */
  cgroupLists(): ReadonlyMap<string, string> {
    const { places } = this.place;
    const running = this.#followed.running();
    return new Map(running.map(({ id }) => [id, join(places.container(id).bundle, "cgroups")]));
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
      if (phase === "exited") await this.#takeUpLog(container);
      if (phase !== "starting" && phase !== "running") continue;
      if (!await this.#takeUp(container)) late.push(container);
    }
    if (late.length > 0) await clock.sleep(LATE_START_MS);
    for (const container of late) {
      if (!await this.#takeUp(container)) changeState(store.containers, container.id, undoStart);
    }
    await removeUnknown(this.place, this.runtime, log);
    await this.place.imageRoots.removeUnused();
    await clock.sleep(0);
  }

  /** Leaves the containers alone. */
  async close(): Promise<void> {
    await this.#followed.close();
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
    const running = this.#followed.follower(container);
    const { store, clock } = this.means;
    changeState(store.containers, container.id, (before) => markRunning(before, clock.now()));
    this.#followed.follow(running);
    return true;
  }

  async #isBegun({ id, state }: ContainerRecord): Promise<boolean> {
    const { files } = this.place.places.container(id);
    // What ran before has output and an end, whatever is left of it.
    return state.phase === "running" || await isSupervised(files) || await this.#hasEnd(id) ||
      await this.runtime.state(id) !== undefined;
  }

  /** Goes on with the log of a container that has ended, if its output is not all there and there may be room. */
  async #takeUpLog(container: ContainerRecord): Promise<void> {
    const follower = this.#followed.follower(container);
    const isLeft =
      await follower.missingBytes("stdout") + await follower.missingBytes("stderr") > 0;
    if (isLeft && !follower.log.isFull) this.#followed.follow(follower);
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
}

/** The images that a container holds: its own and its volumes'. */
function imagesOf({ imageId, volumeImageIds = [] }: ContainerRecord): string[] {
  return [imageId, ...volumeImageIds];
}
