import type { Clock } from "../base/clock.ts";
import type { Logger } from "../base/log.ts";
import type { Config } from "../config/flags.ts";
import { OWN_NAME } from "../config/remotes.ts";
import type { CriBackend } from "../cri/service.ts";
import { type Heartbeat, RemoteRuntime } from "../remote/remote_runtime.ts";
import { ownBackend, RemoteBackend } from "./backend.ts";
import { DEFAULT_REMOTE, Handlers } from "./handlers.ts";
import { Owners, type OwnRecords } from "./owners.ts";
import { Router } from "./router.ts";
import { Memory } from "./memory.ts";

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
  heartbeat?: Heartbeat,
): Promise<OpenRouter> {
  if (config.remotes.length === 0) return { backend: ownCri, close: () => Promise.resolve() };
  // The image ids of the default backend stay as they are.
  const hasDefault = config.remotes.some(({ name }) => name === DEFAULT_REMOTE);
  const own = ownBackend(OWN_NAME, ownCri, hasDefault);
  const remotes = config.remotes.map((endpoint) =>
    new RemoteBackend(
      new RemoteRuntime(endpoint, clock, log, heartbeat),
      clock,
      log,
      endpoint.name !== DEFAULT_REMOTE,
    )
  );
  const memories = remotes.map((remote) => new Memory(remote, config.stateDir, clock, log));
  for (const memory of memories) memory.restore();
  await Promise.all(remotes.map(async (remote) => {
    await remote.remote.start();
    await remote.learn();
  }));
  for (const memory of memories) memory.start();
  const handlers = new Handlers(own, remotes, config.runtimeHandlers);
  const owners = new Owners(own, records, remotes, clock);
  return {
    backend: new Router({ own, remotes, handlers, owners, clock, log }),
    close: async () => {
      await Promise.all(remotes.map((remote) => remote.close()));
      await Promise.all(memories.map((memory) => memory.close()));
    },
  };
}
