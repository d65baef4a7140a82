import { CriError } from "../base/error.ts";
import type {
  PodSandboxConfig,
  PodSandboxMetadata,
  RunPodSandboxRequest,
} from "../cri/api.generated.ts";
import { configDigest } from "./config_digest.ts";
import { OWN_NAME } from "../config/remotes.ts";
import { newId, type Runtime } from "./runtime.ts";

/**
 * RunPodSandbox: records a pod, after the adapter has made what there is of it. A repeated request (same metadata and attempt, equal configuration)
 * returns the id it got the first time, because the kubelet repeats a call whose answer was lost.
 * @throws CriError ALREADY_EXISTS when the same pod and attempt exists with another configuration.
 */
export async function runPodSandbox(
  runtime: Runtime,
  request: RunPodSandboxRequest,
): Promise<string> {
  const config = request.config;
  const metadata = config?.metadata;
  if (
    config === undefined || metadata === undefined || metadata.name === "" || metadata.uid === ""
  ) {
    throw new CriError(
      "INVALID_ARGUMENT",
      "Cannot run a pod sandbox without config.metadata: its name, namespace and uid must be set.",
    );
  }
  if (request.runtimeHandler !== "" && request.runtimeHandler !== OWN_NAME) {
    throw new CriError(
      "INVALID_ARGUMENT",
      `Cannot run the pod ${metadata.namespace}/${metadata.name} with the runtime handler ` +
        `'${request.runtimeHandler}': the known ones are '' and '${OWN_NAME}'.`,
    );
  }
  const { uid, attempt } = metadata;
  return await runtime.locks.runExclusive(
    `pod ${uid} ${attempt}`,
    () => runNewSandbox(runtime, request.runtimeHandler, config, metadata),
  );
}

async function runNewSandbox(
  runtime: Runtime,
  runtimeHandler: string,
  config: PodSandboxConfig,
  metadata: PodSandboxMetadata,
): Promise<string> {
  const twin = runtime.store.sandboxes.all().find((sandbox) =>
    sameSandbox(sandbox.config.metadata, metadata)
  );
  if (twin !== undefined) {
    const same = twin.state === "ready" && twin.runtimeHandler === runtimeHandler &&
      configDigest(twin.config) === configDigest(config);
    if (same) return twin.id;
    throw new CriError(
      "ALREADY_EXISTS",
      `Cannot run attempt ${metadata.attempt} of the pod ${metadata.namespace}/${metadata.name}: ` +
        `the sandbox ${twin.id} is that attempt, ${
          twin.state === "ready" ? "with another configuration" : "and was stopped"
        }; remove it or count the attempt up.`,
    );
  }
  const id = newId();
  await runtime.adapter.pods?.run(id, config);
  runtime.store.sandboxes.put({
    id,
    config,
    runtimeHandler,
    createdAtMs: runtime.clock.now(),
    state: "ready",
  });
  return id;
}

function sameSandbox(a: PodSandboxMetadata | undefined, b: PodSandboxMetadata): boolean {
  return a?.uid === b.uid && a.name === b.name && a.namespace === b.namespace &&
    a.attempt === b.attempt;
}
