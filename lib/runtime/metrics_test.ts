import { assertEquals } from "@std/assert";
import { PsiData } from "../cri/api.generated.ts";
import { startContainer } from "./container_start.ts";
import { listPodSandboxMetrics, metricDescriptors } from "./metrics.ts";
import { createPod, NEVER, withRuntime } from "./test_runtime.ts";
import { addContainer, MEBIBYTE, nanoseconds, traffic, usage } from "./test_usage.ts";

Deno.test("listPodSandboxMetrics() tells what metricDescriptors() announces, of what is known", () =>
  withRuntime(async (test) => {
    const { pod, container } = await createPod(test.runtime);
    await addContainer(test, pod);
    await startContainer(test.runtime, container, NEVER);
    const started = Math.floor(test.clock.now() / 1000);
    test.clock.advance(9000);
    test.adapter.usages.set(container, usage(test, 2000));
    const descriptors = new Map(metricDescriptors().map((one) => [one.name, one.labelKeys]));
    const [metrics] = listPodSandboxMetrics(test.runtime);
    assertEquals(metrics?.podSandboxId, pod);
    assertEquals(metrics?.containerMetrics?.map(({ containerId }) => containerId), [container]);
    const told = metrics?.containerMetrics?.[0]?.metrics ?? [];
    const values = Object.fromEntries(
      told.map(({ name, labelValues, value }) => [
        [name, ...labelValues?.slice(6) ?? []].join(" "),
        value?.value,
      ]),
    );
    assertEquals(values, {
      container_cpu_usage_seconds_total: 3n,
      container_memory_usage_bytes: 96n * MEBIBYTE,
      container_memory_working_set_bytes: 96n * MEBIBYTE,
      container_memory_rss: 64n * MEBIBYTE,
      "container_memory_failures_total pgfault container": 12n,
      "container_memory_failures_total pgmajfault container": 3n,
      container_last_seen: BigInt(Math.floor((test.clock.now() - 2000) / 1000)),
      container_processes: 4n,
      container_start_time_seconds: BigInt(started),
    });
    for (const { name = "", timestamp, labelValues } of told) {
      const age = name === "container_cpu_usage_seconds_total" ? 4000 : 2000;
      assertEquals(timestamp, nanoseconds(test.clock.now() - age));
      const keys = (descriptors.get(name) ?? []).slice(0, 6);
      assertEquals(Object.fromEntries(keys.map((key, index) => [key, labelValues?.[index]])), {
        container: "main",
        id: container,
        image: "perl",
        name: container,
        namespace: "ns",
        pod: "pod",
      });
    }
    test.adapter.exit(container, 0);
    const ended = listPodSandboxMetrics(test.runtime)[0]?.containerMetrics?.[0]?.metrics;
    assertEquals(ended?.map(({ name }) => name), ["container_cpu_usage_seconds_total"]);
  }));

Deno.test("listPodSandboxMetrics() tells what cgroups count, where there are any", () =>
  withRuntime(async (test) => {
    const { container } = await createPod(test.runtime);
    await startContainer(test.runtime, container, NEVER);
    const io = { Some: PsiData.fromPartial({ Total: 2_500_000_000n }), Full: undefined };
    test.adapter.usages.set(container, {
      ...usage(test, 0),
      counted: {
        usageBytes: 100n,
        peakBytes: 200n,
        throttledNanoseconds: 1_999_999_999n,
        limitHits: 7n,
      },
      pressure: { io },
    });
    const values = () => {
      const [metrics] = listPodSandboxMetrics(test.runtime);
      const told = metrics?.containerMetrics?.[0]?.metrics ?? [];
      const value = (name: string) => told.find((metric) => metric.name === name)?.value?.value;
      return [
        "container_memory_usage_bytes",
        "container_memory_max_usage_bytes",
        "container_memory_failcnt",
        "container_cpu_cfs_throttled_seconds_total",
        "container_pressure_io_waiting_seconds_total",
        "container_pressure_io_stalled_seconds_total",
        "container_threads",
      ].map(value);
    };
    assertEquals(values(), [100n, 200n, 7n, 1n, 2n, undefined, undefined]);
    test.adapter.exit(container, 0);
    assertEquals(values(), [undefined, undefined, 7n, 1n, 2n, undefined, undefined]);
  }));

Deno.test("listPodSandboxMetrics() tells what went through each interface of a pod's own network", () =>
  withRuntime(async (test) => {
    const { pod } = await createPod(test.runtime);
    const told = traffic(test, 0);
    const measure = () => Promise.resolve();
    const runtime = { ...test.runtime, traffic: { measure, of: () => told } };
    const [metrics] = listPodSandboxMetrics(runtime);
    const values = metrics?.metrics?.map(({ name, labelValues, value }) =>
      `${name} ${labelValues?.at(-1)} ${value?.value}`
    );
    assertEquals(values?.toSorted(), [
      "container_network_receive_bytes_total eth0 10",
      "container_network_receive_bytes_total net1 20",
      "container_network_receive_errors_total eth0 12",
      "container_network_receive_errors_total net1 24",
      "container_network_receive_packets_dropped_total eth0 13",
      "container_network_receive_packets_dropped_total net1 26",
      "container_network_receive_packets_total eth0 11",
      "container_network_receive_packets_total net1 22",
      "container_network_transmit_bytes_total eth0 20",
      "container_network_transmit_bytes_total net1 40",
      "container_network_transmit_errors_total eth0 22",
      "container_network_transmit_errors_total net1 44",
      "container_network_transmit_packets_dropped_total eth0 23",
      "container_network_transmit_packets_dropped_total net1 46",
      "container_network_transmit_packets_total eth0 21",
      "container_network_transmit_packets_total net1 42",
    ]);
    const labels = new Map(metricDescriptors().map(({ name, labelKeys }) => [name, labelKeys]));
    for (const { name = "", labelValues = [] } of metrics?.metrics ?? []) {
      const keys = labels.get(name) ?? [];
      const { interface: _, ...others } = Object.fromEntries(
        keys.map((key, index) => [key, labelValues[index]]),
      );
      assertEquals(others, {
        container: "",
        id: pod,
        image: "",
        name: pod,
        namespace: "ns",
        pod: "pod",
      });
    }
  }));
