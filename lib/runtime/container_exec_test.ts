import { assertEquals, assertRejects } from "@std/assert";
import { CriError } from "../base/error.ts";
import { ExecSyncRequest } from "../cri/api.generated.ts";
import { execSync } from "./container_exec.ts";
import { startContainer } from "./container_start.ts";
import { createPod, NEVER, type TestRuntime, withRuntime } from "./test_runtime.ts";

async function exec(
  { runtime }: TestRuntime,
  request: Parameters<typeof ExecSyncRequest.fromPartial>[0],
): Promise<unknown> {
  return await execSync(runtime, ExecSyncRequest.fromPartial(request), NEVER);
}

Deno.test("execSync() asks the adapter in milliseconds and gives what it gives", () =>
  withRuntime(async (test) => {
    const { container } = await createPod(test.runtime);
    await startContainer(test.runtime, container, NEVER);
    const answer = { stdout: Uint8Array.of(1), stderr: Uint8Array.of(2), exitCode: 3 };
    const asked = [0n, 7n, 1n << 62n];
    for (const timeout of asked) {
      const request = { containerId: container.slice(0, 12), cmd: ["a", "b"], timeout };
      assertEquals(await exec(test, request), answer);
    }
    assertEquals(
      test.adapter.calls.filter((call) => call.startsWith("exec")),
      [0, 7000, 0].map((ms) => `exec ${container} ${ms} a b`),
    );
  }));

Deno.test("execSync() fails with FAILED_PRECONDITION when the container does not run", () =>
  withRuntime(async (test) => {
    const { container } = await createPod(test.runtime);
    const request = { containerId: container, cmd: ["a"] };
    const created = await assertRejects(() => exec(test, request), CriError, "it is created");
    await startContainer(test.runtime, container, NEVER);
    test.adapter.exit(container, 7);
    const exited = await assertRejects(() => exec(test, request), CriError, "it is exited");
    assertEquals([created.code, exited.code], ["FAILED_PRECONDITION", "FAILED_PRECONDITION"]);
  }));

const REFUSED: [request: Parameters<typeof ExecSyncRequest.fromPartial>[0], code: string][] = [
  [{ cmd: [] }, "INVALID_ARGUMENT"],
  [{ cmd: [""] }, "INVALID_ARGUMENT"],
  [{ cmd: ["a"], timeout: -1n }, "INVALID_ARGUMENT"],
  [{ cmd: ["a"], containerId: "ffff" }, "NOT_FOUND"],
];
for (const [request, code] of REFUSED) {
  const { cmd, timeout = 0n, containerId = "it" } = request;
  Deno.test(
    `execSync() fails with ${code} when asked to run ${
      JSON.stringify(cmd)
    } for ${timeout} s in ${containerId}`,
    () =>
      withRuntime(async (test) => {
        const { container } = await createPod(test.runtime);
        await startContainer(test.runtime, container, NEVER);
        const error = await assertRejects(
          () => exec(test, { containerId: container, ...request }),
          CriError,
        );
        assertEquals(error.code, code);
      }),
  );
}
