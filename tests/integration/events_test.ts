/** `crictl events` on the real lab. */
import { assertEquals } from "@std/assert";
import { delay } from "@std/async/delay";
import { NodeProgram } from "../../scripts/lab/node_program.ts";
import { Harness } from "./harness.ts";

const LOG_PATH = "/var/log/events-client.log";
const START_TIMEOUT_MS = 30_000;
const POLL_MS = 50;

let harness: Harness;
Deno.test.beforeAll(async () => {
  harness = await Harness.start({ name: "events" });
});
Deno.test.afterAll(() => harness?.stop());

/** The parts of an event that the test looks at, as crictl prints it. */
interface Event {
  containerId: string;
  containerEventType: string;
  podSandboxStatus: { id: string; state: string };
  containersStatuses: { id: string; state: string; exitCode: number }[];
}

/** What crictl has printed: indented JSON objects, one after another. */
function parse(log: string): Event[] {
  return log.split(/(?<=^}\n)/m).filter((text) => text.endsWith("}\n")).map((text) =>
    JSON.parse(text)
  );
}

/** A pod's life without a container. */
async function passingPod(): Promise<string> {
  const { pod } = await harness.create({ command: ["true"] });
  await harness.server.crictlOk(["rmp", "--force", pod]);
  return pod;
}

Deno.test("crictl events tells a pod's life, each event once", async () => {
  await harness.lab.exec("knode", ["rm", "-f", LOG_PATH]);
  const client = await NodeProgram.start(harness.lab, {
    name: "crictl events",
    argv: harness.server.crictlArgv(["events"]),
    logPath: LOG_PATH,
  }, {
    // It tells nobody that it listens, but by its first event.
    answers: async () => {
      await passingPod();
      return (await Deno.readTextFile(harness.lab.path("knode", LOG_PATH))) !== "";
    },
    timeoutMs: START_TIMEOUT_MS,
  });
  try {
    const made = await harness.run({ command: ["/bin/sh", "-c", "exit 7"] });
    await harness.exited(made.container);
    await harness.removeCleanly(made);
    const last = await passingPod();
    const { pod, container } = made;
    let told: Event[] = [];
    while (told.at(-1)?.containerId !== last) {
      await delay(POLL_MS);
      told = parse(await client.log());
    }
    const own = told.filter(({ podSandboxStatus }) => podSandboxStatus.id === pod);
    assertEquals(own.map((event) => [event.containerId, event.containerEventType]), [
      [pod, "CONTAINER_CREATED_EVENT"],
      [pod, "CONTAINER_STARTED_EVENT"],
      [container, "CONTAINER_CREATED_EVENT"],
      [container, "CONTAINER_STARTED_EVENT"],
      [container, "CONTAINER_STOPPED_EVENT"],
      [pod, "CONTAINER_STOPPED_EVENT"],
      [container, "CONTAINER_DELETED_EVENT"],
      [pod, "CONTAINER_DELETED_EVENT"],
    ]);
    const [status] = own[4]?.containersStatuses ?? [];
    assertEquals([status?.id, status?.state, status?.exitCode], [
      container,
      "CONTAINER_EXITED",
      7,
    ]);
  } finally {
    await client.kill();
  }
});
