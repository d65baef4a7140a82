import { dirname } from "@std/path";
import { Mutex } from "async-mutex";
import { CriError, messageOf } from "../../base/error.ts";
import type { Logger } from "../../base/log.ts";
import {
  equalBytes,
  findKnownHosts,
  fingerprint,
  firstDamagedLine,
  formatKnownHost,
  keyType,
  type KnownHost,
} from "./known_hosts.ts";

/** A file with more is not a list of hosts; reading it at every login would stall the process. */
const MAX_KNOWN_HOSTS_BYTES = 4 * 1024 * 1024;

/**
 * The host keys we trust, in a file in known_hosts format. The first key a host shows is recorded and
 * logged; from then on the host must show it again. The file may be edited by hand at any time.
 *
 * One instance a file: concurrent first uses are put in order by it.
 */
export class HostKeys {
  readonly #mutex = new Mutex();

  /** The folder of `path` must exist; the file is made when the first key is recorded. */
  constructor(readonly path: string, private readonly logger: Logger) {}

  /**
   * The types of the keys recorded for this host. Key negotiation must prefer them: a server has keys
   * of several types, and one we have not recorded would look like a change.
   * @throws CriError FAILED_PRECONDITION when the file cannot be read.
   */
  async recordedTypes(host: string, port: number): Promise<string[]> {
    const entries = findKnownHosts(await this.#read(), host, port);
    const types = entries.filter((entry) => entry.marker === "").map((entry) => entry.type);
    return [...new Set(types)];
  }

  /**
   * Resolves when the host is known by `key` (SSH wire format), or unknown until now and recorded.
   * @throws CriError FAILED_PRECONDITION when another key is recorded, when the key is revoked, or when
   * the file cannot be read or written.
   */
  check(host: string, port: number, key: Uint8Array): Promise<void> {
    return this.#mutex.runExclusive(async () => {
      const text = await this.#read();
      const entries = findKnownHosts(text, host, port);
      const same = entries.filter((entry) => entry.key !== undefined && equalBytes(entry.key, key));
      const revoked = same.find((entry) => entry.marker === "@revoked");
      if (revoked !== undefined) {
        throw new CriError(
          "FAILED_PRECONDITION",
          `Cannot log in to ${host}:${port} as its host key ${
            fingerprint(key)
          } is marked @revoked ` +
            `at ${this.path}:${revoked.lineNumber}`,
        );
      }
      if (same.some((entry) => entry.marker === "")) return;
      const recorded = entries.filter((entry) => entry.marker === "");
      const other = recorded.find((entry) => entry.type === keyType(key)) ?? recorded[0];
      if (other !== undefined) throw this.#changed(host, port, key, other);
      const damaged = firstDamagedLine(text);
      if (damaged !== undefined) {
        // It may have named this very host: trusting it anew would undo the pinning.
        throw new CriError(
          "FAILED_PRECONDITION",
          `Cannot tell whether ${host}:${port} is known as every line must name a host key: ` +
            `${this.path}:${damaged} does not. Repair that line or delete it`,
        );
      }
      await this.#write(
        text + (text === "" || text.endsWith("\n") ? "" : "\n") +
          formatKnownHost(host, port, key),
      );
      this.logger.info("Recorded the host key of a cluster seen for the first time", {
        host: `${host}:${port}`,
        type: keyType(key),
        fingerprint: fingerprint(key),
        file: this.path,
      });
    });
  }

  #changed(host: string, port: number, key: Uint8Array, recorded: KnownHost): CriError {
    const expected = recorded.key === undefined
      ? "an unreadable key"
      : `${recorded.type} ${fingerprint(recorded.key)}`;
    return new CriError(
      "FAILED_PRECONDITION",
      `Cannot trust ${host}:${port} as its host key must be ${expected}, recorded at ` +
        `${this.path}:${recorded.lineNumber}: the server shows ${keyType(key)} ${
          fingerprint(key)
        }. ` +
        `If its administrator confirms the new key, delete that line`,
    );
  }

  async #read(): Promise<string> {
    try {
      const bytes = await Deno.readFile(this.path);
      if (bytes.length > MAX_KNOWN_HOSTS_BYTES) {
        throw new Error(`it is longer than ${MAX_KNOWN_HOSTS_BYTES} bytes`);
      }
      return new TextDecoder().decode(bytes);
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return "";
      throw new CriError(
        "FAILED_PRECONDITION",
        `Cannot check host keys as ${this.path} must be a readable known_hosts file: ${
          messageOf(error)
        }`,
        { cause: error },
      );
    }
  }

  /** Replaces the file by a whole new one, so that a crash leaves the old or the new, never a part. */
  async #write(text: string): Promise<void> {
    const temporary = `${this.path}.${crypto.randomUUID()}.part`;
    try {
      await writeDurably(temporary, text);
      await Deno.rename(temporary, this.path);
    } catch (error) {
      await Deno.remove(temporary).catch(() => {
        // It was not made, or cannot be removed either: the error above says what is wrong.
      });
      throw new CriError(
        "FAILED_PRECONDITION",
        `Cannot record a host key as ${dirname(this.path)} must be a folder we can write to: ${
          messageOf(error)
        }`,
        { cause: error },
      );
    }
  }
}

async function writeDurably(path: string, text: string): Promise<void> {
  using file = await Deno.open(path, { write: true, createNew: true, mode: 0o600 });
  let bytes = new TextEncoder().encode(text);
  while (bytes.length > 0) bytes = bytes.subarray(await file.write(bytes));
  await file.sync();
}
