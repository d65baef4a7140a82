/** critest against a server whose containers are Slurm jobs: what does not pass is on a list, with reasons. */
import { assertEquals } from "@std/assert";
import { runCritest } from "../../scripts/lab/critest.ts";
import { Lab } from "../../scripts/lab/lab.ts";
import { NodeServer } from "../../scripts/lab/node_server.ts";
import { nothingLeft, prepareLab } from "./pods.ts";
import { assertOutcome } from "./critest_outcome.ts";
import { EXCEPTIONS, SLOW_SPECS } from "./critest_slurm.ts";

const lab = new Lab();
// critest's containers name no cluster.
const server = new NodeServer(lab, { name: "critest", ownLogin: true });

Deno.test.beforeAll(async () => {
  await prepareLab(lab);
  await server.forget();
  await server.start();
});
Deno.test.afterAll(() => server.stop());

Deno.test("critest passes on Slurm jobs, but for the specs on the list", async () => {
  const beside = SLOW_SPECS.map((words) => words.replaceAll(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  const report = await runCritest(lab, { socketPath: server.socketPath, beside });
  assertOutcome(report, EXCEPTIONS);
  assertEquals(await server.crictlOk(["pods", "--quiet"]), "");
  await nothingLeft(lab);
});
