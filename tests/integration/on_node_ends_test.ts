/**
 * Containers on the node itself that cannot begin or end as they should: starts that hang, and files that somebody
 * removed.
 */
import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { delay } from "@std/async/delay";
import { NamespaceMode } from "../../lib/cri/api.generated.ts";
import { prepareNode } from "../../scripts/lab/node_server.ts";
import { randomSource, seedFor } from "../../wasm/test_random.ts";
import { lab, onNode } from "../on_node.ts";

const FILE = "/etc/cdi/lab-slow.yaml";
/** What a hook leaves when it begins, and what it waits for. */
const [BEGUN, GO] = ["/run/lab-slow-begun", "/run/lab-slow-go"];

/** A program that holds crun as it starts a container, and then fails if a file says so. */
const DESCRIPTION = `
cdiVersion: 0.6.0
kind: lab.example/slow
devices:
  - name: one
    containerEdits:
      hooks:
        - hookName: createRuntime
          path: /bin/sh
          args: [sh, -c, ": >${BEGUN}; until [ -e ${GO} ]; do sleep 0.1; done; exec grep -q well ${GO}"]
`;
const SLOW = { CDIDevices: [{ name: "lab.example/slow=one" }] };

const sh = async (script: string, ...args: string[]) =>
  await lab.exec("knode", ["sh", "-euc", script, "sh", ...args]);
const hasBegun = async () => (await sh('[ -e "$1" ]', BEGUN)).code === 0;
const forget = () => sh('rm -f "$@"', BEGUN, GO);

Deno.test.beforeAll(async () => {
  await prepareNode(lab, () => {});
  await lab.exec("knode", ["mkdir", "-p", "/etc/cdi"]);
  await Deno.writeTextFile(lab.path("knode", FILE), DESCRIPTION);
});

Deno.test.afterAll(async () => {
  await sh('rm -f "$@"', FILE, BEGUN, GO);
});

Deno.test("a start that hangs is given up when its container is stopped or removed", () =>
  onNode(async ({ client }) => {
    for (const verb of ["stopContainer", "removeContainer"] as const) {
      await forget();
      const pod = await client.runPod();
      const id = await client.create(pod, "true", SLOW);
      const started = assertRejects(
        () => client.call("startContainer", { containerId: id }),
        Error,
        `Cannot start the container ${id}: it was stopped before it began.`,
      );
      while (!await hasBegun()) await delay(20);
      await client.call(verb, { containerId: id });
      await started;
      assertEquals((await sh('pgrep -af "until .*[l]ab-slow-go"')).stdout, "");
      if (verb === "removeContainer") continue;
      const { exitCode, reason } = await client.exited(id);
      assertEquals([exitCode, reason], [128, "StartError"]);
    }
  }));

Deno.test("nothing of a container runs that was stopped at any moment of its start", () =>
  onNode(async ({ client }) => {
    const random = randomSource(seedFor("on_node_ends_test starts"));
    // From before the first process of a start to after the last.
    const [rounds, longestMs] = [50, 80];
    const pod = await client.runPod();
    const processes = `find /sys/fs/cgroup -name cgroup.procs -path "*$1*" -exec cat {} +`;
    for (let round = 0; round < rounds; round++) {
      const id = await client.create(pod, "exec sleep 1000", {
        metadata: { name: `c${round}`, attempt: 0 },
      });
      const started = client.outcome("startContainer", { containerId: id });
      await delay(random.below(longestMs));
      // On a loaded node the first may come before the start, and is about nothing.
      for (let state = ""; state !== "CONTAINER_EXITED"; state = await client.state(id)) {
        await client.call("stopContainer", { containerId: id, timeout: 0n });
      }
      assertEquals((await sh(processes, id)).stdout, "", `round ${round}`);
      await started;
      await client.call("removeContainer", { containerId: id });
    }
  }));

Deno.test("a start that is under way when the server is killed is told as it ended", () =>
  onNode(async ({ server, client }) => {
    for (const end of ["well", "badly", "stopped"]) {
      await forget();
      const pod = await client.runPod();
      const id = await client.create(pod, "exit 7", SLOW);
      const started = client.outcome("startContainer", { containerId: id });
      while (!await hasBegun()) await delay(20);
      // It alone; the lab would also kill what it has as children.
      const kill = `server=$(pgrep -f "main.ts .*--socket-path $1")
kill -KILL "$server"
while kill -0 "$server" 2>/dev/null; do sleep 0.02; done`;
      await sh(kill, server.socketPath);
      await started;
      await server.kill();
      const begun = server.start();
      if (end !== "stopped") await sh('echo "$1" >"$2"', end, GO);
      await begun;
      if (end === "stopped") await client.call("stopContainer", { containerId: id, timeout: 30n });
      const { exitCode, reason, message } = await client.exited(id);
      assertEquals([exitCode, reason], end === "well" ? [7, "Error"] : [128, "StartError"]);
      if (end === "badly") assertMatch(message, /^Cannot start the container \w+: .*hook/);
    }
  }));

const ENDS: [what: string, script: string, timeout: bigint, code: number][] = [
  ["handles its signal", "trap 'exit 5' TERM; while :; do sleep 0.1; done", 30n, 5],
  ["does not", "trap '' TERM; while :; do sleep 0.1; done", 0n, 137],
];

for (const [what, script, timeout, code] of ENDS) {
  Deno.test(`a container of which crun knows nothing more is stopped and told of truly when it ${what}`, () =>
    onNode(async ({ server, client }) => {
      // What a program leaves behind does not end with it where the pod shares its processes.
      const shared = { namespaceOptions: { pid: NamespaceMode.POD } };
      const pod = await client.runPod(client.podConfig({ linux: { securityContext: shared } }));
      const id = await client.create(pod, `sleep 1000 & echo begun; ${script}`);
      await client.call("startContainer", { containerId: id });
      await sh('rm -r "$1/crun/$2"', server.stateDir, id);
      await assertRejects(
        () => client.call("execSync", { containerId: id, cmd: ["true"] }),
        Error,
        "somebody removed what crun knows of it",
      );
      await client.call("stopContainer", { containerId: id, timeout });
      assertEquals((await client.exited(id)).exitCode, code);
    }));
}

Deno.test("a container whose bundle somebody removed is refused commands, and ends as another", () =>
  onNode(async ({ server, client }) => {
    const { id } = await client.runContainer("trap 'exit 5' TERM; while :; do sleep 0.1; done");
    await sh('rm -r "$1/containers/$2"', server.stateDir, id);
    await assertRejects(
      () => client.call("execSync", { containerId: id, cmd: ["true"] }),
      Error,
      "config.json, without which nothing can be done with the container: somebody removed it",
    );
    await client.call("stopContainer", { containerId: id, timeout: 30n });
    assertEquals((await client.exited(id)).exitCode, 5);
    const pod = await client.runPod();
    const unbegun = await client.create(pod, "true");
    await sh('rm -r "$1/containers/$2"', server.stateDir, unbegun);
    const { message } = await assertRejects(
      () => client.call("startContainer", { containerId: unbegun }),
      Error,
    );
    assert(message.includes("somebody removed it"), message);
  }));
