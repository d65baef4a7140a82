import { pack } from "tar-stream";

/** The parts of an OCI image configuration (image-spec, config.md) that the lab's images set. */
export interface ImageConfig {
  Env?: string[];
  Entrypoint?: string[];
  Cmd?: string[];
  WorkingDir?: string;
  User?: string;
  Labels?: Record<string, string>;
}

/** One entry of a layer; all belong to root. `mode` has the permission bits, set-user-id included. */
export type LayerEntry =
  | { path: string; mode: number; type: "file"; content: string | Uint8Array }
  | { path: string; mode: number; type: "directory" }
  | { path: string; type: "symlink" | "link"; target: string };

/** A layer as a tar file; the same bytes serve all images that share it. */
export type Layer = Uint8Array<ArrayBuffer>;

/** An image of a layout: the name that skopeo's `oci:folder:name` selects it by, and what it is made of. */
export interface LayoutImage {
  name: string;
  layers: Layer[];
  config: ImageConfig;
}

/** Fixed dates let the same recipe have the same digest. */
const CREATED = "2024-01-01T00:00:00Z";

/** Packs entries, in their order, as a layer (image-spec, layer.md). Paths may begin with a slash. */
export async function packLayer(entries: readonly LayerEntry[]): Promise<Layer> {
  const tar = pack();
  for (const entry of entries) {
    const common = { name: entry.path.replace(/^\//, ""), mtime: new Date(0), uid: 0, gid: 0 };
    if (entry.type === "file") {
      const { content, mode } = entry;
      const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
      tar.entry({ ...common, type: "file", mode, size: bytes.length }, bytes);
    } else if (entry.type === "directory") {
      tar.entry({ ...common, type: "directory", mode: entry.mode });
    } else {
      tar.entry({ ...common, type: entry.type, mode: 0o777, linkname: entry.target });
    }
  }
  tar.finalize();
  const chunks: BlobPart[] = [];
  for await (const chunk of tar) chunks.push(chunk as Uint8Array<ArrayBuffer>);
  return new Uint8Array(await new Blob(chunks).arrayBuffer());
}

/** Writes images as one OCI layout (image-spec, image-layout.md) into an empty or missing folder. */
export async function writeLayout(folder: string, images: readonly LayoutImage[]): Promise<void> {
  await Deno.mkdir(`${folder}/blobs/sha256`, { recursive: true });
  const blob = async (mediaType: string, bytes: Uint8Array<ArrayBuffer>) => {
    const hash = await sha256(bytes);
    await Deno.writeFile(`${folder}/blobs/sha256/${hash}`, bytes);
    return { mediaType, digest: `sha256:${hash}`, size: bytes.length };
  };
  const vendor = "application/vnd.oci.image";
  const written = new Map<Layer, { diffId: string; descriptor: unknown }>();
  const writeLayer = async (layer: Layer) => {
    const descriptor = await blob(`${vendor}.layer.v1.tar+gzip`, await gzip(layer));
    const result = { diffId: `sha256:${await sha256(layer)}`, descriptor };
    written.set(layer, result);
    return result;
  };

  const manifests: unknown[] = [];
  for (const { name, layers, config } of images) {
    const done = [];
    for (const layer of layers) done.push(written.get(layer) ?? await writeLayer(layer));
    const manifestType = `${vendor}.manifest.v1+json`;
    const manifest = {
      schemaVersion: 2,
      mediaType: manifestType,
      config: await blob(
        `${vendor}.config.v1+json`,
        json(imageConfig(config, done.map(({ diffId }) => diffId))),
      ),
      layers: done.map(({ descriptor }) => descriptor),
    };
    const annotations = { "org.opencontainers.image.ref.name": name };
    manifests.push({ ...await blob(manifestType, json(manifest)), annotations });
  }
  await Deno.writeFile(`${folder}/index.json`, json({ schemaVersion: 2, manifests }));
  await Deno.writeFile(`${folder}/oci-layout`, json({ imageLayoutVersion: "1.0.0" }));
}

function imageConfig(config: ImageConfig, diffIds: string[]): Record<string, unknown> {
  return {
    created: CREATED,
    architecture: Deno.build.arch === "aarch64" ? "arm64" : "amd64",
    os: "linux",
    config,
    rootfs: { type: "layers", diff_ids: diffIds },
    history: diffIds.map(() => ({ created: CREATED })),
  };
}

function json(value: unknown): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(JSON.stringify(value));
}

async function sha256(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
}

async function gzip(bytes: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>> {
  const packed = new Blob([bytes]).stream().pipeThrough(new CompressionStream("gzip"));
  return new Uint8Array(await new Response(packed).arrayBuffer());
}
