import { BoundedQueue } from "../base/bounded_queue.ts";
import { CriError } from "../base/error.ts";
import { ContainerEventResponse, ContainerEventType } from "../cri/api.generated.ts";
import type { ContainerRecord, SandboxRecord } from "../store/records.ts";
import type { TableChange } from "../store/table.ts";
import { type Runtime, toNanoseconds } from "./runtime.ts";
import { containerStatusesOf, sandboxStatus } from "./sandbox_status.ts";

/**
 * Events that wait for a client which does not read as fast as they happen; as many as the kubelet holds itself
 * (pleg/evented.go).
 */
export const MAX_WAITING_EVENTS = 1_000;

const {
  CONTAINER_CREATED_EVENT: CREATED,
  CONTAINER_STARTED_EVENT: STARTED,
  CONTAINER_STOPPED_EVENT: STOPPED,
  CONTAINER_DELETED_EVENT: DELETED,
} = ContainerEventType;

/** A queue of events for one client. */
export function eventQueue<T>(): BoundedQueue<T> {
  return new BoundedQueue(MAX_WAITING_EVENTS, () =>
    new CriError(
      "RESOURCE_EXHAUSTED",
      `Cannot tell further events: ${MAX_WAITING_EVENTS} were waiting because the client did not read ` +
        "them. Call again, and list what has changed meanwhile.",
    ));
}

/**
 * GetContainerEvents: every change from the call on, each once and in order, with the pod as it was then; also those
 * of sandboxes, as other runtimes tell them. Ends when `signal` aborts.
 * @throws CriError RESOURCE_EXHAUSTED when a client has left too many waiting, after those.
 */
export async function* containerEvents(
  runtime: Runtime,
  signal: AbortSignal,
): AsyncGenerator<ContainerEventResponse> {
  const { containers, sandboxes } = runtime.store;
  const queue = eventQueue<ContainerEventResponse>();
  const tell = (sandbox: SandboxRecord | undefined, id: string, types: ContainerEventType[]) => {
    for (const type of types) queue.push(eventOf(runtime, sandbox, id, type));
  };
  const stops = [
    containers.onChange((change) => {
      const { id, sandboxId } = change.kind === "put" ? change.record : change.before;
      tell(sandboxes.get(sandboxId), id, eventsOfContainer(change));
    }),
    sandboxes.onChange((change) => {
      const sandbox = change.kind === "put" ? change.record : change.before;
      tell(sandbox, sandbox.id, eventsOfSandbox(change));
    }),
  ];
  const onAbort = () => queue.end();
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    if (!signal.aborted) yield* queue;
  } finally {
    signal.removeEventListener("abort", onAbort);
    for (const stop of stops) stop();
  }
}

function eventOf(
  runtime: Runtime,
  sandbox: SandboxRecord | undefined,
  containerId: string,
  containerEventType: ContainerEventType,
): ContainerEventResponse {
  return {
    containerId,
    containerEventType,
    createdAt: toNanoseconds(runtime.clock.now()),
    podSandboxStatus: sandbox === undefined ? undefined : sandboxStatus(runtime, sandbox),
    containersStatuses: sandbox === undefined ? [] : containerStatusesOf(runtime, sandbox.id),
  };
}

/** What a change means; most only tell how a job goes. */
function eventsOfContainer(change: TableChange<ContainerRecord>): ContainerEventType[] {
  if (change.kind === "deleted") return [DELETED];
  const [before, after] = [change.before?.state.phase, change.record.state.phase];
  if (before === undefined) return [CREATED];
  if (before === after) return [];
  if (after === "running") return [STARTED];
  return after === "exited" ? [STOPPED] : [];
}

/** A sandbox is ready as soon as there is one. */
function eventsOfSandbox(change: TableChange<SandboxRecord>): ContainerEventType[] {
  if (change.kind === "deleted") return [DELETED];
  if (change.before === undefined) return [CREATED, STARTED];
  return change.before.state === "ready" && change.record.state === "notready" ? [STOPPED] : [];
}
