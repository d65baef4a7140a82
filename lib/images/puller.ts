import { createHash } from "node:crypto";
import { join } from "@std/path";
import { CriError } from "../base/error.ts";
import type { Logger } from "../base/log.ts";
import type { Executor, RunResult } from "../executors/executor.ts";
import type { OciImageConfig } from "../store/records.ts";
import type { RegistryAuth } from "./credentials.ts";
import { readLayoutImage } from "./oci_layout.ts";
import { hasShell } from "./shell_scan.ts";

/** A pull that takes longer is given up; the kubelet sets no deadline of its own. */
const PULL_TIMEOUT_MS = 2 * 3600 * 1000;
/** A manifest must arrive at once. */
const MANIFEST_TIMEOUT_MS = 2 * 60 * 1000;

/** The image of a registry: `digest`, where given, wins over `tag`. */
export interface RegistryImage {
  registry: string;
  repository: string;
  tag?: string | undefined;
  digest?: string | undefined;
}

/** The programs a pull needs, by the names they have in PATH. */
export interface ImageTools {
  apptainer: string;
  skopeo: string;
}

/** A SIF that was built and not yet put into the pool. */
export interface BuiltImage {
  id: string;
  config: OciImageConfig;
  sifPath: string;
  sizeBytes: number;
  sha256: string;
  hasShell: boolean;
}

/**
 * Pulls from registries: skopeo resolves and downloads (so that registries.conf(5) and mirrors work as on
 * any node), Apptainer builds the SIF from the downloaded layout.
 */
export class Puller {
  constructor(
    readonly executor: Executor,
    readonly tools: ImageTools,
    readonly log: Logger,
  ) {}

  /**
   * The digest of the manifest, or manifest list, that the image's name stands for now.
   * @throws CriError NOT_FOUND, UNAUTHENTICATED or UNAVAILABLE.
   */
  async resolve(
    image: RegistryImage,
    auth: RegistryAuth | undefined,
    workDir: string,
    signal: AbortSignal,
  ): Promise<string> {
    // Also for a digest: only the registry may say whether these credentials reach the image.
    const version = image.digest === undefined ? `:${image.tag ?? "latest"}` : `@${image.digest}`;
    const source = `docker://${image.registry}/${image.repository}${version}`;
    const result = await this.#skopeo(["inspect", "--raw", source], {
      image,
      auth,
      workDir,
      timeoutMs: MANIFEST_TIMEOUT_MS,
      signal,
    });
    return `sha256:${createHash("sha256").update(result.stdout).digest("hex")}`;
  }

  /** Downloads the image with this digest into `workDir` and reads what it is. */
  async download(
    image: RegistryImage,
    digest: string,
    auth: RegistryAuth | undefined,
    workDir: string,
    signal: AbortSignal,
  ): Promise<{ id: string; config: OciImageConfig }> {
    const layout = join(workDir, "layout");
    const source = `docker://${image.registry}/${image.repository}@${digest}`;
    await this.#skopeo(["copy", "--quiet", source, `oci:${layout}`], {
      image,
      auth,
      workDir,
      timeoutMs: PULL_TIMEOUT_MS,
      signal,
    });
    const { configDigest, config } = await readLayoutImage(layout);
    return { id: configDigest, config };
  }

  /**
   * Builds the SIF from what `download` left in `workDir`.
   * @throws CriError INTERNAL with Apptainer's own last words.
   */
  async build(workDir: string, signal: AbortSignal): Promise<Omit<BuiltImage, "id" | "config">> {
    const sifPath = join(workDir, "image.sif");
    const result = await this.executor.run(
      [this.tools.apptainer, "--quiet", "build", sifPath, `oci:${join(workDir, "layout")}`],
      {
        env: { APPTAINER_TMPDIR: workDir, APPTAINER_CACHEDIR: join(workDir, "cache") },
        timeoutMs: PULL_TIMEOUT_MS,
        signal,
      },
    );
    if (result.code !== 0) {
      throw new CriError("INTERNAL", `Cannot build the SIF: apptainer says: ${lastWords(result)}`);
    }
    const { size } = await Deno.stat(sifPath);
    const layout = join(workDir, "layout");
    const { layerDigests } = await readLayoutImage(layout);
    return {
      sifPath,
      sizeBytes: size,
      sha256: await fileSha256(sifPath),
      hasShell: await hasShell(layout, layerDigests),
    };
  }

  async #skopeo(
    args: readonly string[],
    options: {
      image: RegistryImage;
      auth: RegistryAuth | undefined;
      workDir: string;
      timeoutMs: number;
      signal: AbortSignal;
    },
  ): Promise<RunResult> {
    // The file always exists, so that skopeo never falls back to credentials of the root user.
    const authFile = join(options.workDir, "auth.json");
    const auths = options.auth === undefined ? {} : { [options.image.registry]: options.auth };
    await Deno.writeTextFile(authFile, JSON.stringify({ auths }), { mode: 0o600 });
    try {
      const result = await this.executor.run([this.tools.skopeo, ...args], {
        env: { REGISTRY_AUTH_FILE: authFile },
        timeoutMs: options.timeoutMs,
        signal: options.signal,
      });
      if (result.code !== 0) throw pullError(options.image, result);
      return result;
    } finally {
      await Deno.remove(authFile);
    }
  }
}

/**
 * What registries say, in the words of the distribution specification or as an HTTP status. Bare numbers
 * would be found in ports and digests, and "denied" in what this node's own files say.
 */
const NO_SUCH_IMAGE =
  /manifest unknown|name unknown|status(?: code)?\D{0,20}\b404\b|\(Not Found\)/i;
const REFUSED =
  /unauthorized|authentication required|(?<!permission )denied|forbidden|status(?: code)?\D{0,20}\b40[13]\b/i;

/** Says what skopeo's error means to a client, naming registry and repository only. */
function pullError(image: RegistryImage, result: RunResult): CriError {
  const words = lastWords(result);
  const name = `${image.repository}${
    image.digest ? `@${image.digest}` : `:${image.tag ?? "latest"}`
  }`;
  if (NO_SUCH_IMAGE.test(words)) {
    return new CriError(
      "NOT_FOUND",
      `Cannot pull ${name} from ${image.registry}: the registry has no such image.`,
    );
  }
  if (REFUSED.test(words)) {
    return new CriError(
      "UNAUTHENTICATED",
      `Cannot pull ${name} from ${image.registry}: the registry refuses the credentials, or wants some.`,
    );
  }
  return new CriError(
    "UNAVAILABLE",
    `Cannot pull ${name} from ${image.registry}: skopeo says: ${words}`,
  );
}

/** skopeo and apptainer log `time=… level=fatal msg="…"`; the message is what a person needs. */
function lastWords(result: RunResult): string {
  const lines = new TextDecoder().decode(result.stderr).trim().split("\n");
  const last = lines.at(-1) ?? "";
  const message = /msg="((?:[^"\\]|\\.)*)"/.exec(last)?.[1]?.replaceAll('\\"', '"');
  return (message ?? last.trim()).slice(0, 1000) || `nothing, exit code ${result.code}`;
}

async function fileSha256(path: string): Promise<string> {
  const hash = createHash("sha256");
  using file = await Deno.open(path, { read: true });
  const buffer = new Uint8Array(1024 * 1024);
  for (;;) {
    const read = await file.read(buffer);
    if (read === null) return hash.digest("hex");
    hash.update(buffer.subarray(0, read));
  }
}
