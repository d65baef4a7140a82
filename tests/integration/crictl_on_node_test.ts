/** crictl by hand on a pod of the node itself, in a network of its own. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { delay } from "@std/async/delay";
import { NodeProgram } from "../../scripts/lab/node_program.ts";
import { IMAGE } from "../cri_client.ts";
import { NetworkNode } from "../network_node.ts";

const POLL_MS = 50;
const START_TIMEOUT_MS = 30_000;
const EVENTS_PATH = "/var/log/on-node-events.log";

let node: NetworkNode;
let events: NodeProgram;
let pod: string;
let main: string;

/** Makes and starts a container that runs a shell script. */
async function run(name: string, script: string, more: Record<string, unknown> = {}) {
  const file = await node.server.writeJson("crictl-container.json", {
    metadata: { name, attempt: 0 },
    image: { image: IMAGE },
    command: ["/bin/sh", "-c", script],
    log_path: `${name}.log`,
    linux: { resources: { memory_limit_in_bytes: 64 * 1024 * 1024 } },
    ...more,
  });
  const [, , , podFile = ""] = podArgs;
  const id = await node.server.crictlOk(["create", pod, file, podFile]);
  return await node.server.crictlOk(["start", id]);
}

let podArgs: string[];
Deno.test.beforeAll(async () => {
  node = await NetworkNode.start("crictlnode", { flags: ["--adapter-name", "singularity"] });
  const { lab, server } = node;
  await server.crictlOk(["pull", IMAGE]);
  await lab.exec("knode", ["rm", "-f", EVENTS_PATH]);
  events = await NodeProgram.start(lab, {
    name: "crictl events",
    argv: server.crictlArgv(["events"]),
    logPath: EVENTS_PATH,
  }, {
    // It tells nobody that it listens, but by its first event.
    answers: async () => {
      await server.crictlOk(["rmp", "--force", await node.runPod()]);
      return (await Deno.readTextFile(lab.path("knode", EVENTS_PATH))) !== "";
    },
    timeoutMs: START_TIMEOUT_MS,
  });
  podArgs = await node.runArgs({ hostname: "by-hand" });
  pod = await server.crictlOk(podArgs);
  main = await run("main", "httpd -p 127.0.0.1:8123 -h /etc; while :; do :; done");
});
Deno.test.afterAll(async () => {
  await events.kill();
  await node.stop();
});

/** The programs live from test to test. */
const SHARED = { sanitizeOps: false, sanitizeResources: false };

/** Runs a bash script in the node, with `crictl` as a function and its words in `$crictl`; returns its whole output. */
async function bash(script: string): Promise<string> {
  const words = node.server.crictlArgv([]).join(" ");
  const text = `export TERM=xterm crictl='${words}'; crictl() { $crictl "$@"; }\n${script}`;
  const { stdout, stderr } = await node.lab.exec("knode", ["bash", "-c", text]);
  return stdout + stderr;
}

Deno.test(
  "crictl exec -it has a terminal of the client's size and of a known kind, and its command's code",
  SHARED,
  async () => {
    const exec = (id: string, script: string) =>
      bash(
        `script -qec "bash -c 'stty rows 33 cols 101; $crictl exec -it ${id} sh -c \\"${script}\\"'" /dev/null </dev/null`,
      );
    const script = "until stty size | grep 33; do sleep 0.1; done; tty; env | grep ^TERM; exit 6";
    assertMatch(await exec(main, script), /33 101\r\n\/dev\/pts\/0\r\nTERM=xterm\r\n.*exit code 6/);
    const envs = [{ key: "TERM", value: "dumb" }];
    const dumb = await run("dumb", "while :; do sleep 1; done", { envs });
    assertMatch(await exec(dumb, "env | grep ^TERM"), /TERM=dumb\r\n/);
    await node.server.crictlOk(["rm", "--force", dumb]);
  },
);

Deno.test(
  "crictl port-forward reaches a port of the pod, and says when nobody but the node listens there",
  SHARED,
  async () => {
    const forward = (ports: string, use: string) =>
      bash(
        `$crictl port-forward ${pod} ${ports} >/tmp/forward 2>&1 & forward=$!
until exec 3<>/dev/tcp/127.0.0.1/${ports.split(":")[0]}; do sleep 0.1; done 2>/dev/null
${use}
kill $forward 2>/dev/null; wait $forward; cat /tmp/forward`,
      );
    const page = "printf 'GET /hostname HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3";
    assertMatch(await forward("18125:8123", page), /\r\n\r\nby-hand\n/);
    // The node's name is known in the pod's network too, and leads out of it.
    const listen = `perl -MIO::Socket::INET -e '
$listener = IO::Socket::INET->new(LocalAddr => "knode", LocalPort => 9, ReuseAddr => 1, Listen => 9) or die;
while ($client = $listener->accept) { print $client "the node"; close $client }' & node=$!
until exec 4<>/dev/tcp/knode/9; do sleep 0.1; done 2>/dev/null`;
    assertMatch(
      await forward("18126:9", `${listen}\ncat <&3; kill $node`),
      /Cannot connect to the port 9 of the pod: .*Connection refused/,
    );
  },
);

Deno.test("crictl stats and statsp show what a container and its pod use", SHARED, async () => {
  for (;;) {
    const { stats: [container] } = JSON.parse(
      await node.server.crictlOk(["stats", "--output", "json", main]),
    );
    const { stats: [whole] } = JSON.parse(
      await node.server.crictlOk(["statsp", "--output", "json", "--id", pod]),
    );
    // It takes half the machine, but for the other containers of tests; rates come with a second look.
    const rates = [container, whole.linux].map(({ cpu }) => Number(cpu.usageNanoCores?.value ?? 0));
    if (!rates.every((rate) => rate > 50_000_000)) continue;
    assertEquals([container.attributes.id, whole.attributes.id], [main, pod]);
    const { workingSetBytes, availableBytes } = container.memory;
    const bytes = Number(workingSetBytes.value) + Number(availableBytes.value);
    assertEquals(bytes, 64 * 1024 * 1024);
    assert(Number(whole.linux.process.processCount.value) >= 2);
    assertEquals(whole.linux.containers.length, 1);
    return;
  }
});

Deno.test(
  "crictl update changes the limits of the program, and inspect tells them, and the process",
  SHARED,
  async () => {
    await node.server.crictlOk([
      "update",
      "--memory",
      String(2 ** 25),
      "--cpu-quota",
      "20000",
      main,
    ]);
    const { status, info } = JSON.parse(await node.server.crictlOk(["inspect", main]));
    assertMatch(await node.sh(`tr '\\0' ' ' </proc/${info.pid}/cmdline`), /^\/bin\/sh -c httpd/);
    const { memoryLimitInBytes, cpuQuota } = status.resources.linux;
    assertEquals([memoryLimitInBytes, cpuQuota], [String(2 ** 25), "20000"]);
    // In either version of cgroups(7).
    const find =
      `find /sys/fs/cgroup -path '*/${main}/cpu.cfs_quota_us' -o -path '*/${main}/cpu.max'`;
    assertMatch(await node.sh(`cat $(${find})`), /^20000\b/);
  },
);

Deno.test("crictl checkpoint is refused with a reason", SHARED, async () => {
  const refused = /Unimplemented.*CheckpointContainer is not possible: .* into a volume/;
  assertMatch(await bash(`crictl checkpoint --export=/tmp/checkpoint.tar ${main}`), refused);
});

/** Says what it reads. */
const READER = 'while read -r line; do echo "got $line"; done; echo over';

for (const transport of ["spdy", "websocket"]) {
  const attach = (id: string) => `$crictl attach --transport ${transport} -i ${id}`;

  Deno.test(
    `crictl attach by ${transport} ends with its input, or when that has ended the program's`,
    SHARED,
    async () => {
      const once = await run(`once-${transport}`, READER, { stdin: true, stdin_once: true });
      assertEquals(await bash(`echo something | ${attach(once)}`), "got something\nover\n");
      const kept = await run(`kept-${transport}`, READER, { stdin: true });
      for (const line of ["one", "two"]) await bash(`echo ${line} | ${attach(kept)}`);
      // What it answers may come when the client has left.
      while (await bash(`crictl logs ${kept}`) !== "got one\ngot two\n") await delay(POLL_MS);
      await node.server.crictlOk(["rm", "--force", kept]);
    },
  );

  Deno.test(
    `crictl attach by ${transport} ends the input of a program with stdin_once when it is killed, but not without input`,
    SHARED,
    async () => {
      const id = await run(`cut-${transport}`, READER, { stdin: true, stdin_once: true });
      const output = await bash(
        `$crictl attach --transport ${transport} ${id} >/tmp/looker & looker=$!
exec 3> >(exec ${attach(id)} >/dev/null 2>&1); client=$!
for line in one two; do
  until grep -q -e "got $line" -e over /tmp/looker; do echo $line >&3; sleep 0.1; done
done
kill -9 $client; wait $looker; cat /tmp/looker`,
      );
      assertMatch(output, /^(got one\n)+(got two\n)+over\n$/);
    },
  );
}

Deno.test(
  "crictl logs --follow shows output of others at once",
  SHARED,
  async () => {
    const ticking = await run("ticking", "for i in $(seq 9); do echo $i; sleep 0.4; done");
    // It follows until the container has ended.
    const lines = (await bash(`crictl logs --follow --timestamps ${ticking}`)).trim().split("\n");
    assertEquals(lines.map((line) => line.split(" ")[1]), [..."123456789"]);
    // Who looks every two seconds only gives five lines one time.
    const times = new Set(lines.map((line) => line.split(" ")[0]));
    assert(times.size >= 6, `${times.size} times: ${lines}`);
  },
);

Deno.test("crictl events tells all of a pod's life", SHARED, async () => {
  await node.server.crictlOk(["stop", "--timeout", "0", main]);
  await node.server.crictlOk(["rm", main]);
  await node.server.crictlOk(["rmp", "--force", pod]);
  const told = async () =>
    [...(await events.log()).matchAll(
      /"containerId": "(\w+)",\s*"containerEventType": "(\w+)_EVENT"/g,
    )]
      .filter(([, id]) => id === main || id === pod)
      .map(([, id, type]) => `${id === main ? "main" : "pod"} ${type}`);
  while ((await told()).at(-1) !== "pod CONTAINER_DELETED") await delay(POLL_MS);
  assertEquals(await told(), [
    "pod CONTAINER_CREATED",
    "pod CONTAINER_STARTED",
    "main CONTAINER_CREATED",
    "main CONTAINER_STARTED",
    "main CONTAINER_STOPPED",
    "main CONTAINER_DELETED",
    "pod CONTAINER_STOPPED",
    "pod CONTAINER_DELETED",
  ]);
});
