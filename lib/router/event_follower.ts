import type { Clock } from "../base/clock.ts";
import { CriError, messageOf } from "../base/error.ts";
import type { Logger } from "../base/log.ts";
import {
  type Container,
  ContainerEventResponse,
  ContainerEventType,
  ContainerState,
  ListContainersResponse,
  ListPodSandboxResponse,
  type PodSandbox,
  PodSandboxState,
  PodSandboxStatus,
  PodSandboxStatusRequest,
  PodSandboxStatusResponse,
} from "../cri/api.generated.ts";
import { type CallContext, methodOf } from "../cri/service.ts";
import type { RemoteBackend } from "./backend.ts";

/** Between two looks at whether the runtime is back. */
const RETRY_MS = 250;

/** The same at most, while the runtime ends the stream in peace at once, as CRI-O does without enable_pod_events. */
const MAX_RETRY_MS = 30_000;

/** What a subscription needs until it is sure to hold: events between it and the look are told twice, not lost. */
const SUBSCRIBED_MS = 100;

const { CONTAINER_CREATED_EVENT, CONTAINER_STARTED_EVENT, CONTAINER_STOPPED_EVENT } =
  ContainerEventType;
const { CONTAINER_DELETED_EVENT } = ContainerEventType;

/** The latest event that the state of a container or sandbox implies: the types are numbered in their order. */
const CONTAINER_EVENTS = new Map<ContainerState, ContainerEventType>([
  [ContainerState.CONTAINER_CREATED, CONTAINER_CREATED_EVENT],
  [ContainerState.CONTAINER_RUNNING, CONTAINER_STARTED_EVENT],
  [ContainerState.CONTAINER_EXITED, CONTAINER_STOPPED_EVENT],
]);
const SANDBOX_EVENTS = new Map<PodSandboxState, ContainerEventType>([
  [PodSandboxState.SANDBOX_READY, CONTAINER_STARTED_EVENT],
  [PodSandboxState.SANDBOX_NOTREADY, CONTAINER_STOPPED_EVENT],
]);

/** A container, or a sandbox by its own id. */
interface Known {
  sandbox: Pick<PodSandboxStatus, "id" | "metadata">;
  /** The latest event that the client knows of. */
  latest: ContainerEventType;
}

/** Follows one remote runtime's events for one client, beyond the runtime's restarts. */
export class EventFollower {
  /** What the client knows, by id; undefined until the first look at a runtime that was up when the client came. */
  #known: Map<string, Known> | undefined;
  /** Ids of which an event came since the look began: it is newer than what the look finds. */
  #touched = new Set<string>();
  /** The latest event that was made up, by id: the runtime may send it once more. */
  readonly #madeUp = new Map<string, ContainerEventType>();

  constructor(
    private readonly backend: RemoteBackend,
    private readonly clock: Clock,
    private readonly log: Logger,
  ) {
    const { known, remote } = backend;
    // The client has seen the last known lists.
    if (remote.state.kind !== "up") this.#known = picture(known.sandboxes, known.containers);
  }

  /**
   * Passes events on to `tell` until the signal aborts.
   * @throws CriError UNIMPLEMENTED when the runtime has no events; the signal's reason.
   */
  async follow(
    request: Uint8Array,
    signal: AbortSignal,
    tell: (event: Uint8Array) => void,
  ): Promise<never> {
    let pauseMs = RETRY_MS;
    for (;;) {
      signal.throwIfAborted();
      if (this.backend.remote.state.kind === "up") {
        const ended = await this.#subscribe(request, signal, tell);
        pauseMs = ended === "at once" ? Math.min(pauseMs * 2, MAX_RETRY_MS) : RETRY_MS;
      }
      await this.clock.sleep(pauseMs, signal);
    }
  }

  /** Resolves when the stream has ended: "at once" when it did so in peace before it can have told anything. */
  async #subscribe(
    request: Uint8Array,
    signal: AbortSignal,
    tell: (event: Uint8Array) => void,
  ): Promise<"at once" | "later"> {
    const ended = new AbortController();
    const context = { signal: AbortSignal.any([signal, ended.signal]), log: this.log };
    let hasLooked = false;
    const looked = this.#lookUntilSeen(context, tell).then(() => hasLooked = true, () => {});
    try {
      const stream = this.backend.cri.serverStream(
        methodOf("getContainerEvents"),
        request,
        context,
      );
      for await (const event of stream) this.#pass(event, tell);
      return hasLooked ? "later" : "at once";
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof CriError && error.code === "UNIMPLEMENTED") throw error;
      this.log.info("A remote runtime's events are waited for", {
        runtime: this.backend.name,
        error: messageOf(error),
      });
      return "later";
    } finally {
      ended.abort();
      await looked;
    }
  }

  #pass(bytes: Uint8Array, tell: (event: Uint8Array) => void): void {
    const event = ContainerEventResponse.decode(bytes);
    const { containerId: id, containerEventType: type, podSandboxStatus } = event;
    this.#touched.add(id);
    if (type <= (this.#madeUp.get(id) ?? -1)) return;
    tell(bytes);
    if (type === CONTAINER_DELETED_EVENT) this.#known?.delete(id);
    else {
      const { id: sandboxId = "", metadata } = podSandboxStatus ?? {};
      this.#known?.set(id, { sandbox: { id: sandboxId, metadata }, latest: type });
    }
  }

  /** Looks once the subscription holds, and again when a look fails. Rejects when the signal aborts. */
  async #lookUntilSeen(context: CallContext, tell: (event: Uint8Array) => void): Promise<void> {
    await this.clock.sleep(SUBSCRIBED_MS, context.signal);
    for (;;) {
      try {
        return await this.#look(context, tell);
      } catch (error) {
        context.signal.throwIfAborted();
        this.log.debug("What a client missed of a remote runtime cannot be told yet", {
          runtime: this.backend.name,
          error: messageOf(error),
        });
      }
      await this.clock.sleep(RETRY_MS, context.signal);
    }
  }

  /** Compares what the client knows with what is there, and makes up the events between them. */
  async #look(context: CallContext, tell: (event: Uint8Array) => void): Promise<void> {
    this.#touched = new Set();
    const now = await this.#picture(context);
    if (this.#known === undefined) {
      this.#known = now;
      return;
    }
    const known = this.#known;
    this.#madeUp.clear();
    for (const [id, { sandbox, latest }] of now) {
      const from = (known.get(id)?.latest ?? CONTAINER_CREATED_EVENT - 1) + 1;
      await this.#makeUp(id, sandbox, from, latest, context, tell);
      if (!this.#touched.has(id)) known.set(id, { sandbox, latest });
    }
    for (const [id, { sandbox, latest }] of [...known]) {
      if (now.has(id) || this.#touched.has(id)) continue;
      const from = Math.max(latest + 1, CONTAINER_STOPPED_EVENT);
      await this.#makeUp(id, sandbox, from, CONTAINER_DELETED_EVENT, context, tell);
      known.delete(id);
    }
  }

  async #picture(context: CallContext): Promise<Map<string, Known>> {
    const [sandboxBytes, containerBytes] = await Promise.all([
      this.backend.cri.unary(methodOf("listPodSandbox"), new Uint8Array(), context),
      this.backend.cri.unary(methodOf("listContainers"), new Uint8Array(), context),
    ]);
    const { items } = ListPodSandboxResponse.decode(sandboxBytes);
    const { containers } = ListContainersResponse.decode(containerBytes);
    const byId = <T extends { id: string }>(list: T[]) => new Map(list.map((one) => [one.id, one]));
    return picture(byId(items), byId(containers));
  }

  /** Tells the events `from` to `to`, both included, with the sandbox as it is now, unless a newer one has come. */
  async #makeUp(
    id: string,
    sandbox: Known["sandbox"],
    from: number,
    to: ContainerEventType,
    context: CallContext,
    tell: (event: Uint8Array) => void,
  ): Promise<void> {
    if (from > to || this.#touched.has(id)) return;
    const request = PodSandboxStatusRequest.encode({ podSandboxId: sandbox.id, verbose: false });
    const answer = await this.backend.cri
      .unary(methodOf("podSandboxStatus"), request.finish(), context)
      .then((bytes) => PodSandboxStatusResponse.decode(bytes))
      .catch((error) => {
        // It is gone: its last state is the end.
        if (!(error instanceof CriError) || error.code !== "NOT_FOUND") throw error;
        return PodSandboxStatusResponse.fromPartial({
          status: { ...sandbox, state: PodSandboxState.SANDBOX_NOTREADY },
        });
      });
    if (this.#touched.has(id)) return;
    for (let type = from; type <= to; type++) {
      const event = ContainerEventResponse.fromPartial({
        containerId: id,
        containerEventType: type,
        createdAt: BigInt(Math.round(this.clock.now())) * 1_000_000n,
        podSandboxStatus: answer.status,
        containersStatuses: answer.containersStatuses,
      });
      tell(ContainerEventResponse.encode(event).finish());
    }
    this.#madeUp.set(id, to);
  }
}

/** What a client knows that has seen these lists. */
function picture(
  sandboxes: ReadonlyMap<string, PodSandbox>,
  containers: ReadonlyMap<string, Container>,
): Map<string, Known> {
  const known = new Map<string, Known>();
  for (const { id, metadata, state } of sandboxes.values()) {
    const latest = SANDBOX_EVENTS.get(state);
    if (latest !== undefined) known.set(id, { sandbox: { id, metadata }, latest });
  }
  for (const { id, podSandboxId, state } of containers.values()) {
    const latest = CONTAINER_EVENTS.get(state);
    const sandbox = known.get(podSandboxId)?.sandbox;
    if (latest !== undefined && sandbox !== undefined) known.set(id, { sandbox, latest });
  }
  return known;
}
