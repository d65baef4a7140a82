/** Records and a store in a temporary directory, for the tests of whoever keeps records. */
import { join } from "@std/path";
import { ContainerConfig, PodSandboxConfig } from "../cri/api.generated.ts";
import type { ContainerRecord, ImageRecord, SandboxRecord } from "./records.ts";
import { Store } from "./store.ts";

export class TestStore implements AsyncDisposable {
  readonly store: Store;

  private constructor(readonly directory: string) {
    this.store = Store.open({ podsDir: directory, rootDir: directory, imagesDir: directory });
  }

  static async open(): Promise<TestStore> {
    return new TestStore(await Deno.makeTempDir({ prefix: "store-" }));
  }

  /** A path of the directory, which is removed at the end. */
  path(name: string): string {
    return join(this.directory, name);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.store[Symbol.dispose]();
    await Deno.remove(this.directory, { recursive: true });
  }
}

export const IMAGE_ID = `sha256:${"a".repeat(64)}`;

export function imageRecord(changes: Partial<ImageRecord> = {}): ImageRecord {
  return {
    id: IMAGE_ID,
    names: [{ asked: "perl", canonical: "docker://docker.io/library/perl:latest" }],
    repoDigests: [],
    sif: { path: "/nowhere.sif", sizeBytes: 1, sha256: "0".repeat(64) },
    config: {
      user: "",
      env: [],
      entrypoint: [],
      cmd: ["true"],
      workingDir: "",
      labels: {},
      stopSignal: "",
    },
    hasShell: true,
    pulledAtMs: 0,
    removed: false,
    ...changes,
  };
}

export function sandboxRecord(changes: Partial<SandboxRecord> = {}): SandboxRecord {
  return {
    id: "s1",
    config: PodSandboxConfig.fromPartial({ metadata: { name: "p", namespace: "ns", uid: "u" } }),
    runtimeHandler: "multicri",
    createdAtMs: 1000,
    state: "ready",
    ...changes,
  };
}

export function containerRecord(changes: Partial<ContainerRecord> = {}): ContainerRecord {
  return {
    id: "c1",
    sandboxId: "s1",
    config: ContainerConfig.fromPartial({ metadata: { name: "main", attempt: 0 } }),
    configDigest: "",
    imageId: IMAGE_ID,
    createdAtMs: 2000,
    state: { phase: "created" },
    workload: { account: "u@login:22" },
    ...changes,
  };
}
