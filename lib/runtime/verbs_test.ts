/** Every verb after every other: what it makes of pods and containers in each phase of their life. */
import { assertEquals } from "@std/assert";
import { CriError } from "../base/error.ts";
import { createContainer } from "./container_create.ts";
import { removeContainer } from "./container_remove.ts";
import { startContainer } from "./container_start.ts";
import { containerStatusResponse } from "./container_status.ts";
import { stopContainer } from "./container_stop.ts";
import { runtimeHandlers } from "./handlers.ts";
import type { Runtime } from "./runtime.ts";
import { removePodSandbox } from "./sandbox_remove.ts";
import { runPodSandbox } from "./sandbox_run.ts";
import { podSandboxStatus } from "./sandbox_status.ts";
import { stopPodSandbox } from "./sandbox_stop.ts";
import {
  containerRequest,
  createPod,
  NEVER,
  sandboxRequest,
  type TestRuntime,
  withRuntime,
} from "./test_runtime.ts";

/** A pod in each phase of its life, and what every verb makes of it. */
const POD_PHASES: Record<string, (runtime: Runtime, id: string) => Promise<void>> = {
  ready: () => Promise.resolve(),
  notready: (runtime, id) => stopPodSandbox(runtime, id, NEVER),
  removed: (runtime, id) => removePodSandbox(runtime, id, NEVER),
};

/** What a verb does to a pod in a phase: the phases of all pods afterwards, or the code of its error. */
const POD_VERBS: Record<string, Record<keyof typeof POD_PHASES, string>> = {
  run: { ready: "ready", notready: "ALREADY_EXISTS", removed: "ready" },
  stop: { ready: "notready", notready: "notready", removed: "" },
  remove: { ready: "", notready: "", removed: "" },
  status: { ready: "ready", notready: "notready", removed: "NOT_FOUND" },
  create: { ready: "ready", notready: "FAILED_PRECONDITION", removed: "NOT_FOUND" },
};

async function performPod(runtime: Runtime, verb: string, id: string): Promise<unknown> {
  switch (verb) {
    case "run":
      return await runPodSandbox(runtime, sandboxRequest());
    case "stop":
      return await stopPodSandbox(runtime, id, NEVER);
    case "remove":
      return await removePodSandbox(runtime, id, NEVER);
    case "status":
      return podSandboxStatus(runtime, id, true);
    default:
      return await createContainer(runtime, containerRequest(id));
  }
}

for (const [verb, outcomes] of Object.entries(POD_VERBS)) {
  for (const [phase, outcome] of Object.entries(outcomes)) {
    Deno.test(`${verb} leads to ${outcome || "no pod"} when the pod is ${phase}`, () =>
      withRuntime(async ({ runtime, store }) => {
        const id = await runPodSandbox(runtime, sandboxRequest());
        await POD_PHASES[phase]?.(runtime, id);
        const result = await performPod(runtime, verb, id).then(
          () => store.sandboxes.all().map(({ state }) => state).join(),
          (error) => CriError.from(error).code,
        );
        assertEquals(result, outcome);
      }));
  }
}

/** A container in each phase of its life, and what every verb makes of it. */
const CONTAINER_PHASES: Record<string, (test: TestRuntime, id: string) => Promise<void>> = {
  created: () => Promise.resolve(),
  running: ({ runtime }, id) => startContainer(runtime, id, NEVER),
  exited: async ({ runtime, adapter }, id) => {
    await startContainer(runtime, id, NEVER);
    adapter.exit(id, 7);
  },
  removed: ({ runtime }, id) => removeContainer(runtime, id, NEVER),
};

/** What a verb does to a container in a phase: the phase afterwards, or the code of its error. */
const CONTAINER_VERBS: Record<string, Record<keyof typeof CONTAINER_PHASES, string>> = {
  create: { created: "created", running: "running", exited: "exited", removed: "removed" },
  start: {
    created: "running",
    running: "FAILED_PRECONDITION",
    exited: "FAILED_PRECONDITION",
    removed: "NOT_FOUND",
  },
  stop: { created: "created", running: "exited", exited: "exited", removed: "removed" },
  remove: { created: "removed", running: "removed", exited: "removed", removed: "removed" },
  status: { created: "created", running: "running", exited: "exited", removed: "NOT_FOUND" },
  reopenLog: {
    created: "FAILED_PRECONDITION",
    running: "running",
    exited: "FAILED_PRECONDITION",
    removed: "NOT_FOUND",
  },
};

async function performContainer(
  { runtime, store }: TestRuntime,
  verb: string,
  { pod, container: id }: { pod: string; container: string },
): Promise<void> {
  switch (verb) {
    case "create": {
      const again = await createContainer(runtime, containerRequest(pod));
      // Only when it was removed is it another one.
      assertEquals(store.containers.all().map(({ id }) => id), [again]);
      return;
    }
    case "start":
      return await startContainer(runtime, id, NEVER);
    case "stop":
      return await stopContainer(runtime, id, 1n, NEVER);
    case "remove":
      return await removeContainer(runtime, id, NEVER);
    case "status":
      return void containerStatusResponse(runtime, id, true);
    default: {
      const { reopenContainerLog } = runtimeHandlers(runtime);
      await reopenContainerLog?.({ containerId: id }, { signal: NEVER } as never);
    }
  }
}

for (const [verb, outcomes] of Object.entries(CONTAINER_VERBS)) {
  for (const [phase, outcome] of Object.entries(outcomes)) {
    Deno.test(`${verb} leads to ${outcome} when the container is ${phase}`, () =>
      withRuntime(async (test) => {
        const made = await createPod(test.runtime);
        const { container } = made;
        await CONTAINER_PHASES[phase]?.(test, container);
        const result = await performContainer(test, verb, made).then(
          () => test.store.containers.get(container)?.state.phase ?? "removed",
          (error) => CriError.from(error).code,
        );
        assertEquals(result, outcome);
      }));
  }
}
