/** A typed client of CRI over its wire, and pods and containers as tests make them. */
import { status as GrpcStatus } from "@grpc/grpc-js";
import { delay } from "@std/async/delay";
import {
  type ContainerConfig,
  ContainerState,
  type ContainerStatus,
  type DeepPartial,
  PodSandboxConfig,
} from "../lib/cri/api.generated.ts";
import { methodOf, type RequestOf, type ResponseOf, type RpcKey } from "../lib/cri/service.ts";
import { type CallSettings, TestClient } from "../lib/server/test_client.ts";

/** Longer than any container of the tests lives. */
const EXIT_TIMEOUT_MS = 60_000;
const POLL_MS = 100;

/** The lab's busybox, which every runtime finds at its mirror of docker.io. */
export const IMAGE = "docker.io/lab/busybox:1";

/** A client of one runtime's socket. */
export class CriClient {
  readonly #client: TestClient;
  #names = 0;

  /** @param socketPath As a path on the machine. */
  constructor(socketPath: string) {
    this.#client = new TestClient(socketPath);
  }

  close(): void {
    this.#client.close();
  }

  /** Calls an RPC. Rejects with grpc-js' ServiceError. */
  async call<K extends RpcKey>(
    key: K,
    request: DeepPartial<RequestOf<K>> = {} as DeepPartial<RequestOf<K>>,
    settings: CallSettings = {},
  ): Promise<ResponseOf<K>> {
    const method = methodOf(key);
    const bytes = method.request.encode(method.request.fromPartial(request as never)).finish();
    return method.response.decode(
      await this.#client.unary(method.name, bytes, settings),
    ) as ResponseOf<K>;
  }

  /** "OK", or the name of the error's code. */
  async outcome<K extends RpcKey>(key: K, request: DeepPartial<RequestOf<K>>): Promise<string> {
    return await this.call(key, request).then(
      () => "OK",
      (error: { code?: number }) => GrpcStatus[error.code ?? GrpcStatus.UNKNOWN] ?? "UNKNOWN",
    );
  }

  /** The configuration of a pod that no other has. */
  podConfig(changes: DeepPartial<PodSandboxConfig> = {}): PodSandboxConfig {
    const uid = crypto.randomUUID();
    return PodSandboxConfig.fromPartial({
      metadata: { name: `pod-${++this.#names}`, namespace: "tests", uid, attempt: 0 },
      logDirectory: `/var/log/pods/tests_pod_${uid}`,
      linux: {},
      ...changes,
    });
  }

  async runPod(config = this.podConfig()): Promise<Pod> {
    const { podSandboxId } = await this.call("runPodSandbox", { config });
    return { id: podSandboxId, config };
  }

  /** Creates a container that runs a shell script. */
  async create(
    pod: Pod,
    script: string,
    changes: DeepPartial<ContainerConfig> = {},
  ): Promise<string> {
    const { containerId } = await this.call(
      "createContainer",
      containerRequest(pod, script, changes),
    );
    return containerId;
  }

  /** A pod with a container that has been started. */
  async runContainer(script: string): Promise<{ pod: Pod; id: string }> {
    const pod = await this.runPod();
    const id = await this.create(pod, script);
    await this.call("startContainer", { containerId: id });
    return { pod, id };
  }

  async status(containerId: string): Promise<ContainerStatus> {
    const { status } = await this.call("containerStatus", { containerId });
    if (status === undefined) throw new Error(`The container ${containerId} has no status.`);
    return status;
  }

  /** The name of a container's state, or "gone". */
  async state(id: string): Promise<string> {
    const [container] = (await this.call("listContainers", { filter: { id } })).containers;
    return container === undefined ? "gone" : ContainerState[container.state] ?? "?";
  }

  /** Waits until a container has exited. @throws Error after a minute. */
  async exited(containerId: string): Promise<ContainerStatus> {
    const deadline = performance.now() + EXIT_TIMEOUT_MS;
    for (;;) {
      const status = await this.status(containerId);
      if (status.state === ContainerState.CONTAINER_EXITED) return status;
      if (performance.now() > deadline) throw new Error(`${containerId} has not exited.`);
      await delay(POLL_MS);
    }
  }

  /** Ids of containers that match a filter, in no order. */
  async containers(filter: DeepPartial<RequestOf<"listContainers">["filter"]>): Promise<string[]> {
    const { containers } = await this.call("listContainers", { filter });
    return containers.map(({ id }) => id);
  }

  /** Ids of pods that match a filter, in no order. */
  async pods(filter: DeepPartial<RequestOf<"listPodSandbox">["filter"]>): Promise<string[]> {
    const { items } = await this.call("listPodSandbox", { filter });
    return items.map(({ id }) => id);
  }
}

export interface Pod {
  id: string;
  config: PodSandboxConfig;
}

export function containerRequest(
  { id, config }: Pod,
  script: string,
  changes: DeepPartial<ContainerConfig> = {},
): DeepPartial<RequestOf<"createContainer">> {
  return {
    podSandboxId: id,
    sandboxConfig: config,
    config: {
      metadata: { name: "main", attempt: 0 },
      image: { image: IMAGE, userSpecifiedImage: IMAGE },
      command: ["/bin/sh", "-c", script],
      logPath: "main.log",
      linux: {},
      ...changes,
    },
  };
}
