import type { OciIdMapping } from "./user_namespace.ts";

/** A program of the node that crun runs at a moment of the container's life (runtime-spec, config.md). */
export interface OciHook {
  path: string;
  args?: string[];
  env?: string[];
  /** Seconds. */
  timeout?: number;
}

/** The part of a bundle's config.json that we write (OCI runtime-spec, config.md and config-linux.md). */
export interface OciSpec {
  ociVersion: string;
  root: { path: string; readonly: boolean };
  process: OciProcess;
  mounts: OciMount[];
  annotations: Record<string, string>;
  /** By the moments of a container's life. */
  hooks?: Record<string, OciHook[]>;
  linux: {
    namespaces: OciNamespace[];
    cgroupsPath: string;
    resources: OciResources;
    devices: OciDevice[];
    maskedPaths: string[];
    readonlyPaths: string[];
    seccomp?: unknown;
    rootfsPropagation?: string;
    uidMappings?: OciIdMapping[];
    gidMappings?: OciIdMapping[];
  };
}

export interface OciProcess {
  terminal: boolean;
  user: OciUser;
  args: string[];
  env: string[];
  cwd: string;
  capabilities: OciCapabilities;
  noNewPrivileges: boolean;
  oomScoreAdj?: number;
  rlimits: OciRlimit[];
  apparmorProfile?: string;
}

/** As getrlimit(2) has them. */
export interface OciRlimit {
  type: "RLIMIT_NOFILE";
  soft: number;
  hard: number;
}

export interface OciUser {
  uid: number;
  gid: number;
  additionalGids: number[];
}

/** Names as `CAP_KILL`. */
export interface OciCapabilities {
  bounding: string[];
  effective: string[];
  permitted: string[];
  inheritable: string[];
  ambient: string[];
}

export interface OciMount {
  destination: string;
  type: string;
  source: string;
  options: string[];
  uidMappings?: OciIdMapping[];
  gidMappings?: OciIdMapping[];
}

export interface OciNamespace {
  type: "pid" | "network" | "ipc" | "uts" | "mount" | "cgroup" | "user";
  /** One that exists; without it a new one is made. */
  path?: string;
}

export interface OciDevice {
  path: string;
  type: "b" | "c";
  major: number;
  minor: number;
  fileMode: number;
  uid: number;
  gid: number;
}

export interface OciDeviceRule {
  allow: boolean;
  type?: "a" | "b" | "c";
  major?: number;
  minor?: number;
  access: string;
}

export interface OciResources {
  devices?: OciDeviceRule[];
  cpu?: { shares?: number; quota?: number; period?: number; cpus?: string; mems?: string };
  memory?: { limit?: number; swap?: number };
  hugepageLimits?: { pageSize: string; limit: number }[];
  unified?: Record<string, string>;
}
