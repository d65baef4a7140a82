import { join } from "@std/path";
import { CriError } from "../base/error.ts";
import type { OciImageConfig } from "../store/records.ts";

/** Larger image configurations do not occur; a bound keeps a hostile registry from filling memory. */
const MAX_JSON_BYTES = 4 * 1024 * 1024;

/** Media type of a SIF that Apptainer or SingularityCE pushed to a registry. */
const SIF_LAYER = "application/vnd.sylabs.sif.layer.v1.sif";

/** What the runtime needs to know of an image in an OCI image layout. */
export interface LayoutImage {
  /** `sha256:…` of the image configuration. */
  configDigest: string;
  config: OciImageConfig;
  /** `sha256:…` of the layers, the base first. */
  layerDigests: string[];
}

/**
 * Reads the only image of an OCI image layout directory (image-spec, image-layout.md).
 * @throws CriError FAILED_PRECONDITION when it is not one, or the image is a SIF.
 */
export async function readLayoutImage(directory: string): Promise<LayoutImage> {
  const index = await readJson(join(directory, "index.json"));
  const manifest = await readJson(blobPath(directory, digestAt(index, "manifests", 0)));
  if (records(manifest["layers"]).some((layer) => layer["mediaType"] === SIF_LAYER)) {
    throw new CriError(
      "FAILED_PRECONDITION",
      "Cannot use the image: it is a SIF that was pushed to a registry; name it by oras-repository.NAME.",
    );
  }
  const configDigest = digestAt(manifest, "config");
  const image = await readJson(blobPath(directory, configDigest));
  return {
    configDigest,
    layerDigests: records(manifest["layers"]).map((layer) => text(layer["digest"])),
    config: imageConfig(record(image["config"])),
  };
}

/** The `config` object of an OCI image configuration (image-spec, config.md); what it lacks is empty. */
export function imageConfig(config: Record<string, unknown>): OciImageConfig {
  return {
    user: text(config["User"]),
    env: texts(config["Env"]),
    entrypoint: texts(config["Entrypoint"]),
    cmd: texts(config["Cmd"]),
    workingDir: text(config["WorkingDir"]),
    labels: Object.fromEntries(
      Object.entries(record(config["Labels"])).map(([key, value]) => [key, text(value)]),
    ),
    stopSignal: text(config["StopSignal"]),
  };
}

/**
 * The digest of the SIF in an OCI layout directory.
 * @throws CriError FAILED_PRECONDITION when it holds something else, a container image for example.
 */
export async function sifLayerDigest(directory: string): Promise<string> {
  const index = await readJson(join(directory, "index.json"));
  const manifest = await readJson(blobPath(directory, digestAt(index, "manifests", 0)));
  const layer = records(manifest["layers"]).find((one) => one["mediaType"] === SIF_LAYER);
  if (layer !== undefined) return text(layer["digest"]);
  throw new CriError(
    "FAILED_PRECONDITION",
    "Cannot use the image: it holds no SIF, as one pushed by `apptainer push` does; name a container image by " +
      "docker-repository.NAME.",
  );
}

/** @throws CriError FAILED_PRECONDITION for a digest that cannot name a file. */
export function blobPath(directory: string, digest: string): string {
  if (!/^sha256:[0-9a-f]{64}$/.test(digest)) throw malformed(`the digest '${digest}'`);
  return join(directory, "blobs", "sha256", digest.slice("sha256:".length));
}

/**
 * Reads an OCI image configuration.
 * @throws CriError FAILED_PRECONDITION when it is not one.
 */
export function parseImageConfig(json: string): OciImageConfig {
  try {
    return imageConfig(record(record(JSON.parse(json))["config"]));
  } catch (error) {
    if (error instanceof SyntaxError) throw malformed("the image configuration");
    throw error;
  }
}

async function readJson(path: string): Promise<Record<string, unknown>> {
  try {
    const { size } = await Deno.stat(path);
    if (size > MAX_JSON_BYTES) throw malformed(`${path} of ${size} bytes`);
    return record(JSON.parse(await Deno.readTextFile(path)));
  } catch (error) {
    if (error instanceof SyntaxError || error instanceof Deno.errors.NotFound) {
      throw malformed(path);
    }
    throw error;
  }
}

function digestAt(json: Record<string, unknown>, key: string, index?: number): string {
  const value = json[key];
  const descriptor = index === undefined ? value : Array.isArray(value) ? value[index] : undefined;
  return text(record(descriptor)["digest"]);
}

function record(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null ? value as Record<string, unknown> : {};
}

function records(value: unknown): Record<string, unknown>[] {
  return Array.isArray(value) ? value.map(record) : [];
}

function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}

function texts(value: unknown): string[] {
  return Array.isArray(value) ? value.map(text) : [];
}

function malformed(what: string): CriError {
  return new CriError(
    "FAILED_PRECONDITION",
    `Cannot read the pulled image: ${what} is not as the OCI image layout wants it.`,
  );
}
