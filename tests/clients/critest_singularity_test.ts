/** critest against a server whose containers run on the node itself: what does not pass is on a list, with reasons. */
import { assertEquals } from "@std/assert";
import { runCritest } from "../../scripts/lab/critest.ts";
import { Lab } from "../../scripts/lab/lab.ts";
import { NodeServer, prepareNode } from "../../scripts/lab/node_server.ts";
import { assertOutcome } from "./critest_outcome.ts";
import { EXCEPTIONS } from "./critest_singularity.ts";

const lab = new Lab();
const server = new NodeServer(lab, { name: "onnode", flags: ["--adapter-name", "singularity"] });

Deno.test.beforeAll(() => prepareNode(lab, () => {}));
Deno.test.afterAll(() => server.stop());

Deno.test("critest passes on the node itself, but for the specs on the list", async () => {
  await server.forget();
  await server.start();
  // It would wait a minute for what cannot come.
  const skip = ["port mapping with host port"];
  assertOutcome(await runCritest(lab, { socketPath: server.socketPath, skip }), EXCEPTIONS);
  assertEquals(await server.crictlOk(["pods", "--quiet"]), "");
  // Images stay mounted for a moment, and no longer than the server runs.
  await server.stop();
  const left = [
    "sh",
    "-c",
    `ls ${server.rootDir}/containers ${server.rootDir}/images ` +
    `${server.rootDir}/output ${server.stateDir}/pods ${server.stateDir}/containers | grep -v :; ` +
    `grep -c ${server.rootDir}/ /proc/mounts`,
  ];
  assertEquals((await lab.exec("knode", left)).stdout.trim(), "0");
});
