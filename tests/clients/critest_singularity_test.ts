/** critest against a server whose containers run on the node itself: what does not pass is on a list, with reasons. */
import { assertEquals } from "@std/assert";
import { runCritest } from "../../scripts/lab/critest.ts";
import { NetworkNode } from "../network_node.ts";
import { assertOutcome } from "./critest_outcome.ts";
import { EXCEPTIONS } from "./critest_singularity.ts";
import { leftOnNode } from "../node_leftovers.ts";

Deno.test("critest passes on the node itself, but for the specs on the list", async () => {
  const node = await NetworkNode.start("onnode", { flags: ["--adapter-name", "singularity"] });
  const { lab, server } = node;
  try {
    assertOutcome(await runCritest(lab, { socketPath: server.socketPath }), EXCEPTIONS);
    assertEquals(await server.crictlOk(["pods", "--quiet"]), "");
  } finally {
    await node.stop();
  }
  assertEquals(await leftOnNode(server), "");
});
