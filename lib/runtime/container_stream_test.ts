import { assertEquals, assertRejects } from "@std/assert";
import { CriError } from "../base/error.ts";
import { AttachRequest, ExecRequest, PortForwardRequest } from "../cri/api.generated.ts";
import { startContainer } from "./container_start.ts";
import { attach, exec, portForward } from "./container_stream.ts";
import { createPod, NEVER, type TestRuntime, withRuntime } from "./test_runtime.ts";

type Verb = "exec" | "attach" | "portForward";

/** Calls a verb on a container and its pod. */
async function call(
  { runtime }: TestRuntime,
  verb: Verb,
  ids: { container: string; pod: string },
  request: Parameters<typeof ExecRequest.fromPartial>[0] = {},
): Promise<string> {
  const whole = { containerId: ids.container, stdout: true, cmd: ["a", "b"], ...request };
  switch (verb) {
    case "exec":
      return await exec(runtime, ExecRequest.fromPartial(whole), NEVER);
    case "attach":
      return await attach(runtime, AttachRequest.fromPartial(whole), NEVER);
    case "portForward":
      return await portForward(
        runtime,
        PortForwardRequest.fromPartial({ podSandboxId: ids.pod }),
        NEVER,
      );
  }
}

Deno.test("exec(), attach() and portForward() answer with what the adapter prepared", () =>
  withRuntime(async (test) => {
    const ids = await createPod(test.runtime);
    await startContainer(test.runtime, ids.container, NEVER);
    const short = { ...ids, container: ids.container.slice(0, 12) };
    const wanted = '{"stdin":true,"stdout":true,"stderr":false,"tty":true}';
    const streams = { stdin: true, tty: true };
    assertEquals(await call(test, "exec", short, streams), `exec ${wanted}`);
    assertEquals(await call(test, "attach", short, streams), `attach ${wanted}`);
    assertEquals(await call(test, "portForward", ids), "ports");
    assertEquals(test.adapter.calls.filter((each) => each.startsWith("open")), [
      `open exec ${ids.container} true a b`,
      `open attach ${ids.container}`,
      `open ports ${ids.container}`,
    ]);
  }));

for (const verb of ["exec", "attach", "portForward"] as const) {
  Deno.test(`${verb}() fails with FAILED_PRECONDITION when the container does not run`, () =>
    withRuntime(async (test) => {
      const ids = await createPod(test.runtime);
      const refused = async () =>
        (await assertRejects(() => call(test, verb, ids), CriError, "must be running")).code;
      assertEquals(await refused(), "FAILED_PRECONDITION");
      await startContainer(test.runtime, ids.container, NEVER);
      test.adapter.exit(ids.container, 7);
      assertEquals(await refused(), "FAILED_PRECONDITION");
    }));

  Deno.test(`${verb}() fails as the adapter does when nobody can tell now`, () =>
    withRuntime(async (test) => {
      const ids = await createPod(test.runtime);
      await startContainer(test.runtime, ids.container, NEVER);
      test.adapter.failures.open = new CriError("UNAVAILABLE", "its job 17 waits");
      await assertRejects(() => call(test, verb, ids), CriError, "its job 17 waits");
    }));
}

const REFUSED: [
  verb: Verb,
  request: Parameters<typeof ExecRequest.fromPartial>[0],
  says: string,
][] = [
  ["exec", { cmd: [] }, "the command is empty"],
  ["exec", { cmd: [""] }, "the command is empty"],
  ["exec", { stdout: false }, "one of stdin, stdout and stderr"],
  ["exec", { tty: true, stderr: true }, "a terminal has no stderr"],
  ["attach", { stdout: false }, "one of stdin, stdout and stderr"],
  ["attach", { tty: true, stderr: true }, "a terminal has no stderr"],
];
for (const [verb, request, says] of REFUSED) {
  Deno.test(`${verb}() fails with INVALID_ARGUMENT when it is asked for ${JSON.stringify(request)}`, () =>
    withRuntime(async (test) => {
      const ids = await createPod(test.runtime);
      await startContainer(test.runtime, ids.container, NEVER);
      const error = await assertRejects(() => call(test, verb, ids, request), CriError, says);
      assertEquals(error.code, "INVALID_ARGUMENT");
    }));
}
