import type { CriError } from "../base/error.ts";
import type { CriMethod } from "../cri/service.ts";

/** The calls that are being answered, so that a closing server can end them and wait for their end. */
export class OpenCalls {
  readonly #calls = new Map<AbortController, CriMethod>();
  readonly #waiting: (() => void)[] = [];

  /** Registers a call; it counts as open until {@linkcode close} gets its controller. */
  open(method: CriMethod): AbortController {
    const controller = new AbortController();
    this.#calls.set(controller, method);
    return controller;
  }

  close(call: AbortController): void {
    this.#calls.delete(call);
    if (this.#calls.size > 0) return;
    for (const resolve of this.#waiting.splice(0)) resolve();
  }

  /** Aborts the calls of the methods that `which` accepts, with `reason` as their signal's reason. */
  abort(which: (method: CriMethod) => boolean, reason: CriError): void {
    for (const [call, method] of this.#calls) if (which(method)) call.abort(reason);
  }

  /** Resolves once no call is open. */
  idle(): Promise<void> {
    if (this.#calls.size === 0) return Promise.resolve();
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  /** Names of the RPCs of the open calls, with repetitions. */
  names(): string[] {
    return [...this.#calls.values()].map((method) => method.name);
  }
}
