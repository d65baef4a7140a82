import type { Clock } from "../base/clock.ts";
import { CriError, messageOf } from "../base/error.ts";
import type { Logger } from "../base/log.ts";
import {
  type CallContext,
  type CriBackend,
  type CriMethod,
  methodOf,
  type RpcKey,
} from "../cri/service.ts";
import { isBlank, isMessage } from "../cri/wire.ts";
import type { RemoteRuntime } from "../remote/remote_runtime.ts";
import { MarkedImages } from "./image_ids.ts";
import { LastKnown } from "./last_known.ts";

/**
 * How long a list waits for a runtime that tells its status: half of what the kubelet waits for the whole. A node under
 * pressure can be that slow, and what was last known of a runtime that works on is wrong. One that hangs is found out
 * much sooner by the look at its status.
 */
const UP_PATIENCE_MS = 60_000;

/** The same for one that was not up at the last look: it fails at once unless it is just coming back. */
const DOWN_PATIENCE_MS = 3_000;

/** Between two times that a busy runtime is asked for everything, so that the asking is no burden to it. */
const REFRESH_PAUSE_MS = 100;

/** The call with as much patience as one backend gets for its part in an answer. */
export function impatient(context: CallContext, { remote }: Backend, clock: Clock): CallContext {
  const patienceMs = remote?.state.kind === "up" ? UP_PATIENCE_MS : DOWN_PATIENCE_MS;
  const deadlineMs = Math.min(context.deadlineMs ?? Infinity, clock.now() + patienceMs);
  return { ...context, deadlineMs };
}

/** One CRI behind the router: our own runtime, or a remote one. */
export interface Backend {
  readonly name: string;
  /** Calls for it alone. */
  readonly cri: CriBackend;
  /** Absent for our own. */
  readonly remote?: RemoteRuntime;
  /**
   * Its part of a list; never fails because a remote one does not answer, but gives what was last known of it.
   * Undefined when it has no such list.
   * @throws {unknown} the signal's reason when that aborts; a CriError of our own runtime.
   */
  list(
    method: CriMethod,
    request: Uint8Array,
    context: CallContext,
  ): Promise<Uint8Array | undefined>;
}

/** Our own runtime as a backend. `marked`: its image ids carry its name. */
export function ownBackend(name: string, cri: CriBackend, marked: boolean): Backend {
  const shown = marked ? new MarkedImages(cri, name) : cri;
  return {
    name,
    cri: shown,
    list: (method, request, context) => shown.unary(method, request, context).catch(orMissing),
  };
}

/** A backend that lacks a list has no part in it. */
function orMissing(error: unknown): undefined {
  if (error instanceof CriError && error.code === "UNIMPLEMENTED") return undefined;
  throw error;
}

/** A remote runtime as a backend, with what was last known of it. */
export class RemoteBackend implements Backend {
  readonly name: string;
  readonly cri: CriBackend;
  readonly known = new LastKnown();
  #refreshing: Promise<void> | undefined;
  #stale = false;
  /** Lists that failed although the runtime is up, by the names of their RPCs. */
  readonly #outdated = new Set<string>();
  readonly #closed = new AbortController();

  constructor(
    readonly remote: RemoteRuntime,
    private readonly clock: Clock,
    private readonly log: Logger,
    marked: boolean,
  ) {
    this.name = remote.name;
    this.cri = marked ? new MarkedImages(remote, remote.name) : remote;
  }

  async list(
    method: CriMethod,
    request: Uint8Array,
    context: CallContext,
  ): Promise<Uint8Array | undefined> {
    const askedAt = this.known.asking();
    try {
      const answer = await this.cri.unary(method, request, impatient(context, this, this.clock));
      if (!isMessage(answer, 1)) throw new Error("its entries are no protobuf messages");
      // A kubelet sends a filter that chooses nothing.
      if (isBlank(request)) this.known.keep(method, answer, askedAt);
      this.#note(method, undefined);
      return answer;
    } catch (error) {
      context.signal.throwIfAborted();
      if (error instanceof CriError && error.code === "UNIMPLEMENTED") return undefined;
      this.#note(method, error);
      return this.known.answer(method, request);
    }
  }

  /** Logs when a list begins or ends to be what was last known; that a runtime is down is logged elsewhere. */
  #note({ name }: CriMethod, error: unknown): void {
    if (error === undefined) this.#outdated.delete(name);
    else if (this.remote.state.kind === "up" && !this.#outdated.has(name)) {
      this.#outdated.add(name);
      const fields = { rpc: name, runtime: this.name, error: messageOf(error) };
      this.log.warning("What was last known of a remote runtime is given", fields);
    }
  }

  /**
   * Asks for sandboxes and containers anew, so that what was just changed is known should the runtime die now.
   * Calls that come while it asks share one more asking.
   */
  refresh(): Promise<void> {
    this.#stale = true;
    return this.#refreshing ??= this.#refresh().finally(() => this.#refreshing = undefined);
  }

  async #refresh(): Promise<void> {
    while (this.#stale && !this.#closed.signal.aborted) {
      this.#stale = false;
      await this.#ask(["listPodSandbox", "listContainers"]);
      await this.clock.sleep(REFRESH_PAUSE_MS, this.#closed.signal).catch(() => {});
    }
  }

  /** Asks for everything that would be missed, were the runtime away. */
  async learn(): Promise<void> {
    await this.#ask([
      "listPodSandbox",
      "listContainers",
      "listImages",
      "imageFsInfo",
      "runtimeConfig",
    ]);
  }

  async #ask(keys: readonly RpcKey[]): Promise<void> {
    const context = { signal: this.#closed.signal, log: this.log };
    const asked = keys.map((key) => this.list(methodOf(key), new Uint8Array(), context));
    // Only closing keeps a list from its answer.
    await Promise.allSettled(asked);
  }

  /** Ends what is asked for in the background, and the connection. */
  async close(): Promise<void> {
    this.#closed.abort();
    await this.#refreshing;
    await this.remote.close();
  }
}
