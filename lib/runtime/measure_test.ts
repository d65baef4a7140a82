import { assertEquals } from "@std/assert";
import type { CriHandlers } from "../cri/service.ts";
import { createPod, NEVER, withRuntime } from "./test_runtime.ts";
import { createLogger } from "../base/log.ts";
import { runtimeHandlers } from "./handlers.ts";

const log = createLogger({ threshold: "error", write: () => {} });

const CALLS: Partial<Record<keyof CriHandlers, "containers" | "pods">> = {
  containerStats: "containers",
  listContainerStats: "containers",
  streamContainerStats: "containers",
  podSandboxStats: "pods",
  listPodSandboxStats: "pods",
  streamPodSandboxStats: "pods",
  listPodSandboxMetrics: "pods",
  streamPodSandboxMetrics: "pods",
};
for (const [rpc, what] of Object.entries(CALLS)) {
  Deno.test(`${rpc} measures ${what} before it tells of them`, () =>
    withRuntime(async (test) => {
      const { pod, container } = await createPod(test.runtime);
      const measured: string[] = [];
      const network = { netnsPath: "/run/netns/p", addresses: [], result: {} };
      const handlers = runtimeHandlers({
        ...test.runtime,
        adapter: Object.assign(test.adapter, {
          measure: () => Promise.resolve(void measured.push("containers")),
        }),
        networks: Object.assign(Object.create(null), {
          of: (id: string) => id === pod ? network : undefined,
        }),
        traffic: {
          of: () => undefined,
          measure: (paths) => Promise.resolve(void measured.push(JSON.stringify([...paths()]))),
        },
      });
      const request = { containerId: container, podSandboxId: pod, filter: undefined };
      const answer = handlers[rpc as keyof CriHandlers]?.(request as never, { signal: NEVER, log });
      if (answer !== undefined && Symbol.asyncIterator in answer) await Array.fromAsync(answer);
      else await answer;
      const pods = JSON.stringify([[pod, network.netnsPath]]);
      assertEquals(measured, what === "pods" ? ["containers", pods] : ["containers"]);
    }));
}
