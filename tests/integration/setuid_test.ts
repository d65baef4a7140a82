/** A node whose Apptainer is installed setuid, so that it makes no user namespace that a user may enter. */
import { assertEquals, assertMatch } from "@std/assert";
import { Harness } from "./harness.ts";

const NODE = "n2";
/** Where Debian's Apptainer looks for its starters; the second one makes an installation setuid. */
const STARTERS = "/usr/lib/x86_64-linux-gnu/apptainer/bin";
const SET_UP = `mkdir -p /opt/setuid
cp ${STARTERS}/starter /opt/setuid/
cp ${STARTERS}/starter /opt/setuid/starter-suid
chmod 4755 /opt/setuid/starter-suid
mount --bind /opt/setuid ${STARTERS}`;

let harness: Harness;
Deno.test.beforeAll(async () => {
  harness = await Harness.start({ name: "setuid" });
  const { code, stderr } = await harness.lab.exec(NODE, ["sh", "-euc", SET_UP]);
  assertEquals([code, stderr], [0, ""]);
});
Deno.test.afterAll(async () => {
  await harness?.lab.exec(NODE, ["umount", STARTERS]);
  await harness?.stop();
});

const ON_NODE = { JOB_CUSTOM_CONFIG: `#SBATCH --nodelist=${NODE}` };
const SERVE = "echo served; while :; do echo answer | nc -l -p 8131; done";

Deno.test("a job runs, is followed and forwarded to, and a command is refused, when Apptainer is setuid", async () => {
  const made = await harness.run({ command: ["/bin/sh", "-c", SERVE], cluster: ON_NODE });
  await harness.until(
    made.container,
    "logging",
    async () => (await harness.logs(made.container)).stdout.includes("served"),
  );
  for (const exec of [["exec", "--sync"], ["exec"]]) {
    const { code, stderr } = await harness.server.crictl([...exec, made.container, "true"]);
    assertEquals(code, 1);
    assertMatch(stderr, /installed setuid.*APPTAINER_USERNS=1/);
  }
  await harness.until(made.container, "measured", async () => {
    const text = await harness.server.crictlOk([
      ...["stats", "--output", "json", "--id", made.container],
    ]);
    return Number(JSON.parse(text).stats[0]?.memory.rssBytes?.value ?? 0) > 0;
  });
  const forward = harness.server.crictlArgv(["port-forward", made.pod, "18131:8131"]);
  const script = `"$@" >/dev/null & forward=$!
until exec 3<>/dev/tcp/127.0.0.1/18131; do sleep 0.2; done 2>/dev/null
cat <&3
kill "$forward"`;
  const { stdout } = await harness.lab.exec("knode", ["bash", "-c", script, "bash", ...forward]);
  assertEquals(stdout, "answer\n");
  await harness.server.crictlOk(["stop", "--timeout", "5", made.container]);
  await harness.removeCleanly(made);
});

Deno.test("a command runs when Apptainer is setuid and the prerun asks for user namespaces", async () => {
  const made = await harness.run({
    command: ["/bin/sh", "-c", "sleep 600"],
    cluster: { ...ON_NODE, CLUSTER_CONFIG: "export APPTAINER_USERNS=1" },
  });
  await harness.running(made.container);
  const exec = ["exec", made.container, "echo", "inside"];
  assertEquals(await harness.server.crictlOk(exec), "inside");
  await harness.removeCleanly(made);
});
