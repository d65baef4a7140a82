import { CriError } from "../base/error.ts";
import { shown } from "../base/shown.ts";
import type {
  PodSandboxConfig,
  PodSandboxMetadata,
  RunPodSandboxRequest,
} from "../cri/api.generated.ts";
import { configDigest } from "./config_digest.ts";
import { OWN_NAME } from "../config/remotes.ts";
import { whyNoName } from "./names.ts";
import { newId, type Runtime } from "./runtime.ts";
import { hasOwnNetwork } from "./sandbox_network.ts";

/**
 * RunPodSandbox: gives a pod its network, if it has one of its own, lets the adapter make what else there is of it, and
 * records it. A repeated request (same metadata and attempt, equal configuration)
 * returns the id it got the first time, because the kubelet repeats a call whose answer was lost.
 * @throws CriError ALREADY_EXISTS when the same pod and attempt exists with another configuration; as
 * `PodNetworks.attach`, `PodAdapter.run` and, on a full disk, `Table.put`, with nothing left behind.
 */
export async function runPodSandbox(
  runtime: Runtime,
  request: RunPodSandboxRequest,
  signal: AbortSignal,
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
  checkNames(metadata);
  if (request.runtimeHandler !== "" && request.runtimeHandler !== OWN_NAME) {
    throw new CriError(
      "INVALID_ARGUMENT",
      `Cannot run the pod ${metadata.namespace}/${metadata.name} with the runtime handler ` +
        `'${request.runtimeHandler}': the known ones are '' and '${OWN_NAME}'.`,
    );
  }
  const { namespace, name, uid, attempt } = metadata;
  const key = JSON.stringify([namespace, name, uid, attempt]);
  return await runtime.locks.runExclusive(
    key,
    () => runOnce(runtime, { config, metadata, runtimeHandler: request.runtimeHandler }, signal),
  );
}

function checkNames({ namespace, name, uid }: PodSandboxMetadata): void {
  for (const [what, value] of Object.entries({ namespace, name, uid })) {
    const why = whyNoName(value);
    if (why === undefined) continue;
    throw new CriError(
      "INVALID_ARGUMENT",
      `Cannot run a pod whose ${what} is ${shown(value)}: ${why}.`,
    );
  }
}

async function runOnce(
  runtime: Runtime,
  { config, metadata, runtimeHandler }: {
    config: PodSandboxConfig;
    metadata: PodSandboxMetadata;
    runtimeHandler: string;
  },
  signal: AbortSignal,
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
  const ownNetworks = hasOwnNetwork(config) ? runtime.networks : undefined;
  runtime.adapter.pods.check(config, ownNetworks !== undefined);
  const id = newId();
  // Without a record its network is removed again by the next server, should this one die now.
  await ownNetworks?.attach(id, config, signal);
  try {
    await runtime.adapter.pods.run(id, config);
    runtime.store.sandboxes.put({
      id,
      config,
      runtimeHandler,
      createdAtMs: runtime.clock.now(),
      state: "ready",
    });
  } catch (error) {
    // What fails of this, the next server does. No client will ask for it again, as for a pod that it knows of.
    await runtime.adapter.pods.remove(id).catch(() => {});
    await ownNetworks?.giveUp(id);
    throw error;
  }
  return id;
}

function sameSandbox(a: PodSandboxMetadata | undefined, b: PodSandboxMetadata): boolean {
  return a?.uid === b.uid && a.name === b.name && a.namespace === b.namespace &&
    a.attempt === b.attempt;
}
