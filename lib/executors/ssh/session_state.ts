import type { CriError } from "../../base/error.ts";

/**
 * The life of a session:
 *
 *     idle ───call───► connecting ──logged in──► ready ──lost──► waiting
 *                        ▲  │  └────────cannot be reached──────────▲ │
 *                        │  └──password, key, host key──► refused  │ │
 *                        ├───────a call from `untilMs` on─────┘      │
 *                        └───────at `untilMs`, or a call─────────────┘
 *
 * and from everywhere, when it is closed, to closed.
 */
export type SessionState =
  | { kind: "idle" }
  /** `attempt` counts from 1. */
  | { kind: "connecting"; attempt: number }
  | { kind: "ready"; sinceMs: number }
  /** Connects by itself at `untilMs`, or when someone calls. `attempt` counts the failures in a row. */
  | { kind: "waiting"; attempt: number; error: CriError; untilMs: number }
  /**
   * The host is there, but trust or credentials are not, and sites lock accounts that try again and
   * again: never connects by itself; calls before `untilMs` get `error`, a later one tries.
   */
  | { kind: "refused"; attempt: number; error: CriError; untilMs: number }
  | { kind: "closed" };

const FIRST_RETRY_DELAY_MS = 1_000;

/** A cluster back from maintenance is used again within a minute. */
const LONGEST_RETRY_DELAY_MS = 60_000;

/**
 * Sites lock accounts after three to five wrong passwords within some minutes, so the second try comes after
 * five, and an outage that looks like a refusal is over within the hour at most.
 */
const FIRST_REFUSAL_DELAY_MS = 5 * 60_000;
const LONGEST_REFUSAL_DELAY_MS = 60 * 60_000;

/** How long a refused login is not tried again after `refusals` (1 and up) in a row. */
export function refusalDelayMs(refusals: number): number {
  return Math.min(FIRST_REFUSAL_DELAY_MS * 2 ** (refusals - 1), LONGEST_REFUSAL_DELAY_MS);
}

/**
 * How long to wait after `failures` (1 and up) in a row: doubling, with half of it random (`random` is 0
 * to 1), so that the nodes of a Kubernetes cluster do not all come back to a login host at once.
 */
export function retryDelayMs(failures: number, random: number): number {
  const longest = Math.min(FIRST_RETRY_DELAY_MS * 2 ** (failures - 1), LONGEST_RETRY_DELAY_MS);
  return Math.round(longest * (0.5 + random / 2));
}

/** Whether trying again by oneself makes no sense: nothing changes until a person changes it. */
export function isRefusal(error: CriError): boolean {
  return error.code === "UNAUTHENTICATED" || error.code === "FAILED_PRECONDITION" ||
    error.code === "INVALID_ARGUMENT";
}
