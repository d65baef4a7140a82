import { assertEquals, assertRejects } from "@std/assert";
import { CriError } from "../base/error.ts";
import { until } from "../base/test_until.ts";
import type { PluginCall } from "./plugin.ts";
import { TestPlugins } from "./test_plugins.ts";

const attachment = { containerId: "c1", netnsPath: "/ns", ifName: "eth0", args: "A=1;B=2" };

function call(plugins: TestPlugins, changes: Partial<PluginCall> = {}): PluginCall {
  return {
    command: "ADD",
    type: "fake",
    request: { name: "pods" },
    attachment,
    lockPath: plugins.lockPath,
    timeoutMs: 30_000,
    ...changes,
  };
}

Deno.test("Plugins.run() tells a plugin all by its environment and stdin, and returns its answer", async () => {
  await using plugins = await TestPlugins.create();
  await plugins.add("fake", "echo noise >&2; echo answer");
  assertEquals(await plugins.plugins.run(call(plugins)), "answer\n");
  assertEquals(await plugins.told(), [{
    plugin: "fake",
    command: "ADD",
    containerId: "c1",
    netns: "/ns",
    ifName: "eth0",
    args: "A=1;B=2",
    path: plugins.directory,
    request: { name: "pods" },
  }]);
});

Deno.test("Plugins.run() does not wait for a plugin to read its stdin", async () => {
  await using plugins = await TestPlugins.create();
  const path = `${plugins.directory}/fake`;
  await Deno.writeTextFile(path, "#!/bin/sh\necho answer\n", { mode: 0o755 });
  const request = { filler: "x".repeat(1_000_000) };
  assertEquals(await plugins.plugins.run(call(plugins, { request })), "answer\n");
});

const FAILURES: readonly [script: string, code: string, words: string][] = [
  [
    `echo '{"code": 11, "msg": "busy", "details": "lease 5"}'; exit 1`,
    "UNAVAILABLE",
    "plugin fake failed at ADD with code 11: busy; lease 5",
  ],
  [`echo '{"code": 7, "msg": "bad subnet"}'; exit 1`, "FAILED_PRECONDITION", "code 7: bad subnet"],
  [`echo '{"code": 1, "msg": "too new"}'; exit 1`, "UNIMPLEMENTED", "code 1: too new"],
  [`echo '{"code": 3, "msg": "gone"}'; exit 1`, "NOT_FOUND", "code 3: gone"],
  [
    `echo '{"code": 999, "msg": "no\nline", "details": ""}'; exit 1`,
    "UNAVAILABLE",
    "what should be",
  ],
  [`echo '{"code": 100}'; exit 1`, "UNAVAILABLE", "code 100: it gave no message"],
  [`echo '[]'; exit 1`, "UNAVAILABLE", "code none: it gave no message"],
  [`echo panic: nil map >&2; exit 2`, "UNAVAILABLE", "exit code 2: panic: nil map"],
  [`exit 2`, "UNAVAILABLE", "exit code 2: it said nothing"],
  [`kill -9 $$`, "UNAVAILABLE", "exit code 137: it said nothing"],
  [`echo Segmentation fault; exit 1`, "UNAVAILABLE", 'its error: "Segmentation fault"'],
  [`head -c 100000 /dev/zero | tr '\\0' x; exit 1`, "UNAVAILABLE", 'its error: "xxx'],
  [
    `head -c 20000000 /dev/zero`,
    "RESOURCE_EXHAUSTED",
    "The network plugin fake wrote more than 16 MiB at ADD and was killed",
  ],
  [`exit 75`, "UNAVAILABLE", "exit code 75: it said nothing"],
];

for (const [script, code, words] of FAILURES) {
  Deno.test(`Plugins.run() rejects with ${code} and the plugin's words when it does ${script}`, async () => {
    await using plugins = await TestPlugins.create();
    await plugins.add("fake", script);
    const error = await assertRejects(() => plugins.plugins.run(call(plugins)), CriError, words);
    assertEquals([error.code, error.message.length < 2000], [code, true]);
  });
}

Deno.test("Plugins.run() kills a plugin that hangs and says so", async () => {
  await using plugins = await TestPlugins.create();
  await plugins.add("fake", "exec sleep 600");
  const error = await assertRejects(
    () => plugins.plugins.run(call(plugins, { timeoutMs: 200 })),
    CriError,
    "plugin fake did not end within 0.2 s of ADD and was killed",
  );
  assertEquals(error.code, "DEADLINE_EXCEEDED");
});

Deno.test("Plugins.run() kills a plugin when the signal aborts", async () => {
  await using plugins = await TestPlugins.create();
  await plugins.add("fake", "exec sleep 600");
  const abort = new AbortController();
  const run = plugins.plugins.run(call(plugins, { signal: abort.signal }));
  abort.abort(new Error("the client went"));
  const error = await assertRejects(
    () => run,
    CriError,
    "The network plugin fake had not ended ADD when the call did (the client went), and was killed.",
  );
  assertEquals(error.code, "CANCELLED");
});

Deno.test("Plugins.run() asks at once what another process is being asked, and hangs at", async () => {
  await using plugins = await TestPlugins.create();
  await plugins.add("fake", "echo answer");
  const begun = `${plugins.directory}/begun`;
  const script = `echo > ${begun}; exec sleep 600`;
  const hanging = new Deno.Command("flock", {
    args: ["--no-fork", "--shared", plugins.lockPath, "sh", "-c", script],
  }).spawn();
  await until(() => Deno.stat(begun).then(() => true, () => false));
  assertEquals(await plugins.plugins.run(call(plugins, { command: "STATUS" })), "answer\n");
  hanging.kill("SIGKILL");
  await hanging.status;
});

for (const type of ["absent", "."]) {
  Deno.test(`Plugins.run() says where a plugin must be when there is no file ${type}`, async () => {
    await using plugins = await TestPlugins.create();
    const error = await assertRejects(
      () => plugins.plugins.run(call(plugins, { type })),
      CriError,
      `Cannot find the network plugin '${type}'`,
    );
    assertEquals(error.code, "FAILED_PRECONDITION");
  });
}
