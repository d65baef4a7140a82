import { findGo } from "../../scripts/go.ts";
import { exists } from "../../scripts/lab/files.ts";
import { withLock } from "../../scripts/lab/lock.ts";
import { defaultCache } from "../../scripts/lab/settings.ts";

/** The version of Kubernetes whose library the client uses. */
const CLIENT_GO = "v0.37.2";
const OLDEST_GO = [1, 26, 0] as const;

const SOURCE = new URL("stream_client.go", import.meta.url);

/**
 * The path of `stream_client`, built from its source beside this file on first use and kept in the cache.
 * @throws {Error} when the build fails; the message holds the compiler's last words.
 */
export async function ensureStreamClient(cache: string = defaultCache()): Promise<string> {
  const source = await Deno.readTextFile(SOURCE);
  const bytes = new TextEncoder().encode(CLIENT_GO + source);
  const version = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex().slice(0, 12);
  const path = `${cache}/clients/stream_client-${version}`;
  if (await exists(path)) return path;
  const work = `${cache}/clients-build/stream_client`;
  return await withLock(`${work}.lock`, () => {}, async () => {
    if (await exists(path)) return path;
    await Deno.mkdir(work, { recursive: true });
    await Deno.mkdir(`${cache}/clients`, { recursive: true });
    await Deno.writeTextFile(`${work}/main.go`, source);
    const goMod = `module multicri.test/stream_client\ngo ${
      OLDEST_GO.join(".")
    }\nrequire k8s.io/client-go ${CLIENT_GO}\n`;
    await Deno.writeTextFile(`${work}/go.mod`, goMod);
    const go = await findGo(OLDEST_GO, cache, () => {});
    await go(work, [
      "build",
      "-mod=mod",
      "-trimpath",
      "-ldflags=-s -w",
      "-o",
      "stream_client",
      ".",
    ]);
    await Deno.rename(`${work}/stream_client`, path);
    return path;
  });
}
