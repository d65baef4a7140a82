/** What a real kubelet makes of the statistics, metrics, events and streamed lists of Slurm pods. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { delay } from "@std/async/delay";
import { Kubelet } from "../../scripts/lab/kubelet.ts";
import { Lab } from "../../scripts/lab/lab.ts";
import { NodeServer, prepareNode } from "../../scripts/lab/node_server.ts";
import { pod, podSpec } from "./pods.ts";

const TIMEOUT_MS = 120_000;
const POLL_MS = 1_000;
const POD = "busy";
/** The name of a static pod's mirror. */
const MIRROR = "busy-knode";

const lab = new Lab();
Deno.test.beforeAll(() => prepareNode(lab, () => {}));

const busyPod = () => pod(POD, podSpec(lab, [{ name: "main", script: "while :; do :; done" }]));

/** The parts of /stats/summary that the test looks at. */
interface Summary {
  pods: {
    podRef: { name: string };
    cpu?: { usageNanoCores?: number };
    memory?: { workingSetBytes?: number };
    containers: { cpu?: { usageNanoCores?: number; usageCoreNanoSeconds?: number } }[];
  }[];
}

/** The value of a line of Prometheus' text format; of several the last. */
function metric(text: string, name: string): number {
  const lines = text.split("\n").filter((line) =>
    line.startsWith(`${name}{`) && line.includes(`pod="${MIRROR}"`)
  );
  return Number(lines.at(-1)?.split("} ")[1]?.split(" ")[0] ?? NaN);
}

/** A kubelet by default, and one that asks for all that is not its default yet. */
const KUBELETS: { name: string; featureGates: Record<string, boolean>; rpcs: string[] }[] = [
  { name: "by default", featureGates: {}, rpcs: ["ListContainerStats"] },
  {
    name: "with all of the CRI",
    featureGates: {
      PodAndContainerStatsFromCRI: true,
      CRIListStreaming: true,
      EventedPLEG: true,
    },
    rpcs: [
      "GetContainerEvents",
      "ListMetricDescriptors",
      "StreamContainers",
      "StreamImages",
      "StreamPodSandboxMetrics",
      "StreamPodSandboxStats",
      "StreamPodSandboxes",
    ],
  },
];
for (const { name, featureGates, rpcs } of KUBELETS) {
  Deno.test(`a kubelet ${name} shows what a Slurm pod uses`, async () => {
    const server = new NodeServer(lab, { name: "kubelet-statistics" });
    await lab.exec("knode", ["rm", "-rf", server.rootDir, server.stateDir, server.logPath]);
    const kubelet = new Kubelet(lab, {
      socketPath: server.socketPath,
      featureGates,
      verbosity: 4,
    });
    try {
      await server.start();
      await kubelet.start();
      await kubelet.writeStaticPod(POD, busyPod());
      const found = async () => {
        const { pods }: Summary = JSON.parse(await kubelet.get("/stats/summary"));
        return pods.find(({ podRef }) => podRef.name === MIRROR);
      };
      const deadline = performance.now() + TIMEOUT_MS;
      let pod = await found();
      const cpu = () => pod?.containers[0]?.cpu;
      // Metrics of the CRI are in whole seconds.
      while (
        (pod?.cpu?.usageNanoCores ?? 0) < 500_000_000 || (cpu()?.usageCoreNanoSeconds ?? 0) < 2e9
      ) {
        assert(performance.now() < deadline, JSON.stringify(pod));
        await delay(POLL_MS);
        pod = await found();
      }
      assert((pod?.memory?.workingSetBytes ?? 0) > 1_000_000, JSON.stringify(pod));

      const resources = await kubelet.get("/metrics/resource");
      assert(metric(resources, "pod_cpu_usage_seconds_total") > 0, resources);
      assert(metric(resources, "container_cpu_usage_seconds_total") > 0, resources);
      assert(metric(resources, "container_memory_working_set_bytes") > 1_000_000, resources);
      if (featureGates.PodAndContainerStatsFromCRI) {
        const cadvisor = await kubelet.get("/metrics/cadvisor");
        assert(metric(cadvisor, "container_cpu_usage_seconds_total") > 0, cadvisor);
        assert(metric(cadvisor, "container_processes") > 0, cadvisor);
      }
      await kubelet.removeStaticPod(POD);
      while ((await server.crictlOk(["ps", "--quiet"])) !== "") await delay(POLL_MS);
      if (featureGates.EventedPLEG) {
        assertStringIncludes(
          await kubelet.log(),
          "Evented PLEG: requested pod relist after container termination",
        );
      }
    } finally {
      await kubelet.stop();
      const log = await kubelet.log();
      await kubelet.remove();
      const left = (await server.crictlOk(["pods", "--quiet"])).split("\n").filter(Boolean);
      for (const id of left) await server.crictlOk(["rmp", "--force", id]);
      await server.stop();
      const errors = log.split("\n").filter((line) =>
        /^E.*([Ss]tats|[Mm]etric|[Ee]vent)/.test(line)
      );
      // Its own end cancels what it asks for, and in its first seconds it knows nothing of the node itself.
      const own = /context canceled|unable to find data in memory cache/;
      assertEquals(errors.filter((line) => !own.test(line)), []);
    }
    const log = await server.log();
    // A kubelet that ends cancels its stream of events.
    for (const rpc of rpcs) {
      assertMatch(log, new RegExp(` ${rpc} (code=OK|failed: The call was cancelled)`));
    }
  });
}
