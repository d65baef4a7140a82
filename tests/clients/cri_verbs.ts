/** The verbs of CRI, repeated, late, and about what is unknown. */
import { ContainerState, PodSandboxState } from "../../lib/cri/api.generated.ts";
import { containerRequest, type CriClient } from "../cri_client.ts";
import { type Expectation, UNKNOWN_ID } from "./cri_expectation.ts";

const { CONTAINER_CREATED, CONTAINER_EXITED } = ContainerState;
const { SANDBOX_READY, SANDBOX_NOTREADY } = PodSandboxState;

const SLEEP = "sleep 600";

const NO_CODE = "containerd gives most of its errors no code of their own.";
const RESERVED =
  "containerd reserves the name and refuses a repetition; a kubelet whose answer was lost then starts anew.";

/** Verbs that are asked of a container in every phase, one after the other. */
const CONTAINER_VERBS = {
  start: (cri: CriClient, containerId: string) => cri.outcome("startContainer", { containerId }),
  stop: (cri: CriClient, containerId: string) =>
    cri.outcome("stopContainer", { containerId, timeout: 0n }),
  remove: (cri: CriClient, containerId: string) => cri.outcome("removeContainer", { containerId }),
};

/** Performs verbs, each twice, and tells each outcome and where that leaves the container. */
async function twice(
  cri: CriClient,
  id: string,
  verbs: (keyof typeof CONTAINER_VERBS)[],
): Promise<string[]> {
  const story: string[] = [];
  for (const verb of verbs.flatMap((verb) => [verb, verb])) {
    const outcome = await CONTAINER_VERBS[verb](cri, id);
    story.push(`${verb} ${outcome} ${await cri.state(id)}`);
  }
  return story;
}

export const VERB_EXPECTATIONS: readonly Expectation[] = [
  {
    name: "runs one pod when RunPodSandbox is repeated with an equal configuration",
    ask: async (cri) => {
      const { id, config } = await cri.runPod();
      const again = await cri.outcome("runPodSandbox", { config });
      return [
        again,
        again === "OK" && (await cri.call("runPodSandbox", { config })).podSandboxId === id,
      ];
    },
    answer: ["OK", true],
    containerd: { answer: ["FAILED_PRECONDITION", false], reason: RESERVED },
  },
  {
    name: "refuses RunPodSandbox for a known attempt with another configuration",
    ask: async (cri) => {
      const { config } = await cri.runPod();
      return await cri.outcome("runPodSandbox", { config: { ...config, labels: { other: "1" } } });
    },
    answer: "ALREADY_EXISTS",
    containerd: { answer: "FAILED_PRECONDITION", reason: RESERVED },
  },
  {
    name: "runs the next attempt of a pod beside the stopped one",
    ask: async (cri) => {
      const { id, config } = await cri.runPod();
      await cri.call("stopPodSandbox", { podSandboxId: id });
      const { metadata } = config;
      const next = await cri.runPod({
        ...config,
        metadata: { name: "", namespace: "", uid: "", ...config.metadata, attempt: 1 },
      });
      const { items } = await cri.call("listPodSandbox", {});
      return items.filter((item) => item.metadata?.uid === metadata?.uid)
        .map((item) => [item.id === next.id, item.metadata?.attempt, item.state]).sort();
    },
    answer: [[false, 0, SANDBOX_NOTREADY], [true, 1, SANDBOX_READY]],
  },
  {
    name: "makes one container when CreateContainer is repeated with an equal configuration",
    ask: async (cri) => {
      const pod = await cri.runPod();
      const id = await cri.create(pod, SLEEP);
      const again = await cri.outcome("createContainer", containerRequest(pod, SLEEP));
      return [
        again,
        again === "OK" && await cri.create(pod, SLEEP) === id,
        (await cri.containers({ podSandboxId: pod.id })).length,
      ];
    },
    answer: ["OK", true, 1],
    containerd: { answer: ["FAILED_PRECONDITION", false, 1], reason: RESERVED },
  },
  {
    name: "keeps containers of a pod apart by their attempt",
    ask: async (cri) => {
      const { pod, id } = await cri.runContainer("exit 0");
      await cri.exited(id);
      await cri.create(pod, SLEEP, { metadata: { name: "main", attempt: 1 } });
      const { containers } = await cri.call("listContainers", { filter: { podSandboxId: pod.id } });
      return containers.map(({ metadata, state }) => [metadata?.attempt, state]).sort();
    },
    answer: [[0, CONTAINER_EXITED], [1, CONTAINER_CREATED]],
  },
  {
    name: "answers every verb that is repeated on a created container",
    ask: async (cri) =>
      await twice(cri, await cri.create(await cri.runPod(), SLEEP), ["stop", "remove", "stop"]),
    answer: [
      "stop OK CONTAINER_CREATED",
      "stop OK CONTAINER_CREATED",
      "remove OK gone",
      "remove OK gone",
      "stop OK gone",
      "stop OK gone",
    ],
  },
  {
    name: "answers every verb that is repeated on a container that runs",
    ask: async (cri) =>
      await twice(cri, (await cri.runContainer(SLEEP)).id, [
        "start",
        "stop",
        "start",
        "remove",
        "start",
      ]),
    answer: [
      "start FAILED_PRECONDITION CONTAINER_RUNNING",
      "start FAILED_PRECONDITION CONTAINER_RUNNING",
      "stop OK CONTAINER_EXITED",
      "stop OK CONTAINER_EXITED",
      "start FAILED_PRECONDITION CONTAINER_EXITED",
      "start FAILED_PRECONDITION CONTAINER_EXITED",
      "remove OK gone",
      "remove OK gone",
      "start NOT_FOUND gone",
      "start NOT_FOUND gone",
    ],
    containerd: {
      answer: [
        "start UNKNOWN CONTAINER_RUNNING",
        "start UNKNOWN CONTAINER_RUNNING",
        "stop OK CONTAINER_EXITED",
        "stop OK CONTAINER_EXITED",
        "start UNKNOWN CONTAINER_EXITED",
        "start UNKNOWN CONTAINER_EXITED",
        "remove OK gone",
        "remove OK gone",
        "start NOT_FOUND gone",
        "start NOT_FOUND gone",
      ],
      reason: NO_CODE,
    },
  },
  {
    name: "ends a container that runs when it is removed",
    ask: async (cri) => await twice(cri, (await cri.runContainer(SLEEP)).id, ["remove"]),
    answer: ["remove OK gone", "remove OK gone"],
  },
  {
    name: "ends the containers of a pod that is stopped, and takes no new one",
    ask: async (cri) => {
      const { pod, id } = await cri.runContainer(SLEEP);
      const waiting = await cri.create(pod, SLEEP, { metadata: { name: "waiting", attempt: 0 } });
      const podSandboxId = pod.id;
      return [
        await cri.outcome("stopPodSandbox", { podSandboxId }),
        await cri.outcome("stopPodSandbox", { podSandboxId }),
        await cri.state(id),
        (await cri.call("podSandboxStatus", { podSandboxId })).status?.state,
        await cri.outcome("startContainer", { containerId: waiting }) === "OK",
        await cri.outcome(
          "createContainer",
          containerRequest(pod, SLEEP, { metadata: { name: "late", attempt: 0 } }),
        ) === "OK",
      ];
    },
    answer: ["OK", "OK", "CONTAINER_EXITED", SANDBOX_NOTREADY, false, false],
    containerd: {
      answer: ["OK", "OK", "CONTAINER_EXITED", SANDBOX_NOTREADY, false, true],
      reason: "containerd creates a container there, and then cannot start it.",
    },
  },
  {
    name: "removes a pod with what runs in it",
    ask: async (cri) => {
      const { pod, id } = await cri.runContainer(SLEEP);
      const podSandboxId = pod.id;
      return [
        await cri.outcome("removePodSandbox", { podSandboxId }),
        await cri.outcome("removePodSandbox", { podSandboxId }),
        await cri.pods({ id: podSandboxId }),
        await cri.state(id),
        await cri.outcome("stopPodSandbox", { podSandboxId }),
      ];
    },
    answer: ["OK", "OK", [], "gone", "OK"],
  },
  {
    name: "ends what is unknown without an error, and finds it for nothing else",
    ask: async (cri) => {
      const containerId = UNKNOWN_ID;
      const podSandboxId = UNKNOWN_ID;
      const pod = { id: UNKNOWN_ID, config: cri.podConfig() };
      return {
        stopPodSandbox: await cri.outcome("stopPodSandbox", { podSandboxId }),
        removePodSandbox: await cri.outcome("removePodSandbox", { podSandboxId }),
        stopContainer: await cri.outcome("stopContainer", { containerId }),
        removeContainer: await cri.outcome("removeContainer", { containerId }),
        removeImage: await cri.outcome("removeImage", { image: { image: "docker.io/lab/none:1" } }),
        podSandboxStatus: await cri.outcome("podSandboxStatus", { podSandboxId }),
        createContainer: await cri.outcome("createContainer", containerRequest(pod, SLEEP)),
        startContainer: await cri.outcome("startContainer", { containerId }),
        containerStatus: await cri.outcome("containerStatus", { containerId }),
        reopenContainerLog: await cri.outcome("reopenContainerLog", { containerId }),
        execSync: await cri.outcome("execSync", { containerId, cmd: ["true"] }),
        imageStatus:
          (await cri.call("imageStatus", { image: { image: "docker.io/lab/none:1" } })).image,
      };
    },
    answer: {
      stopPodSandbox: "OK",
      removePodSandbox: "OK",
      stopContainer: "OK",
      removeContainer: "OK",
      removeImage: "OK",
      podSandboxStatus: "NOT_FOUND",
      createContainer: "NOT_FOUND",
      startContainer: "NOT_FOUND",
      containerStatus: "NOT_FOUND",
      reopenContainerLog: "NOT_FOUND",
      execSync: "NOT_FOUND",
      imageStatus: undefined,
    },
  },
];
