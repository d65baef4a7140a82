/** Containers on the node itself that could be created and not be started. */
import { assertEquals, assertMatch, assertRejects } from "@std/assert";
import { ContainerState, NamespaceMode } from "../../lib/cri/api.generated.ts";
import { prepareNode } from "../../scripts/lab/node_server.ts";
import { lab, onNode } from "../on_node.ts";

Deno.test.beforeAll(() => prepareNode(lab, () => {}));

Deno.test("a container whose command is not there has the code of a failed start", () =>
  onNode(async ({ client }) => {
    const pod = await client.runPod();
    const id = await client.create(pod, "", { command: ["/no/such"] });
    await assertRejects(() => client.call("startContainer", { containerId: id }));
    const { state, exitCode, reason, message } = await client.status(id);
    assertEquals([state, exitCode, reason], [ContainerState.CONTAINER_EXITED, 128, "StartError"]);
    assertMatch(message, /\/no\/such/);
  }));

Deno.test("a container that can be started no more has the code of a failed start", () =>
  onNode(async ({ client }) => {
    const { pod, id: targetId } = await client.runContainer("sleep 60");
    const namespaceOptions = { pid: NamespaceMode.TARGET, targetId };
    const late = await client.create(pod, "true", {
      metadata: { name: "late", attempt: 0 },
      linux: { securityContext: { namespaceOptions } },
    });
    await client.call("stopContainer", { containerId: targetId, timeout: 0n });
    const unlogged = await client.runPod();
    const mute = await client.create(unlogged, "true");
    const { logDirectory } = unlogged.config;
    await lab.exec("knode", ["sh", "-euc", 'rm -rf "$1"; : >"$1"', "sh", logDirectory]);
    const cases: [id: string, words: RegExp][] = [
      [late, /must be a running one of the same pod/],
      [mute, new RegExp(logDirectory)],
    ];
    for (const [containerId, words] of cases) {
      const error = await assertRejects(
        () => client.call("startContainer", { containerId }),
        Error,
      );
      assertMatch(error.message, words);
      const { state, exitCode, reason, message } = await client.status(containerId);
      assertEquals([state, exitCode, reason], [ContainerState.CONTAINER_EXITED, 128, "StartError"]);
      assertMatch(message, words);
    }
  }));
