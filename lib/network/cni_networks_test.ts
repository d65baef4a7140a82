import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { CriError } from "../base/error.ts";
import { until } from "../base/test_until.ts";
import { namespacePath } from "./namespaces.ts";
import { NetworkTestNode, NEVER, POD } from "./test_network_node.ts";

const WHOLE = ["namespace s1", "lease s1", "record s1 attached"];
/** What the tests' sandboxes are recovered with: the one that is wanted, or none. */
const wanted = (id: string) => id === "s1" ? POD : undefined;
const unwanted = () => undefined;

Deno.test("attach() gives a pod a namespace and addresses, and detach() takes all", async () => {
  await using node = await NetworkTestNode.create();
  const network = await node.networks.attach("s1", POD, NEVER);
  assertEquals([network.netnsPath, network.addresses], [namespacePath("s1"), [
    "10.0.0.2",
    "fd00::2",
  ]]);
  assertEquals([node.networks.of("s1"), node.networks.of("s2")], [network, undefined]);
  assertEquals(node.remains, WHOLE);
  await node.networks.detach("s1");
  assertEquals([node.networks.of("s1"), node.remains], [undefined, []]);
  await node.networks.detach("s1");
  assertEquals(node.calls, ["ADD s1", "DEL s1"]);
});

Deno.test("attach() leaves nothing when a plugin fails, and says why", async () => {
  await using node = await NetworkTestNode.create();
  node.failures["ADD"] = { json: { code: 100, msg: "no more addresses" }, times: 1 };
  const error = await assertRejects(
    () => node.networks.attach("s1", POD, NEVER),
    CriError,
    "plugin fake failed at ADD with code 100: no more addresses",
  );
  assertEquals([error.code, node.remains], ["UNAVAILABLE", []]);
  assertEquals(node.calls, ["ADD s1", "DEL s1"]);
});

Deno.test("attach() makes nothing when there is no configuration or plugin, or the pod asks for nonsense", async () => {
  await using node = await NetworkTestNode.create();
  const annotations = { "kubernetes.io/ingress-bandwidth": "fast" };
  await assertRejects(() => node.networks.attach("s1", { ...POD, annotations }, NEVER), CriError);
  await node.configure({});
  await assertRejects(() => node.networks.attach("s1", POD, NEVER), CriError, "Cannot use the");
  const plugins = [{ type: "fake" }, { type: "missing" }];
  await node.configure({ cniVersion: "1.0.0", name: "n", plugins });
  await assertRejects(
    () => node.networks.attach("s1", POD, NEVER),
    CriError,
    "Cannot find the network plugin 'missing'",
  );
  assertEquals([node.calls, node.remains], [[], []]);
});

Deno.test("attach() is refused when a client that went waits no longer", async () => {
  await using node = await NetworkTestNode.create();
  const abort = new AbortController();
  abort.abort(new CriError("CANCELLED", "gone"));
  await assertRejects(() => node.networks.attach("s1", POD, abort.signal), CriError, "gone");
  assertEquals(node.remains, []);
});

Deno.test("a network that a failed attach() leaves is removed later", async () => {
  await using node = await NetworkTestNode.create();
  node.failures["ADD"] = { json: { code: 100, msg: "no" }, times: 1 };
  node.failures["DEL"] = { json: { code: 7, msg: "not now" }, times: 2 };
  await assertRejects(() => node.networks.attach("s1", POD, NEVER), CriError, "at ADD");
  assertEquals(node.remains, ["namespace s1", "record s1 plugins"]);
  await node.clock.sleeping(60_000);
  node.clock.advance(60_000);
  await node.clock.sleeping(60_000);
  assertEquals(node.remains, ["namespace s1", "record s1 plugins"]);
  node.clock.advance(60_000);
  await until(() => node.remains.length === 0);
  assert(node.warnings.every((line) => line.includes("not as it must be yet")));
});

Deno.test("giveUp() removes a network, later when a plugin fails", async () => {
  await using node = await NetworkTestNode.create();
  await node.networks.attach("s1", POD, NEVER);
  node.failures["DEL"] = { json: { code: 7, msg: "not now" }, times: 1 };
  await node.networks.giveUp("s1");
  assertEquals(node.remains, WHOLE);
  await node.clock.sleeping(60_000);
  node.clock.advance(60_000);
  await until(() => node.remains.length === 0);
  await node.networks.attach("s2", POD, NEVER);
  await node.networks.giveUp("s2");
  assertEquals(node.remains, []);
});

Deno.test("detach() asks again when a plugin fails, and gives up with its words", async () => {
  await using node = await NetworkTestNode.create();
  await node.networks.attach("s1", POD, NEVER);
  node.failures["DEL"] = { json: { code: 11, msg: "busy" }, times: 2 };
  const detached = node.networks.detach("s1");
  for (let pause = 0; pause < 2; pause++) {
    await node.clock.sleeping(500);
    node.clock.advance(500);
  }
  await detached;
  assertEquals(node.calls, ["ADD s1", "DEL s1", "DEL s1", "DEL s1"]);

  await node.networks.attach("s1", POD, NEVER);
  node.failures["DEL"] = { json: { code: 7, msg: "bad" }, times: 1 };
  await assertRejects(() => node.networks.detach("s1"), CriError, "at DEL with code 7: bad");
  assertEquals([node.networks.of("s1")?.addresses.length, node.remains], [2, WHOLE]);
  await node.networks.detach("s1");
  assertEquals(node.remains, []);
});

const WISHING = { ...POD, dnsConfig: { servers: ["none"], searches: [], options: [] } };

async function configureForWishes(node: NetworkTestNode): Promise<void> {
  const plugins = [{ type: "fake", capabilities: { dns: true } }];
  await node.configure({ cniVersion: "1.1.0", name: "pods", plugins });
}

Deno.test("attach() removes a pod without what it asked for when a plugin can never read that", async () => {
  await using node = await NetworkTestNode.create();
  await configureForWishes(node);
  const failure = { json: { code: 7, msg: "what is none?" }, times: 1 };
  Object.assign(node.failures, { ADD: { ...failure }, DEL: { ...failure } });
  const attached = node.networks.attach("s1", WISHING, NEVER);
  await assertRejects(() => attached, CriError, "what is none?");
  assertEquals(node.requests.map((request) => "runtimeConfig" in request), [true, true, false]);
  assertEquals(node.remains, []);
});

Deno.test("detach() never asks for less than was attached, which would stay", async () => {
  await using node = await NetworkTestNode.create();
  await configureForWishes(node);
  await node.networks.attach("s1", WISHING, NEVER);
  node.failures["DEL"] = { json: { code: 7, msg: "not now" }, times: 1 };
  await assertRejects(() => node.networks.detach("s1"), CriError, "not now");
  assertEquals(node.remains, WHOLE);
  await node.networks.detach("s1");
  assertEquals(node.requests.map((request) => "runtimeConfig" in request), [true, true, true]);
  assertEquals(node.remains, []);
});

Deno.test("pods come and go while a plugin hangs at the removal of many others", async () => {
  await using node = await NetworkTestNode.create();
  const hanging = [...Array(50).keys()].map((number) => `h${number}`);
  const ids = [...hanging, "s1", "s2"];
  for (const id of hanging) await node.networks.attach(id, POD, NEVER);
  await node.networks.attach("s1", POD, NEVER);
  const { promise, resolve } = Promise.withResolvers<void>();
  node.hanging.set("DEL", promise);
  const detached = hanging.map((id) => node.networks.detach(id));
  await until(() => hanging.every((id) => node.calls.includes(`DEL ${id}`)));
  await node.networks.attach("s2", POD, NEVER);
  detached.push(node.networks.detach("s1"), node.networks.detach("s2"));
  await until(() => ids.every((id) => node.calls.includes(`DEL ${id}`)));
  resolve();
  await Promise.all(detached);
  assertEquals(node.remains, []);
});

Deno.test("detach() uses what the pod was attached with when the configuration has changed", async () => {
  await using node = await NetworkTestNode.create();
  await node.networks.attach("s1", POD, NEVER);
  await node.configure({ name: "other", plugins: [{ type: "absent" }] });
  await node.networks.detach("s1");
  const [add, del] = node.requests;
  assertEquals([del?.["name"], node.remains], ["pods", []]);
  assertEquals(del, {
    ...add,
    prevResult: {
      cniVersion: "1.1.0",
      ips: [{ address: "10.0.0.2/24" }, { address: "fd00::2/64" }],
    },
  });
});

Deno.test("usePodCidr() gives its addresses to plugins that ask for ranges, over a restart", async () => {
  await using node = await NetworkTestNode.create();
  const plugins = [{ type: "fake", capabilities: { ipRanges: true } }];
  await node.configure({ cniVersion: "1.1.0", name: "pods", plugins });
  node.networks.usePodCidr("10.1.2.0/24,fd01::/64");
  node.networks.usePodCidr("");
  assertThrows(() => node.networks.usePodCidr("all"), CriError, "Cannot use the pod CIDR");
  await node.restart();
  await node.networks.attach("s1", POD, NEVER);
  assertEquals(node.requests[0]?.["runtimeConfig"], {
    ipRanges: [[{ subnet: "10.1.2.0/24" }], [{ subnet: "fd01::/64" }]],
  });
});

Deno.test("readiness() asks the plugins, once a second at most, and their version once", async () => {
  await using node = await NetworkTestNode.create();
  const [first, second] = await Promise.all([
    node.networks.readiness(),
    node.networks.readiness(),
  ]);
  assertEquals([first, second], [{ ready: true, message: "" }, { ready: true, message: "" }]);
  assertEquals(node.calls, ["VERSION", "STATUS"]);
  node.failures["STATUS"] = { json: { code: 50, msg: "the daemon is away" }, times: 1 };
  assertEquals((await node.networks.readiness()).ready, true);
  node.clock.advance(1000);
  assertEquals(await node.networks.readiness(), {
    ready: false,
    message: "The network plugin fake failed at STATUS with code 50: the daemon is away",
  });
  node.clock.advance(1000);
  assertEquals((await node.networks.readiness()).ready, true);
  assertEquals(node.calls, ["VERSION", "STATUS", "STATUS", "STATUS"]);
});

Deno.test("readiness() says what is wrong with the configuration as soon as it changes", async () => {
  await using node = await NetworkTestNode.create();
  for (
    const [network, words] of [
      [{}, "Cannot use the network configuration"],
      [{ name: "pods", cniVersion: "1.1.0", plugins: [{ type: "absent" }] }, "Cannot find the"],
      [{ name: "pods", cniVersion: "0.4.0", plugins: [{ type: "fake" }] }, "must speak CNI 0.4.0"],
    ] as const
  ) {
    await node.configure(network);
    node.clock.advance(1000);
    const { ready, message } = await node.networks.readiness();
    assertEquals([ready, message.includes(words)], [false, true], message);
  }
});

Deno.test("recover() checks the network of a pod that is wanted, and changes nothing", async () => {
  await using node = await NetworkTestNode.create();
  await node.networks.attach("s1", POD, NEVER);
  await node.restart();
  node.failures["CHECK"] = { json: { code: 100, msg: "no route" }, times: 1 };
  await node.networks.recover(wanted);
  assertEquals(node.calls, ["ADD s1", "CHECK s1", "GC"]);
  assertEquals(node.remains, WHOLE);
  assertEquals(node.warnings.filter((line) => line.includes("no route")).length, 1);
});

Deno.test("recover() names everything that has a namespace when garbage is collected", async () => {
  await using node = await NetworkTestNode.create();
  await node.networks.attach("s1", POD, NEVER);
  node.namespaces.add("of another server");
  await node.restart();
  await node.networks.recover(wanted);
  const valid = node.requests.at(-1)?.["cni.dev/valid-attachments"] as { containerID: string }[];
  const ids = new Set(valid.map(({ containerID }) => containerID));
  assert(ids.has("s1") && ids.has("of another server"));
});

Deno.test("recover() makes a network anew when its namespace is gone, and later when that fails", async () => {
  await using node = await NetworkTestNode.create();
  await node.networks.attach("s1", POD, NEVER);
  node.namespaces.clear();
  await node.restart();
  node.failures["ADD"] = { json: { code: 50, msg: "not yet" }, times: 1 };
  await node.networks.recover(wanted);
  assertEquals([node.remains, node.networks.of("s1")], [["record s1 namespace"], undefined]);
  await node.clock.sleeping(60_000);
  node.clock.advance(60_000);
  await until(() => node.networks.of("s1") !== undefined);
  assertEquals(node.remains, WHOLE);
});

for (const command of ["DEL", "GC"]) {
  Deno.test(`recover() goes on behind when ${command} hangs`, async () => {
    await using node = await NetworkTestNode.create();
    await node.networks.attach("s1", POD, NEVER);
    await node.restart();
    const hanging = Promise.withResolvers<void>();
    node.hanging.set(command, hanging.promise);
    const recovered = node.networks.recover(unwanted);
    await until(() => node.calls.includes(command === "GC" ? "GC" : "DEL s1"));
    node.clock.advance(10_000);
    await recovered;
    // Garbage is not collected beside the client's calls.
    assertEquals(node.calls.includes("GC"), command === "GC");
    hanging.resolve();
    await node.networks.close();
    assertEquals(node.remains, []);
  });
}

for (const when of ["before", "after"] as const) {
  Deno.test(`nothing is left when the server dies ${when} any effect of attach()`, async () => {
    let died = true;
    for (let step = 1; died; step++) {
      await using node = await NetworkTestNode.create();
      died = await node.dying(step, when, () => node.networks.attach("s1", POD, NEVER));
      await node.networks.recover(unwanted);
      assertEquals(node.remains, [], `step ${step}`);
    }
  });

  Deno.test(`nothing is left when the server dies ${when} any effect of detach()`, async () => {
    let died = true;
    for (let step = 1; died; step++) {
      await using node = await NetworkTestNode.create();
      await node.networks.attach("s1", POD, NEVER);
      died = await node.dying(step, when, () => node.networks.detach("s1"));
      // Either the client repeats its call, or it has forgotten the pod.
      if (step % 2 === 0) await node.networks.recover(unwanted);
      else await node.networks.detach("s1");
      assertEquals(node.remains, [], `step ${step}`);
    }
  });

  Deno.test(`a wanted network is whole when the server dies ${when} any effect of recover()`, async () => {
    let died = true;
    for (let step = 1; died; step++) {
      await using node = await NetworkTestNode.create();
      await node.networks.attach("s1", POD, NEVER);
      node.namespaces.clear();
      await node.restart();
      died = await node.dying(step, when, () => node.networks.recover(wanted));
      await node.networks.recover(wanted);
      assertEquals(node.remains, WHOLE, `step ${step}`);
    }
  });
}
