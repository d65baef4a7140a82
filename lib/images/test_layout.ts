/** Writes OCI image layouts for the tests of this directory. */
import { join } from "@std/path";

export async function sha256(text: string): Promise<string> {
  const bytes = new TextEncoder().encode(text);
  return `sha256:${new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex()}`;
}

/** A layout of one image with this configuration; returns the configuration's digest. */
export async function writeLayout(directory: string, config: unknown): Promise<string> {
  await Deno.mkdir(join(directory, "blobs", "sha256"), { recursive: true });
  const blob = async (content: unknown) => {
    const text = JSON.stringify(content);
    const digest = await sha256(text);
    await Deno.writeTextFile(join(directory, "blobs", digest.replace(":", "/")), text);
    return digest;
  };
  const configDigest = await blob(config);
  const manifest = await blob({ schemaVersion: 2, config: { digest: configDigest }, layers: [] });
  const index = { schemaVersion: 2, manifests: [{ digest: manifest }] };
  await Deno.writeTextFile(join(directory, "index.json"), JSON.stringify(index));
  return configDigest;
}
