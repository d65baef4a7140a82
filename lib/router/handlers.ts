import { CriError } from "../base/error.ts";
import { type HandlerMapping, OWN_NAME } from "../config/remotes.ts";
import type { Backend } from "./backend.ts";

/** The remote runtime of this name gets the pods without a RuntimeClass. */
export const DEFAULT_REMOTE = "default";

/** Where pods of a RuntimeClass run. */
export interface HandlerTarget {
  backend: Backend;
  /** What the backend calls the handler. */
  handler: string;
}

/**
 * Every handler that a pod may name, with its backend: none is the default remote's, or ours when there is no
 * such; `multicri` is ours; a remote's name is its own default handler; the rest is mapped.
 */
export class Handlers {
  readonly #targets = new Map<string, HandlerTarget>();

  constructor(own: Backend, remotes: readonly Backend[], mappings: readonly HandlerMapping[]) {
    const byName = new Map(remotes.map((remote) => [remote.name, remote]));
    this.#targets.set("", { backend: byName.get(DEFAULT_REMOTE) ?? own, handler: "" });
    this.#targets.set(OWN_NAME, { backend: own, handler: OWN_NAME });
    for (const backend of remotes) this.#targets.set(backend.name, { backend, handler: "" });
    for (const { handler, remote, remoteHandler } of mappings) {
      const backend = byName.get(remote);
      if (backend === undefined) throw new TypeError(`no remote runtime is named ${remote}`);
      this.#targets.set(handler, { backend, handler: remoteHandler });
    }
  }

  /** The backend of pods without a RuntimeClass. */
  get default(): Backend {
    return this.target("").backend;
  }

  /** @throws CriError INVALID_ARGUMENT naming the known handlers; `what` says what asks for it. */
  target(handler: string, what = "a pod"): HandlerTarget {
    const target = this.#targets.get(handler);
    if (target !== undefined) return target;
    const known = [...this.#targets.keys()].map((name) => `'${name}'`).join(", ");
    throw new CriError(
      "INVALID_ARGUMENT",
      `Cannot find the runtime handler '${handler}' for ${what}: the known ones are ${known}; ` +
        "--remote-runtime-endpoints and --runtime-handlers add others.",
    );
  }

  /** All of them by name, in the order in which they were made known. */
  entries(): IterableIterator<[handler: string, target: HandlerTarget]> {
    return this.#targets.entries();
  }
}
