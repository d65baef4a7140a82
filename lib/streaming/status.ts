import { type CriCode, CriError } from "../base/error.ts";

/** HTTP's codes for those of gRPC (google/rpc/code.proto); the rest is 500. */
const HTTP_CODES: Partial<Record<CriCode, number>> = {
  INVALID_ARGUMENT: 400,
  FAILED_PRECONDITION: 400,
  UNAUTHENTICATED: 401,
  PERMISSION_DENIED: 403,
  NOT_FOUND: 404,
  RESOURCE_EXHAUSTED: 429,
  UNAVAILABLE: 503,
  DEADLINE_EXCEEDED: 504,
};

/**
 * How a process ended, as a client of `v4.channel.k8s.io` and newer reads it from the error stream: a metav1.Status;
 * for an exit code with the reason and cause that kubectl and crictl look for.
 */
export function exitStatus(code: number): Record<string, unknown> {
  if (code === 0) return { metadata: {}, status: "Success" };
  return {
    metadata: {},
    status: "Failure",
    message: `command terminated with exit code ${code}`,
    reason: "NonZeroExitCode",
    details: { causes: [{ reason: "ExitCode", message: String(code) }] },
  };
}

/** As `exitStatus`, for a process that could not be run, or whose end nobody saw. */
export function failureStatus(thrown: unknown): Record<string, unknown> {
  const { code, message } = CriError.from(thrown);
  return {
    metadata: {},
    status: "Failure",
    message,
    reason: "InternalError",
    code: HTTP_CODES[code] ?? 500,
    details: { causes: [{ message }] },
  };
}
