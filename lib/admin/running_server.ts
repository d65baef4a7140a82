import type { Clock } from "../base/clock.ts";
import { CriError } from "../base/error.ts";
import type { Logger } from "../base/log.ts";
import {
  ListContainersResponse,
  ListImagesResponse,
  ListPodSandboxResponse,
  UpdateContainerResourcesRequest,
} from "../cri/api.generated.ts";
import { methodOf } from "../cri/service.ts";
import { RemoteRuntime } from "../remote/remote_runtime.ts";
import { ABANDON_ANNOTATION } from "../runtime/container_update.ts";

/** The server's longest call is a stop, which the container must wait for, of about a minute. */
const CALL_TIMEOUT_MS = 120_000;

/** This node's server, which may be down, spoken to through its CRI socket. */
export class RunningServer {
  readonly #remote: RemoteRuntime;

  constructor(readonly socketPath: string, readonly clock: Clock, readonly log: Logger) {
    this.#remote = new RemoteRuntime({ name: "multicri", socketPath }, clock, log);
  }

  /** Looks whether it is there. */
  async connect(): Promise<void> {
    await this.#remote.start();
  }

  /** The ids of all containers and pod sandboxes it has records of; undefined when it does not answer. */
  async knownIds(): Promise<Set<string> | undefined> {
    if (this.#remote.state.kind !== "up") return undefined;
    const { containers } = ListContainersResponse.decode(await this.#all("listContainers"));
    const { items } = ListPodSandboxResponse.decode(await this.#all("listPodSandbox"));
    return new Set([...containers, ...items].map(({ id }) => id));
  }

  /** The names of this node's images by their ids' hexadecimal digits; undefined when it does not answer. */
  async imageNames(): Promise<Map<string, string[]> | undefined> {
    if (this.#remote.state.kind !== "up") return undefined;
    const { images } = ListImagesResponse.decode(await this.#all("listImages"));
    return new Map(images.map(({ id, repoTags, repoDigests }) => [
      // With other runtimes on the node, "@" and the runtime's name follow.
      id.replace(/^sha256:/, "").replace(/@.*$/s, ""),
      repoTags.length > 0 ? repoTags : repoDigests,
    ]));
  }

  #all(verb: "listContainers" | "listPodSandbox" | "listImages"): Promise<Uint8Array> {
    return this.#remote.unary(methodOf(verb), new Uint8Array(), this.#context());
  }

  /** Lets it give a container up. @throws CriError UNAVAILABLE when it does not answer, NOT_FOUND. */
  async abandon(containerId: string): Promise<void> {
    if (this.#remote.state.kind !== "up") {
      throw new CriError(
        "UNAVAILABLE",
        `Cannot abandon the container ${containerId}: the server must run, and it does not answer at ` +
          `${this.socketPath}.`,
      );
    }
    const annotations = { [ABANDON_ANNOTATION]: "true" };
    const request = UpdateContainerResourcesRequest.encode(
      UpdateContainerResourcesRequest.fromPartial({ containerId, annotations }),
    ).finish();
    await this.#remote.unary(methodOf("updateContainerResources"), request, this.#context());
  }

  async close(): Promise<void> {
    await this.#remote.close();
  }

  #context() {
    return {
      log: this.log,
      signal: AbortSignal.timeout(CALL_TIMEOUT_MS),
      deadlineMs: this.clock.now() + CALL_TIMEOUT_MS,
    };
  }
}
