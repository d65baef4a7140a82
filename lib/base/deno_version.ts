import { CriError } from "./error.ts";

/** Versions that cannot run multicri, each from `first` to `last` inclusive, and what happens there. */
const UNUSABLE: readonly { first: Version; last: Version; because: string }[] = [
  { first: [0, 0, 0], last: [2, 7, 9], because: "it cannot serve gRPC on a unix socket" },
  {
    first: [2, 9, 4],
    last: [2, 9, 6],
    because: "it crashes when gRPC clients disconnect (denoland/deno issue 36788)",
  },
];

/** The version that every release of multicri is tested with. */
const TESTED = "2.9.3";

type Version = readonly [major: number, minor: number, patch: number];

/**
 * Refuses the versions of Deno that are known to fail under a gRPC server.
 *
 * @param version as in `Deno.version.deno`, e.g. "2.9.3" or "2.10.0-rc.1+0d6fcf2"
 * @throws CriError FAILED_PRECONDITION with a sentence that says what to do
 */
export function assertSupportedDeno(version: string): void {
  const match = /^(\d+)\.(\d+)\.(\d+)(?:[-+]|$)/.exec(version);
  if (!match) {
    throw new CriError(
      "FAILED_PRECONDITION",
      `Cannot run on this Deno as its version must look like ${TESTED}: current value is "${version}".`,
    );
  }
  const current: Version = [Number(match[1]), Number(match[2]), Number(match[3])];
  for (const { first, last, because } of UNUSABLE) {
    if (compare(current, first) < 0 || compare(current, last) > 0) continue;
    throw new CriError(
      "FAILED_PRECONDITION",
      `Cannot run on Deno ${version} because ${because}: use Deno ${TESTED}.`,
    );
  }
}

function compare(a: Version, b: Version): number {
  return a[0] - b[0] || a[1] - b[1] || a[2] - b[2];
}
