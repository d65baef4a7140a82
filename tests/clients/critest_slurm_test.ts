/** critest against a server whose containers are Slurm jobs: what does not pass is on a list, with reasons. */
import { assertEquals, assertMatch } from "@std/assert";
import { writeStdoutLine } from "../../lib/base/log.ts";
import { runCritest } from "../../scripts/lab/critest.ts";
import { Lab } from "../../scripts/lab/lab.ts";
import { NodeServer } from "../../scripts/lab/node_server.ts";
import { nothingLeft, prepareLab } from "./pods.ts";
import { EXCEPTIONS, type Exceptions, SLOW_SPECS } from "./critest_slurm.ts";

/** What the names of all of critest's specs begin with. */
const PREFIX = "[k8s.io] ";

const lab = new Lab();
// critest's containers name no cluster.
const server = new NodeServer(lab, { name: "critest", ownLogin: true });

Deno.test.beforeAll(async () => {
  await prepareLab(lab);
  await server.forget();
  await server.start();
});
Deno.test.afterAll(() => server.stop());

/** The full names of an entry's specs. */
const namesOf = ({ under, specs }: Exceptions) => specs.map((spec) => `${PREFIX}${under}${spec}`);

Deno.test("critest passes on Slurm jobs, but for the specs on the list", async () => {
  const beside = SLOW_SPECS.map((words) => words.replaceAll(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  const { passed, failed, skipped } = await runCritest(lab, {
    socketPath: server.socketPath,
    beside,
  });
  writeStdoutLine(`${passed.length} passed, ${failed.length} failed, ${skipped.length} skipped`);
  const fails = EXCEPTIONS.filter(({ message }) => message !== undefined);
  const isSkipped = EXCEPTIONS.filter(({ message }) => message === undefined);
  const mayPass = fails.filter((entry) => entry.mayPass).flatMap(namesOf);
  assertEquals(
    [...new Set([...failed.map(({ name }) => name), ...mayPass])].sort(),
    fails.flatMap(namesOf).sort(),
    JSON.stringify(failed, null, 1),
  );
  assertEquals(skipped.sort(), isSkipped.flatMap(namesOf).sort());
  for (const { name, message } of failed) {
    const entry = fails.find((entry) => namesOf(entry).includes(name));
    assertMatch(message, entry?.message ?? /^$/, `${name} fails for another reason`);
  }
  assertEquals(await server.crictlOk(["pods", "--quiet"]), "");
  await nothingLeft(lab);
});
