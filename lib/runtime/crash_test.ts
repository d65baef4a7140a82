/**
 * The server dies at every single step of every verb, before and after each of its effects (a record, a secret, a
 * command on the cluster), and the next process takes over. Whatever the step: one job for each container, or none;
 * and in the end nothing is left anywhere.
 */
import { assert, assertEquals } from "@std/assert";
import { TestCluster } from "../adapters/slurm/test_cluster.ts";
import { TestStore } from "../store/test_store.ts";
import { removeContainer } from "./container_remove.ts";
import { stopContainer } from "./container_stop.ts";
import { removePodSandbox } from "./sandbox_remove.ts";
import { stopPodSandbox } from "./sandbox_stop.ts";
import { MortalNode } from "./test_mortal_node.ts";
import { NEVER } from "./test_runtime.ts";

interface Subject {
  pod: string;
  container: string;
}

/** How far a pod is when a verb comes. */
const STAGES: Record<
  "nothing" | "sandbox" | "created" | "started",
  (node: MortalNode) => Promise<Subject>
> = {
  nothing: () => Promise.resolve({ pod: "", container: "" }),
  sandbox: async (node) => ({ pod: await node.run(), container: "" }),
  created: async (node) => {
    const pod = await node.run();
    return { pod, container: await node.create(pod) };
  },
  started: async (node) => {
    const subject = await STAGES.created(node);
    await node.start(subject.container);
    return subject;
  },
};

/** A verb, what must have come before it, and what the client makes of a call without an answer. */
const VERBS: readonly {
  name: string;
  stage: keyof typeof STAGES;
  verb: (node: MortalNode, subject: Subject) => Promise<unknown>;
  /** A pod is wanted: the client goes on until it runs. Otherwise it repeats the verb. */
  wanted?: true;
}[] = [
  { name: "RunPodSandbox", stage: "nothing", verb: (node) => node.run(), wanted: true },
  {
    name: "CreateContainer",
    stage: "sandbox",
    verb: (node, { pod }) => node.create(pod),
    wanted: true,
  },
  {
    name: "StartContainer",
    stage: "created",
    verb: (node, { container }) => node.start(container),
    wanted: true,
  },
  {
    name: "StopContainer",
    stage: "started",
    verb: (node, { container }) => stopContainer(node.runtime, container, 1n, NEVER),
  },
  {
    name: "RemoveContainer",
    stage: "started",
    verb: (node, { container }) => removeContainer(node.runtime, container, NEVER),
  },
  {
    name: "StopPodSandbox",
    stage: "started",
    verb: (node, { pod }) => stopPodSandbox(node.runtime, pod, NEVER),
  },
  {
    name: "RemovePodSandbox",
    stage: "started",
    verb: (node, { pod }) => removePodSandbox(node.runtime, pod, NEVER),
  },
];

for (const { name, stage, verb, wanted } of VERBS) {
  for (const when of ["before", "after"] as const) {
    Deno.test(`${name} leaves one job or none when the server dies ${when} any of its effects`, async () => {
      let died = true;
      for (let step = 1; died; step++) {
        await using cluster = await TestCluster.create();
        await using records = await TestStore.open();
        await using node = new MortalNode(cluster, records);
        await node.prepare();
        const subject = await STAGES[stage](node);
        died = await node.dying(step, when, () => verb(node, subject));
        const message = `${name}, died ${when} effect ${step}`;

        if (wanted) {
          const container = await node.create(await node.run());
          await node.startUnlessRunning(container);
          await node.runtime.store.containers.waitFor(
            container,
            ({ workload }) => (workload as { jobId?: string }).jobId !== undefined,
            NEVER,
          );
          const { state, workload } = node.runtime.store.containers.get(container) ?? {};
          assertEquals(state?.phase, "running", message);
          assertEquals(await node.jobs(), [(workload as { jobId: string }).jobId], message);
        } else {
          await verb(node, subject);
          const { state } = node.runtime.store.containers.get(subject.container) ?? {};
          assertEquals(state?.phase ?? "exited", "exited", message);
        }
        for (const { id } of node.runtime.store.sandboxes.all()) {
          await removePodSandbox(node.runtime, id, NEVER);
        }
        assertEquals(await node.leftovers(), [], message);
        assert((await node.jobs()).length <= 1, message);
      }
    });
  }
}
