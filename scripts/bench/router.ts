import { writeStdoutLine } from "../../lib/base/log.ts";
import {
  ContainerFilter,
  ContainerStatusRequest,
  CreateContainerRequest,
  CreateContainerResponse,
  ListContainersRequest,
  PullImageRequest,
  RemovePodSandboxRequest,
  RunPodSandboxRequest,
  RunPodSandboxResponse,
  StopPodSandboxRequest,
} from "../../lib/cri/api.generated.ts";
import { TestClient } from "../../lib/server/test_client.ts";
import { startContainerd } from "../lab/containerd.ts";
import { pushCritestImages } from "../lab/critest_images.ts";
import type { Lab } from "../lab/lab.ts";
import { NodeServer } from "../lab/node_server.ts";
import { compare, type Way } from "./samples.ts";

const IMAGE = "docker.io/lab/busybox:1";
const LOGS = "/var/log/pods/bench";

/** A filter that is there and chooses nothing, as the kubelet sends it. */
const EVERYTHING = ListContainersRequest.encode({ filter: ContainerFilter.fromPartial({}) })
  .finish();

/** Lists are measured with so many containers. */
const CONTAINERS = [0, 100, 500];

/** containerd asked directly, and through multicri. The client is the same: its own part is in both. */
export async function benchRouter(lab: Lab): Promise<void> {
  await pushCritestImages(lab, () => {});
  const containerd = await startContainerd(lab);
  const server = new NodeServer(lab, {
    name: "bench",
    flags: ["--remote-runtime-endpoints", `default:${containerd.socketPath}`, "-v", "0"],
  });
  await lab.exec("knode", ["rm", "-rf", server.rootDir, server.stateDir, server.logPath, LOGS]);
  await server.start();
  const direct = new TestClient(lab.path("knode", containerd.socketPath));
  const through = new TestClient(lab.path("knode", server.socketPath));
  try {
    writeStdoutLine("milliseconds, p50 and p99 of each; a first call is not counted");
    const ways = (work: (client: TestClient) => Promise<unknown>): readonly [Way, Way] => [
      { name: "direct", run: () => work(direct) },
      { name: "through", run: () => work(through) },
    ];
    const call = async (what: string, name: string, request?: Uint8Array, times = 1000) => {
      for (const parallel of [1, 16]) {
        await compare(what, ways((client) => client.unary(name, request)), { times, parallel });
      }
    };
    // Answered by multicri itself: no proxied call, but what a kubelet asks most.
    await call("Version (by each itself)", "Version");
    await direct.unary("PullImage", pullRequest());
    const sandbox = await runPod(direct, "lists");
    let made = 0;
    let container = "";
    for (const count of CONTAINERS) {
      for (; made < count; made++) container = await createContainer(direct, sandbox, made);
      await call(`ListContainers of ${count}`, "ListContainers", EVERYTHING, 200);
    }
    await call("ContainerStatus", "ContainerStatus", containerRequest(container));
    await removePod(direct, sandbox);

    let pods = 0;
    const makePod = async (client: TestClient) => {
      const id = await runPod(client, `pod-${++pods}`);
      running.push(id);
    };
    const running: string[] = [];
    for (const parallel of [1, 16]) {
      await compare("RunPodSandbox", ways(makePod), { times: 50, parallel });
      for (const id of running.splice(0)) await removePod(direct, id);
    }
  } finally {
    direct.close();
    through.close();
    await server.stop();
    await containerd.stop();
  }
}

function pullRequest(): Uint8Array {
  return PullImageRequest.encode(PullImageRequest.fromPartial({ image: { image: IMAGE } }))
    .finish();
}

function containerRequest(containerId: string): Uint8Array {
  return ContainerStatusRequest.encode({ containerId, verbose: false }).finish();
}

function podConfig(name: string) {
  return {
    metadata: { name, namespace: "bench", uid: `uid-${name}`, attempt: 0 },
    logDirectory: `${LOGS}/${name}`,
    linux: {},
  };
}

async function runPod(client: TestClient, name: string): Promise<string> {
  const request = RunPodSandboxRequest.fromPartial({ config: podConfig(name) });
  const bytes = RunPodSandboxRequest.encode(request).finish();
  return RunPodSandboxResponse.decode(await client.unary("RunPodSandbox", bytes)).podSandboxId;
}

async function removePod(client: TestClient, podSandboxId: string): Promise<void> {
  await client.unary("StopPodSandbox", StopPodSandboxRequest.encode({ podSandboxId }).finish());
  await client.unary("RemovePodSandbox", RemovePodSandboxRequest.encode({ podSandboxId }).finish());
}

async function createContainer(
  client: TestClient,
  podSandboxId: string,
  attempt: number,
): Promise<string> {
  const request = CreateContainerRequest.fromPartial({
    podSandboxId,
    sandboxConfig: podConfig("lists"),
    config: {
      metadata: { name: "main", attempt },
      image: { image: IMAGE },
      command: ["sleep", "600"],
      logPath: `${attempt}.log`,
      labels: {
        "io.kubernetes.container.name": "main",
        "io.kubernetes.pod.name": "lists",
        "io.kubernetes.pod.namespace": "bench",
        "io.kubernetes.pod.uid": "uid-lists",
      },
      annotations: {
        "io.kubernetes.container.hash": "1a2b3c4d",
        "io.kubernetes.container.restartCount": "0",
        "io.kubernetes.container.terminationMessagePath": "/dev/termination-log",
        "io.kubernetes.container.terminationMessagePolicy": "File",
        "io.kubernetes.pod.terminationGracePeriod": "30",
      },
      linux: {},
    },
  });
  const bytes = CreateContainerRequest.encode(request).finish();
  return CreateContainerResponse.decode(await client.unary("CreateContainer", bytes)).containerId;
}
