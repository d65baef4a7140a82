/**
 * The life of a container, as the kubelet sees it:
 *
 * ```
 *            begin start            accepted                 end seen
 *  created ───────────────▶ starting ────────▶ running ───────────────▶ exited
 *     ▲                        │ │                                         ▲
 *     └────────────────────────┘ └─────────────────────────────────────────┘
 *       nothing was submitted        failed for good (exit code 128)
 * ```
 *
 * `starting` is written before the first effect, so that a crash in between is seen at the next start.
 * Times are milliseconds since the Unix epoch on this node's clock.
 */
export type ContainerState =
  | { phase: "created" }
  | { phase: "starting" }
  | { phase: "running"; startedAtMs: number }
  | {
    phase: "exited";
    /** Undefined when it never ran. */
    startedAtMs: number | undefined;
    finishedAtMs: number;
    exitCode: number;
    reason: string;
    message: string;
  };

/** How a container ended. */
export interface ContainerEnd {
  finishedAtMs: number;
  exitCode: number;
  /** One CamelCase word, shown by `kubectl get pods`. */
  reason: string;
  message: string;
}

/** The exit code of a container that could not be started, as other CRI runtimes report it. */
export const START_ERROR_EXIT_CODE = 128;
export const START_ERROR_REASON = "StartError";

export function beginStart(state: ContainerState): ContainerState {
  return state.phase === "created" ? { phase: "starting" } : state;
}

/** Back to created: the start failed before anything reached the cluster. */
export function undoStart(state: ContainerState): ContainerState {
  return state.phase === "starting" ? { phase: "created" } : state;
}

export function markRunning(state: ContainerState, startedAtMs: number): ContainerState {
  return state.phase === "starting" || state.phase === "created"
    ? { phase: "running", startedAtMs }
    : state;
}

/** The first end that is seen stands; `finishedAtMs` never lies before the start. */
export function markExited(state: ContainerState, end: ContainerEnd): ContainerState {
  if (state.phase === "exited") return state;
  const startedAtMs = state.phase === "running" ? state.startedAtMs : undefined;
  return {
    phase: "exited",
    startedAtMs,
    ...end,
    finishedAtMs: Math.max(end.finishedAtMs, startedAtMs ?? 0),
  };
}
