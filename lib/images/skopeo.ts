import { createHash } from "node:crypto";
import { join } from "@std/path";
import { CriError } from "../base/error.ts";
import type { Executor, RunResult } from "../executors/executor.ts";
import { isBearerToken, type RegistryCredentials } from "./credentials.ts";
import { TokenRelay } from "./token_relay.ts";
import { diskIsFull, DOWNLOAD_TIMEOUT_MS, fullDiskError, lastWords } from "./tool_error.ts";

/** A manifest must arrive at once. */
const MANIFEST_TIMEOUT_MS = 2 * 60 * 1000;

/** The image of a registry: `digest`, where given, wins over `tag`. */
export interface RegistryImage {
  registry: string;
  repository: string;
  tag?: string | undefined;
  digest?: string | undefined;
}

/** How a registry is asked. */
export interface RegistryAccess {
  auth: RegistryCredentials | undefined;
  /** Why credentials that came are none of these (`whyNotSent`). */
  notSent?: string | undefined;
  /** For the file with the credentials, which goes again. */
  workDir: string;
  signal: AbortSignal;
}

/** Asks registries by skopeo, so that registries.conf(5), mirrors and certificates work as on any node. */
export class Skopeo {
  constructor(
    readonly executor: Executor,
    readonly program: string,
    /** containers-auth.json(5) of the node, for images that come without credentials. */
    readonly nodeAuthFile?: string,
  ) {}

  /**
   * The digest of the manifest, or manifest list, that the image's name stands for now.
   * @throws CriError NOT_FOUND, UNAUTHENTICATED or UNAVAILABLE.
   */
  async resolve(image: RegistryImage, access: RegistryAccess): Promise<string> {
    // Also for a digest: only the registry may say whether these credentials reach the image.
    const version = image.digest === undefined ? `:${image.tag ?? "latest"}` : `@${image.digest}`;
    const source = `docker://${image.registry}/${image.repository}${version}`;
    const args = ["inspect", "--raw", source];
    const result = await this.#run(args, image, access, MANIFEST_TIMEOUT_MS);
    return `sha256:${createHash("sha256").update(result.stdout).digest("hex")}`;
  }

  /**
   * Copies what has this digest into an OCI layout directory.
   * @throws CriError as `resolve`, and RESOURCE_EXHAUSTED when the disk is full.
   */
  async copy(
    image: RegistryImage,
    digest: string,
    layout: string,
    access: RegistryAccess,
  ): Promise<void> {
    const source = `docker://${image.registry}/${image.repository}@${digest}`;
    await this.#run(
      ["copy", "--quiet", source, `oci:${layout}`],
      image,
      access,
      DOWNLOAD_TIMEOUT_MS,
    );
  }

  /** Whether credentials are or may be sent, so that who has none cannot pull in our place. */
  mayNeedCredentials({ auth }: RegistryAccess): boolean {
    return auth !== undefined || this.nodeAuthFile !== undefined;
  }

  /** The OCI image configuration of what has this digest, as it came. @throws CriError as `resolve`. */
  async configuration(
    image: RegistryImage,
    digest: string,
    access: RegistryAccess,
  ): Promise<Uint8Array> {
    const source = `docker://${image.registry}/${image.repository}@${digest}`;
    const args = ["inspect", "--config", "--raw", source];
    return (await this.#run(args, image, access, MANIFEST_TIMEOUT_MS)).stdout;
  }

  async #run(
    args: readonly string[],
    image: RegistryImage,
    { auth, notSent, workDir, signal }: RegistryAccess,
    timeoutMs: number,
  ): Promise<RunResult> {
    const useNodeFile = auth === undefined && this.nodeAuthFile !== undefined;
    // A file is always named, so that skopeo never falls back to credentials of the root user.
    const authFile = useNodeFile ? this.nodeAuthFile ?? "" : join(workDir, "auth.json");
    const registriesFile = join(workDir, "registries.conf");
    const { registry, repository } = image;
    await using relay = isBearerToken(auth)
      ? await TokenRelay.open(registry, repository, auth.registryToken)
      : undefined;
    const auths = relay !== undefined
      ? { [relay.address]: relay.login }
      : auth === undefined
      ? {}
      : { [registry]: auth };
    try {
      if (!useNodeFile) {
        await Deno.writeTextFile(authFile, JSON.stringify({ auths }), { mode: 0o600 });
      }
      const toRelay = [];
      if (relay !== undefined) {
        await Deno.writeTextFile(registriesFile, relay.registriesConf(registry));
        toRelay.push("--registries-conf", registriesFile);
      }
      const result = await this.executor.run([this.program, ...toRelay, ...args], {
        env: { REGISTRY_AUTH_FILE: authFile },
        timeoutMs,
        signal,
      });
      if (result.code !== 0) throw pullError(image, result, notSent, relay);
      return result;
    } finally {
      if (!useNodeFile) await Deno.remove(authFile);
      if (relay !== undefined) await Deno.remove(registriesFile);
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
function pullError(
  image: RegistryImage,
  result: RunResult,
  notSent: string | undefined,
  relay: TokenRelay | undefined,
): CriError {
  const words = relay === undefined
    ? lastWords(result)
    : lastWords(result).replaceAll(relay.address, image.registry);
  const name = `${image.repository}${
    image.digest ? `@${image.digest}` : `:${image.tag ?? "latest"}`
  }`;
  if (diskIsFull(words)) return fullDiskError(`pull ${name} from ${image.registry}`);
  if (relay?.failure !== undefined) {
    return new CriError(
      "UNAVAILABLE",
      `Cannot pull ${name} from ${image.registry}: ${relay.failure}.`,
    );
  }
  if (NO_SUCH_IMAGE.test(words)) {
    return new CriError(
      "NOT_FOUND",
      `Cannot pull ${name} from ${image.registry}: the registry has no such image.`,
    );
  }
  if (REFUSED.test(words)) {
    return new CriError(
      "UNAUTHENTICATED",
      `Cannot pull ${name} from ${image.registry}: the registry ${
        notSent === undefined
          ? "refuses the credentials, or wants some."
          : `wants credentials; those that came were not sent: ${notSent}.`
      }`,
    );
  }
  return new CriError(
    "UNAVAILABLE",
    `Cannot pull ${name} from ${image.registry}: skopeo says: ${words}`,
  );
}
