import { assertEquals, assertRejects } from "@std/assert";
import type { Adapter, LayerUsage } from "../adapters/adapter.ts";
import { CriError } from "../base/error.ts";
import { ContainerStatsFilter, PsiData, PsiStats } from "../cri/api.generated.ts";
import { startContainer } from "./container_start.ts";
import { containerStats, listContainerStats } from "./container_stats.ts";
import { runPodSandbox } from "./sandbox_run.ts";
import { createPod, NEVER, sandboxRequest, withRuntime } from "./test_runtime.ts";
import { addContainer, figures, MEBIBYTE, nanoseconds, usage } from "./test_usage.ts";

Deno.test("containerStats() has times and no figures while nothing is known", () =>
  withRuntime(async (test) => {
    const { container } = await createPod(test.runtime);
    const created = nanoseconds(test.clock.now());
    const unknown = (since: bigint) => ({
      cpu: [since, undefined, undefined],
      memory: [since, undefined, undefined],
    });
    assertEquals(figures(containerStats(test.runtime, container)), unknown(created));
    test.clock.advance(1000);
    await startContainer(test.runtime, container, NEVER);
    const stats = containerStats(test.runtime, container.slice(0, 10));
    assertEquals(figures(stats), unknown(created + nanoseconds(1000)));
    assertEquals(stats.attributes?.metadata?.name, "main");
    assertEquals(stats.writableLayer?.usedBytes?.value, 0n);
    assertEquals(stats.writableLayer?.fsId?.mountpoint, test.runtime.images.directory);
  }));

Deno.test("containerStats() tells what is known, and of an ended container its cpu only", () =>
  withRuntime(async (test) => {
    const { pod } = await createPod(test.runtime);
    const container = await addContainer(test, pod);
    await startContainer(test.runtime, container, NEVER);
    test.clock.advance(9000);
    test.adapter.usages.set(container, usage(test, 2000));
    const measured = nanoseconds(test.clock.now() - 2000);
    const stats = containerStats(test.runtime, container);
    assertEquals(figures(stats), {
      cpu: [measured - nanoseconds(2000), 3_700_000_000n, 500_000_000n],
      memory: [measured, 96n * MEBIBYTE, 64n * MEBIBYTE],
    });
    assertEquals(stats.memory?.availableBytes?.value, 32n * MEBIBYTE);
    assertEquals([stats.memory?.pageFaults?.value, stats.memory?.majorPageFaults?.value], [
      12n,
      3n,
    ]);
    assertEquals(stats.attributes?.labels, { app: "side" });
    assertEquals(stats.attributes?.annotations, { note: "x" });
    test.adapter.exit(container, 0);
    assertEquals(figures(containerStats(test.runtime, container)), {
      cpu: [measured - nanoseconds(2000), 3_700_000_000n, undefined],
      memory: [nanoseconds(test.clock.now()), undefined, undefined],
    });
  }));

Deno.test("containerStats() tells swap, pressure and all memory of a container in cgroups", () =>
  withRuntime(async (test) => {
    const { container } = await createPod(test.runtime);
    await startContainer(test.runtime, container, NEVER);
    const psi = (Total: bigint) =>
      PsiStats.fromPartial({ Some: PsiData.fromPartial({ Total, Avg10: 0.5 }) });
    const tell = (swapLimitBytes: bigint | undefined) =>
      test.adapter.usages.set(container, {
        ...usage(test, 0),
        counted: {
          usageBytes: 128n * MEBIBYTE,
          swapBytes: 30n,
          ...(swapLimitBytes === undefined ? {} : { swapLimitBytes }),
        },
        pressure: { cpu: psi(1n), memory: psi(2n), io: psi(3n) },
      });
    for (const [limit, left] of [[undefined, undefined], [100n, 70n], [20n, 0n]] as const) {
      tell(limit);
      const { swap } = containerStats(test.runtime, container);
      assertEquals([swap?.swapUsageBytes?.value, swap?.swapAvailableBytes?.value], [30n, left]);
    }
    const { cpu, memory, io } = containerStats(test.runtime, container);
    assertEquals(memory?.usageBytes?.value, 128n * MEBIBYTE);
    assertEquals([cpu?.psi, memory?.psi, io?.psi], [psi(1n), psi(2n), psi(3n)]);
    test.adapter.exit(container, 0);
    const ended = containerStats(test.runtime, container);
    assertEquals([ended.swap, ended.io, ended.cpu?.psi], [undefined, undefined, undefined]);
  }));

Deno.test("containerStats() tells the writable layer as far as an adapter with such knows it", () =>
  withRuntime(async (test) => {
    const { container } = await createPod(test.runtime);
    const adapter: Adapter = test.adapter;
    const layer = () => containerStats(test.runtime, container).writableLayer;
    const created = nanoseconds(test.clock.now());
    const known: LayerUsage[] = [];
    adapter.layerUsage = () => known[0];
    test.clock.advance(9000);
    assertEquals([layer()?.timestamp, layer()?.usedBytes, layer()?.inodesUsed], [
      created,
      undefined,
      undefined,
    ]);
    const measuredAtMs = test.clock.now() - 1000;
    known.push({ directory: "/layers", measuredAtMs, bytes: 4096n, inodes: 2n });
    assertEquals(layer(), {
      timestamp: nanoseconds(measuredAtMs),
      fsId: { mountpoint: "/layers" },
      usedBytes: { value: 4096n },
      inodesUsed: { value: 2n },
    });
  }));

Deno.test("containerStats() tells no time of a node whose clock is ahead", () =>
  withRuntime(async (test) => {
    const { container } = await createPod(test.runtime);
    test.adapter.usages.set(container, usage(test, -60_000));
    const { cpu } = containerStats(test.runtime, container);
    assertEquals(cpu?.timestamp, nanoseconds(test.clock.now()));
  }));

Deno.test("containerStats() fails with NOT_FOUND without the container", () =>
  withRuntime(async ({ runtime }) => {
    const error = await assertRejects(async () => await containerStats(runtime, "ffff"), CriError);
    assertEquals(error.code, "NOT_FOUND");
  }));

Deno.test("listContainerStats() chooses by id, sandbox and labels", () =>
  withRuntime(async (test) => {
    const { pod, container } = await createPod(test.runtime);
    const side = await addContainer(test, pod);
    const other = await runPodSandbox(
      test.runtime,
      sandboxRequest({ config: { metadata: { name: "o", uid: "2" }, labels: { app: "o" } } }),
      NEVER,
    );
    const cases: [Parameters<typeof ContainerStatsFilter.fromPartial>[0] | undefined, string[]][] =
      [
        [undefined, [container, side]],
        [{}, [container, side]],
        [{ id: side }, [side]],
        [{ id: side.slice(0, 9) }, [side]],
        [{ podSandboxId: pod }, [container, side]],
        [{ podSandboxId: other }, []],
        [{ labelSelector: { app: "side" } }, [side]],
        [{ labelSelector: { app: "main" } }, []],
        [{ id: container, labelSelector: { app: "side" } }, []],
      ];
    for (const [filter, found] of cases) {
      const stats = listContainerStats(
        test.runtime,
        filter && ContainerStatsFilter.fromPartial(filter),
      );
      assertEquals(stats.map(({ attributes }) => attributes?.id), found, JSON.stringify(filter));
    }
  }));
