import { assertEquals, assertRejects } from "@std/assert";
import { CriError } from "../base/error.ts";
import type { PodAttachment } from "./chain.ts";
import type { CniResult } from "./result.ts";
import { TestPlugins } from "./test_plugins.ts";

const NEVER = new AbortController().signal;
const keep = () => {};
const ATTACHMENT: PodAttachment = {
  containerId: "c1",
  netnsPath: "/ns",
  ifName: "eth0",
  args: "A=1",
  capabilities: { portMappings: [{ hostPort: 1 }], dns: { servers: [] } },
};
const RESULT: CniResult = {
  cniVersion: "1.1.0",
  json: { cniVersion: "1.1.0", ips: [{ address: "10.0.0.2/24" }] },
};

const answer = (address: string) =>
  `echo '{"cniVersion":"1.1.0","ips":[{"address":"${address}/24"}]}'`;
const fails = (code: number) => `echo '{"code":${code},"msg":"no"}'; exit 1`;

Deno.test("Chain.add() tells each plugin of the result before it, and keeps each", async () => {
  await using plugins = await TestPlugins.create();
  await plugins.add("one", answer("10.0.0.2"));
  await plugins.add("two", answer("10.0.0.3"));
  const kept: CniResult[] = [];
  const chain = plugins.chain([
    { type: "one", own: { deep: true }, capabilities: { dns: true, portMappings: false } },
    { type: "two", name: "other", "cni.dev/x": 1, capabilities: { portMappings: true, mac: true } },
  ]);
  const result = await chain.add(ATTACHMENT, plugins.lockPath, (r) => kept.push(r), NEVER);
  const second = { cniVersion: "1.1.0", ips: [{ address: "10.0.0.3/24" }] };
  assertEquals([result?.json, kept.map(({ json }) => json)], [second, [RESULT.json, second]]);
  assertEquals((await plugins.told()).map(({ request }) => request), [
    {
      type: "one",
      own: { deep: true },
      name: "pods",
      cniVersion: "1.1.0",
      runtimeConfig: { dns: { servers: [] } },
    },
    {
      type: "two",
      name: "pods",
      cniVersion: "1.1.0",
      runtimeConfig: { portMappings: [{ hostPort: 1 }] },
      prevResult: RESULT.json,
    },
  ]);
});

Deno.test("Chain.add() stops at the plugin that fails", async () => {
  await using plugins = await TestPlugins.create();
  await plugins.add("one", answer("10.0.0.2"));
  await plugins.add("two", fails(7));
  await plugins.add("three", "exit 0");
  const chain = plugins.chain([{ type: "one" }, { type: "two" }, { type: "three" }]);
  await assertRejects(
    () => chain.add(ATTACHMENT, plugins.lockPath, keep, NEVER),
    CriError,
    "plugin two failed at ADD with code 7: no",
  );
  assertEquals((await plugins.told()).map(({ plugin }) => plugin), ["one", "two"]);
});

Deno.test("Chain.add() refuses what is no result and names the plugin", async () => {
  await using plugins = await TestPlugins.create();
  await plugins.add("one", "echo garbage");
  await assertRejects(
    () => plugins.chain([{ type: "one" }]).add(ATTACHMENT, plugins.lockPath, keep, NEVER),
    CriError,
    "the plugin one",
  );
});

Deno.test("Chain.add() tells a plugin of an old version of an old result", async () => {
  await using plugins = await TestPlugins.create();
  await plugins.add("one", answer("10.0.0.2"));
  await plugins.add("two", answer("10.0.0.2"));
  const chain = plugins.chain([{ type: "one" }, { type: "two" }], { cniVersion: "0.3.1" });
  await chain.add(ATTACHMENT, plugins.lockPath, keep, NEVER);
  const [, two] = await plugins.told();
  assertEquals(two?.request["prevResult"], {
    cniVersion: "0.3.1",
    interfaces: [],
    ips: [{ version: "4", address: "10.0.0.2/24" }],
  });
});

Deno.test("Chain.remove() runs the plugins in reverse order, all with the last result", async () => {
  await using plugins = await TestPlugins.create();
  await plugins.add("one", "");
  await plugins.add("two", fails(3));
  await plugins.add("three", fails(1));
  await plugins.chain([{ type: "one" }, { type: "two" }, { type: "three" }])
    .remove(ATTACHMENT, RESULT, plugins.lockPath);
  assertEquals(
    (await plugins.told()).map(({ plugin, command, request }) => [
      plugin,
      command,
      request["prevResult"],
    ]),
    [["three", "DEL", RESULT.json], ["two", "DEL", RESULT.json], ["one", "DEL", RESULT.json]],
  );
});

for (
  const [cniVersion, result] of [["0.3.1", RESULT], ["1.1.0", undefined]] as const
) {
  Deno.test(`Chain.remove() tells no result when the version is ${cniVersion} and there is ${result ? "one" : "none"}`, async () => {
    await using plugins = await TestPlugins.create();
    await plugins.add("one", "");
    await plugins.chain([{ type: "one" }], { cniVersion })
      .remove(ATTACHMENT, result, plugins.lockPath);
    assertEquals("prevResult" in ((await plugins.told())[0]?.request ?? {}), false);
  });
}

Deno.test("Chain.remove() stops at the plugin that fails", async () => {
  await using plugins = await TestPlugins.create();
  await plugins.add("one", "");
  await plugins.add("two", fails(5));
  const chain = plugins.chain([{ type: "one" }, { type: "two" }]);
  await assertRejects(
    () => chain.remove(ATTACHMENT, RESULT, plugins.lockPath),
    CriError,
    "plugin two failed at DEL with code 5: no",
  );
  assertEquals((await plugins.told()).map(({ plugin }) => plugin), ["two"]);
});

for (
  const [fields, asked] of [
    [{}, ["one CHECK"]],
    [{ cniVersion: "0.4.0" }, ["one CHECK"]],
    [{ cniVersion: "0.3.1" }, []],
    [{ disableCheck: true }, []],
  ] as const
) {
  Deno.test(`Chain.check() asks ${asked.length} plugins when the network has ${JSON.stringify(fields)}`, async () => {
    await using plugins = await TestPlugins.create();
    await plugins.add("one", "");
    await plugins.chain([{ type: "one" }], fields)
      .check(ATTACHMENT, RESULT, plugins.lockPath, NEVER);
    assertEquals(
      (await plugins.told()).map(({ plugin, command }) => `${plugin} ${command}`),
      asked,
    );
  });
}

Deno.test("Chain.check() rejects with the words of the first plugin that says no", async () => {
  await using plugins = await TestPlugins.create();
  await plugins.add("one", fails(101));
  const chain = plugins.chain([{ type: "one" }]);
  await assertRejects(
    () => chain.check(ATTACHMENT, RESULT, plugins.lockPath, NEVER),
    CriError,
    "plugin one failed at CHECK with code 101: no",
  );
});

Deno.test("Chain.status() asks every plugin since 1.1.0, and rejects with the first that is not available", async () => {
  await using plugins = await TestPlugins.create();
  await plugins.add("one", "");
  await plugins.add("two", fails(50));
  const list = [{ type: "one" }, { type: "two" }];
  await plugins.chain(list, { cniVersion: "1.0.0" }).status(plugins.lockPath);
  assertEquals(await plugins.told(), []);
  await assertRejects(
    () => plugins.chain(list).status(plugins.lockPath),
    CriError,
    "plugin two failed at STATUS with code 50: no",
  );
  assertEquals((await plugins.told()).map(({ containerId }) => containerId), ["", ""]);
});

Deno.test("Chain.verify() refuses a network whose plugin does not speak its version", async () => {
  await using plugins = await TestPlugins.create();
  await plugins.add("new", `echo '{"cniVersion":"1.1.0","supportedVersions":["1.0.0","1.1.0"]}'`);
  await plugins.add("old", `echo '{"supportedVersions":["0.3.1","0.4.0"]}'`);
  await plugins.add("dumb", "echo '?'");
  await plugins.chain([{ type: "new" }]).verify(plugins.lockPath);
  for (const [type, spoken] of [["old", "0.3.1, 0.4.0"], ["dumb", "none that it names"]]) {
    await assertRejects(
      () => plugins.chain([{ type: "new" }, { type }]).verify(plugins.lockPath),
      CriError,
      `plugin ${type} must speak CNI 1.1.0: it speaks ${spoken}`,
    );
  }
  await assertRejects(
    () => plugins.chain([{ type: "absent" }]).verify(plugins.lockPath),
    CriError,
    "Cannot find the network plugin 'absent'",
  );
});

Deno.test("Chain.collectGarbage() tells every plugin what is valid, and all that went wrong", async () => {
  await using plugins = await TestPlugins.create();
  await plugins.add("one", fails(100));
  await plugins.add("two", "");
  const list = [{ type: "one" }, { type: "two" }];
  const valid = [{ containerID: "c1", ifname: "eth0" }];
  for (const fields of [{ cniVersion: "1.0.0" }, { disableGC: true }]) {
    await plugins.chain(list, fields).collectGarbage(valid, plugins.lockPath, NEVER);
  }
  assertEquals(await plugins.told(), []);
  await assertRejects(
    () => plugins.chain(list).collectGarbage(valid, plugins.lockPath, NEVER),
    CriError,
    "plugin one failed at GC with code 100: no",
  );
  assertEquals(
    (await plugins.told()).map(({ plugin, request }) => [
      plugin,
      request["cni.dev/valid-attachments"],
      request["cni.dev/attachments"],
    ]),
    [["one", valid, valid], ["two", valid, valid]],
  );
});
