import { assertEquals, assertRejects } from "@std/assert";
import { CriError } from "../base/error.ts";
import { LinuxContainerConfig, UpdateContainerResourcesRequest } from "../cri/api.generated.ts";
import { createContainer } from "./container_create.ts";
import { startContainer } from "./container_start.ts";
import { containerStatusResponse } from "./container_status.ts";
import { ABANDON_ANNOTATION, updateContainerResources } from "./container_update.ts";
import { runPodSandbox } from "./sandbox_run.ts";
import {
  containerRequest,
  NEVER,
  sandboxRequest,
  type TestRuntime,
  withRuntime,
} from "./test_runtime.ts";

type Request = Parameters<typeof UpdateContainerResourcesRequest.fromPartial>[0];

async function update({ runtime }: TestRuntime, request: Request): Promise<void> {
  await updateContainerResources(runtime, UpdateContainerResourcesRequest.fromPartial(request));
}

/** A container with a limit of one core and 5 bytes. */
async function limited({ runtime }: TestRuntime): Promise<string> {
  const resources = { cpuQuota: 100n, cpuPeriod: 100n, memoryLimitInBytes: 5n };
  const linux = LinuxContainerConfig.fromPartial({
    resources,
    securityContext: { runAsUsername: "u" },
  });
  return await createContainer(
    runtime,
    containerRequest(await runPodSandbox(runtime, sandboxRequest(), NEVER), { linux }),
  );
}

function told({ runtime }: TestRuntime, id: string): bigint[] {
  const linux = containerStatusResponse(runtime, id, false).status?.resources?.linux;
  return [linux?.cpuQuota, linux?.cpuPeriod, linux?.memoryLimitInBytes].map((value) =>
    value ?? -1n
  );
}

Deno.test("updateContainerResources() changes what is given, and ContainerStatus says so", () =>
  withRuntime(async (test) => {
    const id = await limited(test);
    await update(test, { containerId: id.slice(0, 9), linux: { cpuQuota: 300n } });
    assertEquals(told(test, id), [300n, 100n, 5n]);
    await startContainer(test.runtime, id, NEVER);
    await update(test, {
      containerId: id,
      linux: { memoryLimitInBytes: 7n, cpusetCpus: "1" },
      annotations: { x: "y" },
    });
    assertEquals(told(test, id), [300n, 100n, 7n]);
    const { before, after, annotations } = test.adapter.changes[1] ?? {};
    assertEquals([before?.memoryLimitInBytes, after?.memoryLimitInBytes], [5n, 7n]);
    assertEquals(annotations, { x: "y" });
    const { linux } = test.store.containers.get(id)?.config ?? {};
    assertEquals(linux?.securityContext?.runAsUsername, "u");
    assertEquals(linux?.resources?.cpusetCpus, "1");
  }));

for (
  const [what, change, after] of [
    ["forgets the limit for swap when one for memory comes alone", { memoryLimitInBytes: 7n }, 0n],
    ["takes the limit for swap that comes with one for memory", {
      memoryLimitInBytes: 7n,
      memorySwapLimitInBytes: 8n,
    }, 8n],
    ["keeps the limit for swap when none for memory comes", { cpuShares: 2n }, 6n],
  ] as const
) {
  Deno.test(`updateContainerResources() ${what}`, () =>
    withRuntime(async (test) => {
      const id = await limited(test);
      await update(test, { containerId: id, linux: { memorySwapLimitInBytes: 6n } });
      await update(test, { containerId: id, linux: change });
      assertEquals(test.adapter.changes.at(-1)?.after?.memorySwapLimitInBytes, after);
    }));
}

Deno.test("updateContainerResources() changes nothing when the adapter cannot", () =>
  withRuntime(async (test) => {
    const id = await limited(test);
    test.adapter.failures.update = new CriError("FAILED_PRECONDITION", "it runs");
    await assertRejects(
      () => update(test, { containerId: id, linux: { cpuQuota: 300n } }),
      CriError,
      "it runs",
    );
    assertEquals(told(test, id), [100n, 100n, 5n]);
  }));

Deno.test("updateContainerResources() fails when the container is gone", () =>
  withRuntime(async (test) => {
    const gone = await assertRejects(() => update(test, { containerId: "ffff" }), CriError);
    assertEquals(gone.code, "NOT_FOUND");
  }));

Deno.test("updateContainerResources() changes nothing, and does not fail, when the container has exited or just does", () =>
  withRuntime(async (test) => {
    const id = await limited(test);
    await startContainer(test.runtime, id, NEVER);
    const { updateResources } = test.adapter;
    test.adapter.updateResources = () => {
      test.adapter.exit(id, 0);
      return Promise.reject(new CriError("FAILED_PRECONDITION", "it does not run"));
    };
    await update(test, { containerId: id, linux: { cpuQuota: 300n } });
    test.adapter.updateResources = updateResources;
    await update(test, { containerId: id, linux: { cpuQuota: 300n } });
    assertEquals([told(test, id), test.adapter.changes], [[100n, 100n, 5n], []]);
  }));

Deno.test("updateContainerResources() gives a container up when an administrator says so", () =>
  withRuntime(async (test) => {
    const id = await limited(test);
    await startContainer(test.runtime, id, NEVER);
    await update(test, {
      containerId: id,
      linux: { cpuQuota: 300n },
      annotations: { [ABANDON_ANNOTATION]: "true" },
    });
    assertEquals([test.adapter.changes, test.adapter.calls.includes(`abandon ${id}`)], [[], true]);
    assertEquals(test.store.containers.get(id)?.state.phase, "exited");
  }));
