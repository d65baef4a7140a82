import { CriError } from "../base/error.ts";
import { shown } from "../base/shown.ts";
import type { ContainerConfig, CreateContainerRequest } from "../cri/api.generated.ts";
import { repoDigestOf } from "../images/listed_image.ts";
import type { ContainerRecord, ImageRecord, SandboxRecord } from "../store/records.ts";
import { configDigest } from "./config_digest.ts";
import { askedImage } from "./container_status.ts";
import { requireById } from "./lookup.ts";
import { whyNoName } from "./names.ts";
import { newId, type Runtime } from "./runtime.ts";

/**
 * CreateContainer: checks and records a container. A repeated request (same sandbox, name and attempt,
 * equal configuration) returns the id it got the first time.
 * @throws CriError NOT_FOUND for a missing sandbox or image, FAILED_PRECONDITION for a stopped sandbox,
 * ALREADY_EXISTS for another configuration, INVALID_ARGUMENT for what cannot be run.
 */
export async function createContainer(
  runtime: Runtime,
  request: CreateContainerRequest,
): Promise<string> {
  const { config, podSandboxId } = request;
  const sandbox = requireById(runtime.store.sandboxes, "pod sandbox", podSandboxId);
  const metadata = config?.metadata;
  if (config === undefined || metadata === undefined || metadata.name === "") {
    throw new CriError(
      "INVALID_ARGUMENT",
      `Cannot create a container in the sandbox ${sandbox.id} without config.metadata.name.`,
    );
  }
  const why = whyNoName(metadata.name);
  if (why !== undefined) {
    throw new CriError(
      "INVALID_ARGUMENT",
      `Cannot create a container whose name is ${shown(metadata.name)}: ${why}.`,
    );
  }
  return await runtime.locks.runExclusive(sandbox.id, async () => {
    if (runtime.store.sandboxes.get(sandbox.id)?.state !== "ready") {
      throw new CriError(
        "FAILED_PRECONDITION",
        `Cannot create the container ${metadata.name}: its sandbox ${sandbox.id} is not ready.`,
      );
    }
    const digest = configDigest(config);
    const twin = runtime.store.containers.all().find((container) =>
      container.sandboxId === sandbox.id && container.config.metadata?.name === metadata.name &&
      container.config.metadata.attempt === metadata.attempt
    );
    if (twin?.configDigest === digest) return twin.id;
    if (twin !== undefined) {
      throw new CriError(
        "ALREADY_EXISTS",
        `Cannot create attempt ${metadata.attempt} of the container ${metadata.name}: ${twin.id} is ` +
          "that attempt with another configuration; remove it or count the attempt up.",
      );
    }
    return await runtime.images.using(async (require) => {
      const image = require(config.image?.image ?? "");
      const volumeImages = volumeImagesOf(config, require);
      return await makeContainer(runtime, { sandbox, config, image, volumeImages, digest });
    });
  });
}

async function makeContainer(
  { adapter, store, clock }: Runtime,
  { sandbox, config, image, volumeImages, digest }: {
    sandbox: SandboxRecord;
    config: ContainerConfig;
    image: ImageRecord;
    volumeImages: ReadonlyMap<string, ImageRecord>;
    digest: string;
  },
): Promise<string> {
  const id = newId();
  const sandboxId = sandbox.id;
  const request = { id, sandboxId, sandbox: sandbox.config, config, image, volumeImages };
  const workload = await adapter.prepareContainer(request);
  const volumeImageIds = [...volumeImages.values()].map(({ id }) => id);
  const imageRepoDigest = repoDigestOf(image, askedImage(config));
  const record: ContainerRecord = {
    id,
    sandboxId,
    config: {
      ...config,
      envs: config.envs.map(({ key }) => ({ key, value: new Uint8Array() })),
    },
    configDigest: digest,
    imageId: image.id,
    ...(imageRepoDigest === undefined ? {} : { imageRepoDigest }),
    ...(volumeImageIds.length === 0 ? {} : { volumeImageIds }),
    createdAtMs: clock.now(),
    state: { phase: "created" },
    workload,
  };
  try {
    store.containers.put(record);
  } catch (error) {
    // As on a full disk. What cannot be removed now, the next server removes.
    await adapter.removeContainer(record, new AbortController().signal).catch(() => {});
    throw error;
  }
  return id;
}

/** The images that the container's mounts name. @throws CriError NOT_FOUND for one that was not pulled. */
function volumeImagesOf(
  { mounts }: Pick<ContainerConfig, "mounts">,
  require: (name: string) => ImageRecord,
): ReadonlyMap<string, ImageRecord> {
  const names = mounts.flatMap(({ image }) => image?.image ? [image.image] : []);
  return new Map(names.map((name) => [name, require(name)]));
}
