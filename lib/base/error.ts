import type { status } from "@grpc/grpc-js";

/** The gRPC status codes multicri answers with, by their names in the gRPC specification. */
export type CriCode = Exclude<keyof typeof status, "OK">;

/**
 * The one error class of the project: what went wrong, in a sentence a person can act on, and the gRPC
 * code the client gets. It becomes a gRPC status only at the edge (`lib/server`).
 *
 * Messages follow "Cannot X as Y must be Z: current value is …" and name ids and paths, never secrets.
 */
export class CriError extends Error {
  override readonly name = "CriError";

  /** The other runtime that said so, when we only pass it on. */
  readonly runtime: string | undefined;

  constructor(
    readonly code: CriCode,
    message: string,
    options: { cause?: unknown; runtime?: string } = {},
  ) {
    super(message, options);
    this.runtime = options.runtime;
  }

  /**
   * Turns anything thrown into a CriError; a CriError stays the same object. A `DOMException` named
   * "AbortError" becomes CANCELLED and one named "TimeoutError" DEADLINE_EXCEEDED; the rest is INTERNAL.
   */
  static from(thrown: unknown): CriError {
    if (thrown instanceof CriError) return thrown;
    if (thrown instanceof DOMException && thrown.name === "AbortError") {
      return new CriError("CANCELLED", `The call was cancelled: ${thrown.message}`, {
        cause: thrown,
      });
    }
    if (thrown instanceof DOMException && thrown.name === "TimeoutError") {
      return new CriError("DEADLINE_EXCEEDED", `The call took too long: ${thrown.message}`, {
        cause: thrown,
      });
    }
    return new CriError("INTERNAL", messageOf(thrown), { cause: thrown });
  }
}

/** What Deno says when its permissions lack something. */
const NO_PERMISSION = /^Requires (\w+) access to (.+?), run again with the --allow-\S+ flag$/;
/**
 * What Deno says when the kernel refuses something: the kernel's words, its number, and Deno's own name for the call.
 */
const REFUSED_BY_KERNEL = /^(.+?) \(os error \d+\)(?:: \w+ (.+))?$/;

/**
 * The message of anything thrown, on one line and without a stack trace. What only somebody who programs with Deno
 * understands is said in other words.
 */
export function messageOf(thrown: unknown): string {
  const text = thrown instanceof Error ? thrown.message || thrown.name : String(thrown);
  return text.trim().replaceAll(/\s*\n\s*/g, "; ")
    .replace(NO_PERMISSION, "the server's flags give it no $1 access to $2")
    .replace(
      REFUSED_BY_KERNEL,
      (_all, words, what) => what === undefined ? words : `${words}: ${what}`,
    );
}
