/** What CRI's lists and statuses tell. */
import {
  ContainerState,
  NamespaceMode,
  PodSandboxState,
  Signal,
} from "../../lib/cri/api.generated.ts";
import { type CriClient, IMAGE, type Pod } from "../cri_client.ts";
import { type Expectation, UNKNOWN_ID } from "./cri_expectation.ts";

const { CONTAINER_CREATED, CONTAINER_RUNNING, CONTAINER_EXITED } = ContainerState;
const { SANDBOX_READY, SANDBOX_NOTREADY } = PodSandboxState;

const SLEEP = "sleep 600";

/** Two pods and three containers to be listed, all with a label of this listing alone. */
async function listed(cri: CriClient) {
  const run = crypto.randomUUID();
  const first = await cri.runPod(cri.podConfig({ labels: { run, app: "a" } }));
  const second = await cri.runPod(cri.podConfig({ labels: { run, app: "b" } }));
  const create = (pod: Pod, name: string, app: string) =>
    cri.create(pod, SLEEP, { metadata: { name, attempt: 0 }, labels: { run, app } });
  const created = await create(first, "created", "a");
  const running = await create(first, "running", "b");
  const ended = await create(second, "ended", "a");
  for (const containerId of [running, ended]) await cri.call("startContainer", { containerId });
  await cri.call("stopPodSandbox", { podSandboxId: second.id });
  const names = new Map([
    [first.id, "first"],
    [second.id, "second"],
    [created, "created"],
    [running, "running"],
    [ended, "ended"],
  ]);
  const show = (ids: string[]) => ids.map((id) => names.get(id) ?? "another").sort();
  return { run, first, second, created, running, ended, show };
}

export const FIELD_EXPECTATIONS: readonly Expectation[] = [
  {
    name: "says its versions and that it is ready",
    ask: async (cri) => {
      const { version, runtimeApiVersion } = await cri.call("version");
      const { status } = await cri.call("status");
      const ready = status?.conditions.filter(({ status }) => status).map(({ type }) => type);
      return [
        version,
        runtimeApiVersion,
        ["RuntimeReady", "NetworkReady"].every((type) => ready?.includes(type)),
      ];
    },
    answer: ["0.1.0", "v1", true],
  },
  {
    name: "knows a pod and a container by the beginning of their ids",
    ask: async (cri) => {
      const pod = await cri.runPod();
      const id = await cri.create(pod, SLEEP);
      return [
        (await cri.call("podSandboxStatus", { podSandboxId: pod.id.slice(0, 13) })).status?.id ===
          pod.id,
        (await cri.status(id.slice(0, 13))).id === id,
        await cri.outcome("removeContainer", { containerId: id.slice(0, 13) }),
        await cri.state(id),
      ];
    },
    answer: [true, true, "OK", "gone"],
  },
  {
    name: "lists the containers that all parts of a filter name",
    ask: async (cri) => {
      const { run, first, second, created, running, show } = await listed(cri);
      const list = async (filter: Parameters<CriClient["containers"]>[0]) =>
        show(await cri.containers(filter));
      const labelSelector = { run };
      return [
        await list({ labelSelector }),
        await list({ id: created }),
        await list({ id: running.slice(0, 13) }),
        await list({ id: UNKNOWN_ID }),
        await list({ podSandboxId: first.id }),
        await list({ podSandboxId: second.id.slice(0, 13) }),
        await list({ podSandboxId: UNKNOWN_ID }),
        await list({ labelSelector: { run, app: "a" } }),
        await list({ labelSelector: { run, app: "c" } }),
        await list({ labelSelector, state: { state: CONTAINER_CREATED } }),
        await list({ labelSelector, state: { state: CONTAINER_RUNNING } }),
        await list({ labelSelector, state: { state: CONTAINER_EXITED } }),
        await list({ labelSelector: { run, app: "a" }, podSandboxId: first.id }),
        await list({ id: created, podSandboxId: second.id }),
        await list({ id: created, state: { state: CONTAINER_RUNNING } }),
      ];
    },
    answer: [
      ["created", "ended", "running"],
      ["created"],
      ["running"],
      [],
      ["created", "running"],
      ["ended"],
      [],
      ["created", "ended"],
      [],
      ["created"],
      ["running"],
      ["ended"],
      ["created"],
      [],
      [],
    ],
  },
  {
    name: "lists the pods that all parts of a filter name",
    ask: async (cri) => {
      const { run, first, second, show } = await listed(cri);
      const list = async (filter: Parameters<CriClient["pods"]>[0]) => show(await cri.pods(filter));
      const labelSelector = { run };
      return [
        await list({ labelSelector }),
        await list({ id: first.id }),
        await list({ id: second.id.slice(0, 13) }),
        await list({ id: UNKNOWN_ID }),
        await list({ labelSelector: { run, app: "b" } }),
        await list({ labelSelector, state: { state: SANDBOX_READY } }),
        await list({ labelSelector, state: { state: SANDBOX_NOTREADY } }),
        await list({ id: first.id, state: { state: SANDBOX_NOTREADY } }),
      ];
    },
    answer: [["first", "second"], ["first"], ["second"], [], ["second"], ["first"], ["second"], []],
  },
  {
    name: "echoes a pod's metadata, labels, annotations and namespaces, and gives it an address",
    ask: async (cri) => {
      const namespaceOptions = { pid: NamespaceMode.CONTAINER };
      const changes = {
        labels: { l: "1" },
        annotations: { "a.b/c": "2\n" },
        linux: { securityContext: { namespaceOptions } },
      };
      const { id, config } = await cri.runPod(cri.podConfig(changes));
      const [item] = (await cri.call("listPodSandbox", { filter: { id } })).items;
      const { status, info } = await cri.call("podSandboxStatus", { podSandboxId: id });
      const verbose = await cri.call("podSandboxStatus", { podSandboxId: id, verbose: true });
      return [
        [item, status].map((one) => [
          JSON.stringify(one?.metadata) === JSON.stringify(config.metadata),
          one?.labels,
          one?.annotations,
          one?.state,
          (one?.createdAt ?? 0n) > 0n,
        ]),
        /^\d+(\.\d+){3}$/.test(status?.network?.ip ?? ""),
        status?.linux?.namespaces?.options?.pid === NamespaceMode.CONTAINER,
        [Object.keys(info).length, Object.keys(verbose.info).length > 0],
      ];
    },
    answer: [
      [
        [true, { l: "1" }, { "a.b/c": "2\n" }, SANDBOX_READY, true],
        [true, { l: "1" }, { "a.b/c": "2\n" }, SANDBOX_READY, true],
      ],
      true,
      true,
      [0, true],
    ],
  },
  {
    name: "names no address of a pod on the node's network",
    ask: async (cri) => {
      const linux = { securityContext: { namespaceOptions: { network: NamespaceMode.NODE } } };
      const { id } = await cri.runPod(cri.podConfig({ linux }));
      const { status } = await cri.call("podSandboxStatus", { podSandboxId: id });
      return [status?.network?.ip, status?.linux?.namespaces?.options?.network];
    },
    answer: ["", NamespaceMode.NODE],
  },
  {
    name: "echoes a container's metadata, labels, annotations and image",
    ask: async (cri) => {
      const pod = await cri.runPod();
      const changes = {
        labels: { l: "1" },
        annotations: { "a.b/c": "2\n" },
        metadata: { name: "main", attempt: 3 },
      };
      const id = await cri.create(pod, SLEEP, changes);
      const [item] = (await cri.call("listContainers", { filter: { id } })).containers;
      const status = await cri.status(id);
      return [
        [item, status].map((one) => [
          one?.metadata,
          one?.labels,
          one?.annotations,
          one?.image?.image,
          (one?.createdAt ?? 0n) > 0n,
        ]),
        item?.podSandboxId === pod.id,
        status.logPath === `${pod.config.logDirectory}/main.log`,
      ];
    },
    answer: [
      [
        [{ name: "main", attempt: 3 }, { l: "1" }, { "a.b/c": "2\n" }, IMAGE, true],
        [{ name: "main", attempt: 3 }, { l: "1" }, { "a.b/c": "2\n" }, IMAGE, true],
      ],
      true,
      true,
    ],
  },
  {
    name: "tells by which signal a container ends that names none",
    ask: async (cri) => {
      const { stopSignal } = await cri.status(await cri.create(await cri.runPod(), SLEEP));
      return Signal[stopSignal];
    },
    answer: "SIGNAL_SIGTERM",
    containerd: { answer: "SIGNAL_RUNTIME_DEFAULT", reason: "It knows the field since 2.2." },
  },
  {
    name:
      "names a container's image by its id in lists, and in its status by its digest in the registry",
    ask: async (cri) => {
      const id = await cri.create(await cri.runPod(), SLEEP);
      const { image } = await cri.call("imageStatus", { image: { image: IMAGE } });
      const [item] = (await cri.call("listContainers", { filter: { id } })).containers;
      const status = await cri.status(id);
      return [
        item?.imageRef === image?.id,
        status.imageRef === image?.repoDigests[0],
        [item, status].map((one) => one?.imageId === image?.id),
      ];
    },
    answer: [true, true, [true, true]],
    containerd: {
      answer: [true, true, [false, false]],
      reason: "containerd fills in no image_id.",
    },
  },
  ...([["exit 7", 7, "Error"], ["exit 0", 0, "Completed"], ["kill -9 $$", 137, "Error"]] as const)
    .map(([script, exitCode, reason]): Expectation => ({
      name: `tells the times, the code and the reason of a container that runs ${script}`,
      ask: async (cri) => {
        const pod = await cri.runPod();
        // containerd looks at the clock only after the start, when a faster program has ended already.
        const id = await cri.create(pod, `sleep 0.3; ${script}`);
        const created = await cri.status(id);
        await cri.call("startContainer", { containerId: id });
        const ended = await cri.exited(id);
        return [
          [created.state, created.startedAt, created.finishedAt, created.exitCode],
          [ended.state, ended.exitCode, ended.reason],
          created.createdAt === ended.createdAt,
          ended.createdAt <= ended.startedAt && ended.startedAt <= ended.finishedAt,
        ];
      },
      answer: [[CONTAINER_CREATED, 0n, 0n, 0], [CONTAINER_EXITED, exitCode, reason], true, true],
    })),
  {
    name: "gives one id to an image, whoever asks",
    ask: async (cri) => {
      const { imageRef } = await cri.call("pullImage", { image: { image: IMAGE } });
      const { image } = await cri.call("imageStatus", { image: { image: IMAGE } });
      const byId = await cri.call("imageStatus", { image: { image: imageRef } });
      return [
        image?.id === imageRef,
        byId.image?.id === imageRef,
        image?.repoTags,
        image?.repoDigests.length,
        (image?.size ?? 0n) > 0n,
      ];
    },
    answer: [true, true, [IMAGE], 1, true],
  },
  {
    name: "lists the image that a filter names",
    ask: async (cri) => {
      const { images } = await cri.call("listImages", { filter: { image: { image: IMAGE } } });
      const none = await cri.call("listImages", {
        filter: { image: { image: "docker.io/lab/none:1" } },
      });
      const isAlone = images.length === 1 && images[0]?.repoTags.includes(IMAGE);
      return [isAlone, none.images.length === 0];
    },
    answer: [true, true],
    containerd: {
      answer: [false, false],
      reason: "containerd lists all images whatever the filter.",
    },
  },
];
