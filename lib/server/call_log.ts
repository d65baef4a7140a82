/** The one log line of every call. */
import type { CriCode, CriError } from "../base/error.ts";
import type { LogFields, Logger } from "../base/log.ts";
import type { CriMethod } from "../cri/service.ts";

/**
 * RPCs that change something. Their lines are worth reading on any day; all others are polled by the kubelet
 * every second, or run as probes (ExecSync), and are for debugging.
 */
const CHANGES: ReadonlySet<string> = new Set([
  "UpdateRuntimeConfig",
  "RunPodSandbox",
  "StopPodSandbox",
  "RemovePodSandbox",
  "UpdatePodSandboxResources",
  "CreateContainer",
  "StartContainer",
  "StopContainer",
  "RemoveContainer",
  "UpdateContainerResources",
  "ReopenContainerLog",
  "Exec",
  "Attach",
  "PortForward",
  "CheckpointContainer",
  "CheckpointPod",
  "RestorePod",
  "PullImage",
  "RemoveImage",
]);

/** Codes that mean a mistake of ours, not of the request or of its circumstances. */
const OUR_MISTAKES: ReadonlySet<CriCode> = new Set<CriCode>(["INTERNAL", "UNKNOWN", "DATA_LOSS"]);

/** A container's or sandbox's id is 64 characters; what a client sends instead is cut there. */
const MAX_LOGGED_ID_BYTES = 64;

/** How a call ended. */
export interface CallEnd {
  method: CriMethod;
  durationMs: number;
  /** Absent when the call succeeded. */
  error?: CriError;
  /** What the client's going cut short, in the words of whoever did it. */
  interrupted?: string;
  /** First answer in wire bytes, for the id of what was made. */
  response?: Uint8Array;
}

/** Writes the line: changes at info, or warning if they failed; mistakes of ours at error with their stack. */
export function logCall(log: Logger, end: CallEnd): void {
  const { method, error } = end;
  const fields: LogFields = {
    code: error?.code ?? "OK",
    ms: end.durationMs,
    ...(end.interrupted === undefined ? {} : { interrupted: end.interrupted }),
  };
  if (error === undefined) {
    if (!CHANGES.has(method.name)) return log.debug(method.name, fields);
    return log.info(method.name, { ...fields, ...idFields(method.response, end.response) });
  }
  const message = `${method.name} failed: ${error.message}`;
  const { runtime } = error;
  if (runtime !== undefined) return log.warning(message, { ...fields, runtime });
  if (OUR_MISTAKES.has(error.code)) return log.error(message, { ...fields, stack: stackOf(error) });
  return CHANGES.has(method.name) ? log.warning(message, fields) : log.debug(message, fields);
}

/**
 * The id that a message starts with, if it does, as a field `container` or `sandbox` of a log line: what a
 * request is about, or what a call made.
 */
export function idFields(codec: CriMethod["request"], bytes: Uint8Array | undefined): LogFields {
  if (bytes === undefined) return {};
  if (!idNames.has(codec)) idNames.set(codec, idName(codec));
  const name = idNames.get(codec);
  const id = name && firstString(bytes);
  return name && id ? { [name]: id } : {};
}

/** Names of the ids that messages start with; found once, because every call asks. */
const idNames = new Map<CriMethod["request"], string | undefined>();

function idName(codec: CriMethod["request"]): string | undefined {
  const [first] = Object.keys(codec.fromPartial({}) as Record<string, unknown>);
  if (first === "containerId") return "container";
  return first === "podSandboxId" ? "sandbox" : undefined;
}

/** Field 1 of a message if it is a string of less than 128 bytes and comes first, as encoders write it. */
function firstString(bytes: Uint8Array): string | undefined {
  const [tag, length] = bytes;
  if (tag !== 0x0a || length === undefined || length > 127 || bytes.length < 2 + length) return;
  return new TextDecoder().decode(bytes.subarray(2, 2 + Math.min(length, MAX_LOGGED_ID_BYTES)));
}

function stackOf(error: CriError): string | undefined {
  return error.cause instanceof Error ? error.cause.stack : error.stack;
}
