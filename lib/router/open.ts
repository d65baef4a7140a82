import { join } from "@std/path";
import type { Clock } from "../base/clock.ts";
import { messageOf } from "../base/error.ts";
import type { Logger } from "../base/log.ts";
import type { Config } from "../config/flags.ts";
import { OWN_NAME } from "../config/remotes.ts";
import type { CriBackend } from "../cri/service.ts";
import { RemoteRuntime } from "../remote/remote_runtime.ts";
import { ownBackend, RemoteBackend } from "./backend.ts";
import { DEFAULT_REMOTE, Handlers } from "./handlers.ts";
import { Owners, type OwnRecords } from "./owners.ts";
import { Router } from "./router.ts";

/** The CRI that a client sees, and its end. */
export interface OpenRouter {
  backend: CriBackend;
  /** Closes the connections, once the server has no more calls. */
  close(): Promise<void>;
}

/**
 * Joins our own runtime with the remote ones of the configuration. Resolves when each was looked at once: a client
 * must not see a list that misses what runs. Without remote runtimes our own is the whole.
 */
export async function openRouter(
  config: Config,
  ownCri: CriBackend,
  records: OwnRecords,
  clock: Clock,
  log: Logger,
): Promise<OpenRouter> {
  if (config.remotes.length === 0) return { backend: ownCri, close: () => Promise.resolve() };
  // The image ids of the default backend stay as they are.
  const hasDefault = config.remotes.some(({ name }) => name === DEFAULT_REMOTE);
  const own = ownBackend(OWN_NAME, ownCri, hasDefault);
  const remotes = config.remotes.map((endpoint) =>
    new RemoteBackend(
      new RemoteRuntime(endpoint, clock, log),
      clock,
      log,
      endpoint.name !== DEFAULT_REMOTE,
    )
  );
  const handlers = new Handlers(own, remotes, config.runtimeHandlers);
  const owners = new Owners(own, records, remotes, clock);
  const backend = new Router({ own, remotes, handlers, owners, clock, log });
  const pathOf = ({ name }: RemoteBackend) => join(config.stateDir, `last-known-${name}.json`);
  const save = (remote: RemoteBackend) => {
    try {
      writeWhole(pathOf(remote), JSON.stringify(remote.known));
    } catch (error) {
      log.error("Cannot keep what was last known of a remote runtime", {
        runtime: remote.name,
        error: messageOf(error),
      });
    }
  };
  for (const remote of remotes) {
    restore(remote, pathOf(remote), log);
    remote.remote.onChange(({ kind }) => {
      if (kind === "down" || kind === "hanging") save(remote);
    });
  }
  await Promise.all(remotes.map(async (remote) => {
    await remote.remote.start();
    await remote.learn();
  }));
  return {
    backend,
    close: async () => {
      await Promise.all(remotes.map((remote) => remote.close()));
      for (const remote of remotes) save(remote);
    },
  };
}

/** What an earlier process knew stands until the runtime answers this one. */
function restore({ name, known }: RemoteBackend, path: string, log: Logger): void {
  try {
    known.restore(JSON.parse(Deno.readTextFileSync(path)));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return;
    log.warning("What was last known of a remote runtime cannot be read", {
      runtime: name,
      path,
      error: messageOf(error),
    });
  }
}

function writeWhole(path: string, text: string): void {
  Deno.writeTextFileSync(`${path}.new`, text, { mode: 0o600 });
  Deno.renameSync(`${path}.new`, path);
}
