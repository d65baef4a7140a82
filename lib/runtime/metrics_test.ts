import { assertEquals } from "@std/assert";
import { startContainer } from "./container_start.ts";
import { listPodSandboxMetrics, metricDescriptors } from "./metrics.ts";
import { createPod, NEVER, withRuntime } from "./test_runtime.ts";
import { addContainer, MEBIBYTE, nanoseconds, usage } from "./test_usage.ts";

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
    const values = Object.fromEntries(told.map(({ name, value }) => [name, value?.value]));
    assertEquals(values, {
      container_cpu_usage_seconds_total: 3n,
      container_memory_usage_bytes: 96n * MEBIBYTE,
      container_memory_working_set_bytes: 96n * MEBIBYTE,
      container_memory_rss: 64n * MEBIBYTE,
      container_processes: 4n,
      container_start_time_seconds: BigInt(started),
    });
    for (const { name = "", timestamp, labelValues } of told) {
      const age = name === "container_cpu_usage_seconds_total" ? 4000 : 2000;
      assertEquals(timestamp, nanoseconds(test.clock.now() - age));
      const keys = descriptors.get(name) ?? [];
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
