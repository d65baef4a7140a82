import { createHash } from "node:crypto";
import { join } from "@std/path";
import { ClusterImages } from "../../lib/adapters/slurm/cluster_images.ts";
import { systemClock } from "../../lib/base/clock.ts";
import { createLogger, writeStderrLine, writeStdoutLine } from "../../lib/base/log.ts";
import { createLocalExecutor } from "../../lib/executors/local.ts";
import { HostKeys } from "../../lib/executors/ssh/host_keys.ts";
import { OpenSsh } from "../../lib/executors/ssh/openssh.ts";
import { ClusterSession } from "../../lib/executors/ssh/session.ts";
import { PLAIN_SIF_CONFIG } from "../../lib/images/sif.ts";
import type { ImageRecord } from "../../lib/store/records.ts";
import type { Lab } from "../lab/lab.ts";
import { runOk } from "./run_ok.ts";
import { quantile } from "./samples.ts";

const MEGABYTE_SIZES = [50, 500];
/** Each way in turns, so that the machine's moods hit all alike. */
const TURNS = 7;
/** Images lie here, below the user's home directory; scp's copy beside them. */
const PLACE = "bench-upload";
const NO_MEANS = { prerun: "", launcher: [] };

/**
 * Uploads of images, by OpenSSH's client and without it, beside scp of the same file. Ours ask for the right to bring
 * the image, hash it when it is there, compare and land it; scp only copies.
 */
export async function benchUpload(lab: Lab): Promise<void> {
  const directory = await Deno.makeTempDir({ prefix: "bench-upload-" });
  const logger = createLogger({ threshold: "warning", write: writeStderrLine });
  const hostKeys = new HostKeys(join(directory, "known_hosts"), logger);
  const openSsh = await OpenSsh.find({
    executor: createLocalExecutor(),
    secretsDirectory: join(directory, "keys"),
    askpassPath: join(directory, "askpass"),
    knownHostsPath: hostKeys.path,
  }, logger);
  if (openSsh === undefined) throw new Error("There is no OpenSSH client.");
  const { host, port, user, privateKeyPath } = lab.login;
  const login = { host, port, user, privateKey: await Deno.readTextFile(privateKeyPath) };
  const sessions = [openSsh, undefined].map((openSsh) =>
    new ClusterSession(login, { hostKeys, logger, openSsh })
  );
  const place = join(lab.homePath, PLACE);
  const own = `/home/${user}/${PLACE}`;
  try {
    for (const session of sessions) await session.run(`mkdir -p ${PLACE}`);
    const file = join(directory, "image.sif");
    for (const megabytes of MEGABYTE_SIZES) {
      const image = await makeImage(file, megabytes * 1_000_000);
      const ours = (session: ClusterSession | undefined) => async () => {
        if (session === undefined) throw new Error("There is no session.");
        const places = { own, site: undefined, volume: undefined };
        const images = new ClusterImages(session, systemClock);
        const { signal } = new AbortController();
        await images.provide(image, places, NO_MEANS, signal, () => Promise.resolve());
      };
      const scp = () =>
        runOk([
          ...["scp", "-q", "-P", String(port), "-i", privateKeyPath],
          ...["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"],
          ...["-o", "LogLevel=ERROR", file, `${user}@${host}:${PLACE}/scp`],
        ]);
      const ways = { scp, multicri: ours(sessions[0]), "by ssh2": ours(sessions[1]) };
      const rates = new Map(Object.keys(ways).map((name) => [name, [] as number[]]));
      for (let turn = -1; turn < TURNS; turn++) {
        for (const [name, run] of Object.entries(ways)) {
          const begun = performance.now();
          await run();
          const rate = megabytes * 1000 / (performance.now() - begun);
          // The first turn fills caches and compiles.
          if (turn >= 0) rates.get(name)?.push(rate);
          for await (const { name } of Deno.readDir(place)) await Deno.remove(join(place, name));
        }
      }
      const p50 = (name: string) => quantile(rates.get(name) ?? [], 0.5);
      const shown = [...rates.keys()].map((name) =>
        `${name} ${p50(name).toFixed(0)} MB/s (ratio ${(p50(name) / p50("scp")).toFixed(2)})`
      );
      writeStdoutLine(`upload of ${megabytes} MB, p50 of ${TURNS}: ${shown.join(", ")}`);
    }
  } finally {
    for (const session of sessions) {
      await session.run(`rm -rf ${PLACE}`).catch(() => {});
      await session.close();
    }
    await Deno.remove(directory, { recursive: true });
  }
}

/** Bytes that nobody has seen, as an image of the pool. */
async function makeImage(path: string, sizeBytes: number): Promise<ImageRecord> {
  const hash = createHash("sha256");
  using file = await Deno.open(path, { write: true, create: true, truncate: true });
  for (let written = 0; written < sizeBytes;) {
    const piece = crypto.getRandomValues(new Uint8Array(Math.min(65_536, sizeBytes - written)));
    hash.update(piece);
    for (let at = 0; at < piece.length;) at += await file.write(piece.subarray(at));
    written += piece.length;
  }
  const sha256 = hash.digest("hex");
  return {
    id: `sha256:${sha256}`,
    names: [],
    repoDigests: [],
    sif: { path, sizeBytes, sha256 },
    config: PLAIN_SIF_CONFIG,
    hasShell: true,
    pulledAtMs: 0,
    removed: false,
  };
}
