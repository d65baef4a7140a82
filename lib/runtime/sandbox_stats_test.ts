import { assertEquals, assertRejects } from "@std/assert";
import { CriError } from "../base/error.ts";
import { NetworkInterfaceUsage, PodSandboxStatsFilter } from "../cri/api.generated.ts";
import { startContainer } from "./container_start.ts";
import { runPodSandbox } from "./sandbox_run.ts";
import { listPodSandboxStats, podSandboxStats } from "./sandbox_stats.ts";
import { createPod, NEVER, sandboxRequest, withRuntime } from "./test_runtime.ts";
import { addContainer, figures, MEBIBYTE, nanoseconds, traffic, usage } from "./test_usage.ts";

Deno.test("podSandboxStats() are the sums of what is known of the containers", () =>
  withRuntime(async (test) => {
    const { pod, container } = await createPod(test.runtime);
    const created = nanoseconds(test.clock.now());
    const side = await addContainer(test, pod);
    assertEquals(figures(podSandboxStats(test.runtime, pod).linux), {
      cpu: [created, undefined, undefined],
      memory: [created, undefined, undefined],
    });
    await startContainer(test.runtime, container, NEVER);
    await startContainer(test.runtime, side, NEVER);
    test.clock.advance(9000);
    test.adapter.usages.set(container, usage(test, 3000));
    test.adapter.usages.set(side, usage(test, 1000));
    const measured = nanoseconds(test.clock.now() - 1000);
    const { linux } = podSandboxStats(test.runtime, pod.slice(0, 8));
    assertEquals(figures(linux), {
      cpu: [measured - nanoseconds(1000), 7_400_000_000n, 1_000_000_000n],
      memory: [measured, 192n * MEBIBYTE, 128n * MEBIBYTE],
    });
    assertEquals(linux?.process?.processCount?.value, 8n);
    assertEquals(linux?.network, undefined);
    assertEquals(linux?.containers.map(({ attributes }) => attributes?.id), [container, side]);
    test.adapter.exit(side, 0);
    const after = podSandboxStats(test.runtime, pod).linux;
    assertEquals(after?.cpu?.usageCoreNanoSeconds?.value, 7_400_000_000n);
    assertEquals(after?.memory?.rssBytes?.value, 64n * MEBIBYTE);
    assertEquals(after?.process?.processCount?.value, 4n);
  }));

Deno.test("podSandboxStats() tell what went through the pod's network when it has one of its own", () =>
  withRuntime(async (test) => {
    const { pod } = await createPod(test.runtime);
    test.clock.advance(2000);
    const told = traffic(test, 1000);
    const of = (id: string) => id === pod ? told : undefined;
    const runtime = { ...test.runtime, traffic: { of, measure: () => Promise.resolve() } };
    const usage = (name: string, numbers: readonly bigint[]) => {
      const [rxBytes, rxErrors, txBytes, txErrors] = numbers.map((value) => ({ value }));
      return NetworkInterfaceUsage.fromPartial({ name, rxBytes, rxErrors, txBytes, txErrors });
    };
    assertEquals(podSandboxStats(runtime, pod).linux?.network, {
      timestamp: nanoseconds(test.clock.now() - 1000),
      defaultInterface: usage("eth0", [10n, 12n, 20n, 22n]),
      interfaces: [usage("net1", [20n, 24n, 40n, 44n])],
    });
  }));

Deno.test("listPodSandboxStats() chooses by id and labels", () =>
  withRuntime(async (test) => {
    const { pod } = await createPod(test.runtime);
    const other = await runPodSandbox(
      test.runtime,
      sandboxRequest({ config: { metadata: { name: "o", uid: "2" }, labels: { app: "o" } } }),
      NEVER,
    );
    const pods: [Parameters<typeof PodSandboxStatsFilter.fromPartial>[0] | undefined, string[]][] =
      [
        [undefined, [pod, other]],
        [{ id: other }, [other]],
        [{ labelSelector: { app: "o" } }, [other]],
        [{ labelSelector: { app: "p" } }, []],
      ];
    for (const [filter, found] of pods) {
      const stats = listPodSandboxStats(
        test.runtime,
        filter && PodSandboxStatsFilter.fromPartial(filter),
      );
      assertEquals(stats.map(({ attributes }) => attributes?.id), found, JSON.stringify(filter));
    }
  }));

Deno.test("podSandboxStats() fails with NOT_FOUND without the sandbox", () =>
  withRuntime(async ({ runtime }) => {
    const error = await assertRejects(async () => await podSandboxStats(runtime, "ffff"), CriError);
    assertEquals(error.code, "NOT_FOUND");
  }));
