/** Writes OCI image layouts for the tests of this directory. */
import { join } from "@std/path";
import { pack } from "tar-stream";

export async function sha256(content: string | Uint8Array<ArrayBuffer>): Promise<string> {
  const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
  return `sha256:${new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex()}`;
}

/** A tar archive of files with these names. */
export async function tarOf(names: readonly string[]): Promise<Uint8Array<ArrayBuffer>> {
  const archive = pack();
  for (const name of names) archive.entry({ name }, "x".repeat(100_000));
  archive.finalize();
  const chunks: BlobPart[] = [];
  for await (const chunk of archive) chunks.push(chunk as Uint8Array<ArrayBuffer>);
  return new Uint8Array(await new Blob(chunks).arrayBuffer());
}

/** A layout of one image with this configuration and these layers; returns the configuration's digest. */
export async function writeLayout(
  directory: string,
  config: unknown,
  layers: readonly Uint8Array<ArrayBuffer>[] = [],
): Promise<string> {
  await Deno.mkdir(join(directory, "blobs", "sha256"), { recursive: true });
  const blob = async (content: unknown) => {
    const text = JSON.stringify(content);
    const digest = await sha256(text);
    await Deno.writeTextFile(join(directory, "blobs", digest.replace(":", "/")), text);
    return digest;
  };
  const configDigest = await blob(config);
  const layerDigests: { digest: string }[] = [];
  for (const layer of layers) {
    const digest = await sha256(layer);
    await Deno.writeFile(join(directory, "blobs", digest.replace(":", "/")), layer);
    layerDigests.push({ digest });
  }
  const manifest = await blob({
    schemaVersion: 2,
    config: { digest: configDigest },
    layers: layerDigests,
  });
  const index = { schemaVersion: 2, manifests: [{ digest: manifest }] };
  await Deno.writeTextFile(join(directory, "index.json"), JSON.stringify(index));
  return configDigest;
}
