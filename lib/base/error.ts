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

/** The message of anything thrown, on one line and without a stack trace. */
export function messageOf(thrown: unknown): string {
  const text = thrown instanceof Error ? thrown.message || thrown.name : String(thrown);
  return text.trim().replaceAll(/\s*\n\s*/g, "; ");
}
