import type { Clock } from "../base/clock.ts";
import { CriError, messageOf } from "../base/error.ts";
import type { Logger } from "../base/log.ts";
import {
  ContainerEventResponse,
  ContainerEventType,
  ContainerState,
  ListContainersResponse,
  ListPodSandboxResponse,
  PodSandboxState,
  PodSandboxStatus,
  PodSandboxStatusRequest,
  PodSandboxStatusResponse,
} from "../cri/api.generated.ts";
import { type CallContext, methodOf } from "../cri/service.ts";
import type { RemoteBackend } from "./backend.ts";

/** Between two looks at whether the runtime is back. */
const RETRY_MS = 250;

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
  /** What the client knows, by id; undefined until the first look. */
  #known: Map<string, Known> | undefined;
  /** The latest event that was made up, by id: the runtime may send it once more. */
  readonly #madeUp = new Map<string, ContainerEventType>();

  constructor(
    private readonly backend: RemoteBackend,
    private readonly clock: Clock,
    private readonly log: Logger,
  ) {}

  /**
   * Passes events on to `tell` until the signal aborts.
   * @throws CriError UNIMPLEMENTED when the runtime has no events; the signal's reason.
   */
  async follow(
    request: Uint8Array,
    signal: AbortSignal,
    tell: (event: Uint8Array) => void,
  ): Promise<never> {
    for (;;) {
      signal.throwIfAborted();
      if (this.backend.remote.state.kind === "up") await this.#subscribe(request, signal, tell);
      await this.clock.sleep(RETRY_MS, signal);
    }
  }

  async #subscribe(
    request: Uint8Array,
    signal: AbortSignal,
    tell: (event: Uint8Array) => void,
  ): Promise<void> {
    const ended = new AbortController();
    const context = { signal: AbortSignal.any([signal, ended.signal]), log: this.log };
    const looked = this.clock.sleep(SUBSCRIBED_MS, context.signal)
      .then(() => this.#look(context, tell))
      // The stream tells what is wrong.
      .catch(() => {});
    try {
      const stream = this.backend.cri.serverStream(
        methodOf("getContainerEvents"),
        request,
        context,
      );
      for await (const event of stream) this.#pass(event, tell);
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof CriError && error.code === "UNIMPLEMENTED") throw error;
      this.log.info("A remote runtime's events are waited for", {
        runtime: this.backend.name,
        error: messageOf(error),
      });
    } finally {
      ended.abort();
      await looked;
    }
  }

  #pass(bytes: Uint8Array, tell: (event: Uint8Array) => void): void {
    const event = ContainerEventResponse.decode(bytes);
    const { containerId: id, containerEventType: type } = event;
    if (type <= (this.#madeUp.get(id) ?? -1)) return;
    tell(bytes);
    if (this.#known === undefined) return;
    if (type === CONTAINER_DELETED_EVENT) this.#known.delete(id);
    else {
      const { id: sandboxId = "", metadata } = event.podSandboxStatus ?? {};
      this.#known.set(id, { sandbox: { id: sandboxId, metadata }, latest: type });
    }
  }

  /** Compares what the client knows with what is there, and makes up the events between them. */
  async #look(context: CallContext, tell: (event: Uint8Array) => void): Promise<void> {
    const before = this.#known;
    const now = await this.#picture(context);
    this.#known = now;
    if (before === undefined) return;
    this.#madeUp.clear();
    for (const [id, { sandbox, latest }] of now) {
      const from = before.get(id)?.latest ?? CONTAINER_CREATED_EVENT - 1;
      await this.#makeUp(id, sandbox, from + 1, latest, context, tell);
    }
    for (const [id, { sandbox, latest }] of before) {
      if (now.has(id)) continue;
      const from = Math.max(latest + 1, CONTAINER_STOPPED_EVENT);
      await this.#makeUp(id, sandbox, from, CONTAINER_DELETED_EVENT, context, tell);
    }
  }

  async #picture(context: CallContext): Promise<Map<string, Known>> {
    const [sandboxBytes, containerBytes] = await Promise.all([
      this.backend.cri.unary(methodOf("listPodSandbox"), new Uint8Array(), context),
      this.backend.cri.unary(methodOf("listContainers"), new Uint8Array(), context),
    ]);
    const known = new Map<string, Known>();
    for (const { id, metadata, state } of ListPodSandboxResponse.decode(sandboxBytes).items) {
      const latest = SANDBOX_EVENTS.get(state);
      if (latest !== undefined) known.set(id, { sandbox: { id, metadata }, latest });
    }
    for (const container of ListContainersResponse.decode(containerBytes).containers) {
      const latest = CONTAINER_EVENTS.get(container.state);
      const sandbox = known.get(container.podSandboxId)?.sandbox;
      if (latest !== undefined && sandbox !== undefined) {
        known.set(container.id, { sandbox, latest });
      }
    }
    return known;
  }

  /** Tells the events `from` to `to`, both included, with the sandbox as it is now. */
  async #makeUp(
    id: string,
    sandbox: Known["sandbox"],
    from: number,
    to: ContainerEventType,
    context: CallContext,
    tell: (event: Uint8Array) => void,
  ): Promise<void> {
    if (from > to) return;
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
