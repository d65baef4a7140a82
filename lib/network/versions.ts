/** The versions of the CNI specification that there are, oldest first. Results have three shapes, see result.ts. */
export const CNI_VERSIONS = [
  "0.1.0",
  "0.2.0",
  "0.3.0",
  "0.3.1",
  "0.4.0",
  "1.0.0",
  "1.1.0",
] as const;

/** A version of the specification that we speak. */
export type CniVersion = typeof CNI_VERSIONS[number];

/** The newest we speak. */
export const NEWEST_VERSION: CniVersion = "1.1.0";

/** What a configuration without a version means (libcni). */
export const UNNAMED_VERSION: CniVersion = "0.1.0";

/** Whether this is a version that we speak. */
export function isKnownVersion(version: unknown): version is CniVersion {
  return CNI_VERSIONS.some((known) => known === version);
}

/** Whether `version` is `other` or newer. */
export function isAtLeast(version: CniVersion, other: CniVersion): boolean {
  return CNI_VERSIONS.indexOf(version) >= CNI_VERSIONS.indexOf(other);
}
