import type { Clock } from "../base/clock.ts";
import { CriError } from "../base/error.ts";
import type { Logger } from "../base/log.ts";
import type { CallContext, CriMethod } from "../cri/service.ts";
import { type Backend, RemoteBackend } from "./backend.ts";
import { eventQueue } from "../runtime/container_events.ts";
import { EventFollower } from "./event_follower.ts";

/**
 * GetContainerEvents of all backends. A remote runtime that goes away does not end the stream; when it is back,
 * the events that its client missed are made up from what has changed. A backend without events has no part.
 * @throws CriError RESOURCE_EXHAUSTED when the client reads too slowly; what our own runtime throws.
 */
export async function* joinEvents(
  backends: readonly Backend[],
  method: CriMethod,
  request: Uint8Array,
  context: CallContext,
  { clock, log }: { clock: Clock; log: Logger },
): AsyncGenerator<Uint8Array> {
  const ended = new AbortController();
  const signal = AbortSignal.any([context.signal, ended.signal]);
  const queue = eventQueue<Uint8Array>();
  const sources = backends.map(async (backend) => {
    try {
      if (backend instanceof RemoteBackend) {
        const follower = new EventFollower(backend, clock, log);
        await follower.follow(request, signal, (event) => queue.push(event));
      } else {
        const events = backend.cri.serverStream(method, request, { ...context, signal });
        for await (const event of events) queue.push(event);
      }
    } catch (error) {
      if (error instanceof CriError && error.code === "UNIMPLEMENTED") return;
      if (!signal.aborted) queue.fail(error);
    }
  });
  const onAbort = () => queue.fail(signal.reason);
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    signal.throwIfAborted();
    yield* queue;
  } finally {
    signal.removeEventListener("abort", onAbort);
    ended.abort();
    await Promise.allSettled(sources);
  }
}
