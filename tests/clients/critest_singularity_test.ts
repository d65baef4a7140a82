/** critest against a server whose containers run on the node itself: what does not pass is on a list, with reasons. */
import { assert, assertEquals } from "@std/assert";
import { type CritestOptions, runCritest } from "../../scripts/lab/critest.ts";
import type { TestReport } from "../../scripts/junit.ts";
import { NetworkNode } from "../network_node.ts";
import { assertOutcome } from "./critest_outcome.ts";
import { EXCEPTIONS } from "./critest_singularity.ts";
import { leftOnNode } from "../node_leftovers.ts";

/** What came of a run against a server of its own, which leaves nothing. */
async function critestOnNode(options: Omit<CritestOptions, "socketPath">): Promise<TestReport> {
  const node = await NetworkNode.start("onnode", { flags: ["--adapter-name", "singularity"] });
  const { lab, server } = node;
  let report: TestReport;
  try {
    report = await runCritest(lab, { ...options, socketPath: server.socketPath });
    assertEquals(await server.crictlOk(["pods", "--quiet"]), "");
  } finally {
    await node.stop();
  }
  assertEquals(await leftOnNode(server), "");
  return report;
}

Deno.test("critest passes on the node itself, but for the specs on the list", async () =>
  assertOutcome(await critestOnNode({}), EXCEPTIONS));

Deno.test("critest's streams pass on the node itself by WebSocket too", async () => {
  const { passed, failed } = await critestOnNode({
    focus: [" Streaming "],
    flags: ["-websocket-exec", "-websocket-attach", "-websocket-portforward"],
  });
  assertEquals(failed, []);
  assert(passed.length >= 5, `passed: ${passed.length}`);
});
