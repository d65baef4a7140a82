import { assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { CriError } from "../base/error.ts";
import { readNetworkConfig } from "./config_files.ts";

/** Writes files of a directory of configurations, of which those with a slash lie below it. */
async function withFiles<T>(
  files: Readonly<Record<string, unknown>>,
  use: (directory: string) => Promise<T>,
): Promise<T> {
  const directory = await Deno.makeTempDir({ prefix: "net.d-" });
  try {
    for (const [name, content] of Object.entries(files)) {
      const path = join(directory, name);
      await Deno.mkdir(join(path, ".."), { recursive: true });
      const text = typeof content === "string" ? content : JSON.stringify(content);
      await Deno.writeTextFile(path, text);
    }
    return await use(directory);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

const BRIDGE = { type: "bridge", bridge: "br0", unknown: { deep: [1, null] } };
const LIST = { cniVersion: "1.0.0", name: "pods", plugins: [BRIDGE] };
const COMMON = { disableCheck: false, disableGC: false };
const READ = { ...COMMON, ...LIST, loadOnlyInlinedPlugins: false };

const CONFIGURATIONS: readonly [name: string, files: Record<string, unknown>, read: unknown][] = [
  ["there is a list", { "10-a.conflist": LIST }, READ],
  ["there are several", { "20-b.conflist": { ...LIST, name: "b" }, "10-a.conflist": LIST }, READ],
  ["others lie beside it", {
    "00-readme.txt": "",
    "00-old.conflist.bak": "{",
    "10-a.conflist": LIST,
  }, READ],
  ["its extension is that of a plugin", { "10-a.conf": { ...BRIDGE, name: "one" } }, {
    ...COMMON,
    name: "one",
    cniVersion: "0.1.0",
    loadOnlyInlinedPlugins: true,
    plugins: [{ ...BRIDGE, name: "one" }],
  }],
  ["its extension is json", { "10-a.json": { ...BRIDGE, name: "one", cniVersion: "0.3.1" } }, {
    ...COMMON,
    name: "one",
    cniVersion: "0.3.1",
    loadOnlyInlinedPlugins: true,
    plugins: [{ ...BRIDGE, name: "one", cniVersion: "0.3.1" }],
  }],
  ["flags are words, as libcni reads them too", {
    "a.conflist": { ...LIST, disableCheck: "TRUE", disableGC: true },
  }, { ...READ, disableCheck: true, disableGC: true }],
  ["plugins lie in files of their own", {
    "a.conflist": LIST,
    "pods/20-tuning.conf": { type: "tuning" },
    "pods/10-portmap.conf": { type: "portmap" },
    "pods/30-x.json": "ignored",
  }, { ...READ, plugins: [BRIDGE, { type: "portmap" }, { type: "tuning" }] }],
  ["all plugins lie in files of their own", {
    "a.conflist": { cniVersion: "1.1.0", name: "pods" },
    "pods/10-portmap.conf": { type: "portmap" },
  }, { ...READ, cniVersion: "1.1.0", plugins: [{ type: "portmap" }] }],
  ["only inlined plugins are wanted", {
    "a.conflist": { ...LIST, loadOnlyInlinedPlugins: true },
    "pods/10-portmap.conf": "no JSON",
  }, { ...READ, loadOnlyInlinedPlugins: true }],
];

for (const [name, files, read] of CONFIGURATIONS) {
  Deno.test(`readNetworkConfig() reads the first one when ${name}`, () =>
    withFiles(files, async (directory) => {
      assertEquals(await readNetworkConfig(directory), read);
    }));
}

const VERSIONS: readonly [fields: Record<string, unknown>, version: string][] = [
  [{}, "0.1.0"],
  [{ cniVersion: "" }, "0.1.0"],
  [{ cniVersion: "0.4.0" }, "0.4.0"],
  [{ cniVersion: "0.4.0", cniVersions: ["0.3.1", "1.1.0", "1.0.0"] }, "1.1.0"],
  [{ cniVersion: "1.1.0", cniVersions: ["0.3.1"] }, "1.1.0"],
  [{ cniVersions: ["1.0.0", "1.2.0", "9.9.9"] }, "1.0.0"],
  [{ cniVersion: "1.2.0", cniVersions: ["1.0.0"] }, "1.0.0"],
  [{ cniVersions: [] }, "0.1.0"],
];

for (const [fields, version] of VERSIONS) {
  Deno.test(`readNetworkConfig() chooses ${version} when there is ${JSON.stringify(fields)}`, () => {
    const { cniVersion: _, ...list } = LIST;
    return withFiles({ "a.conflist": { ...list, ...fields } }, async (directory) => {
      assertEquals((await readNetworkConfig(directory)).cniVersion, version);
    });
  });
}

const UNUSABLE: readonly [content: unknown, words: string, name?: string][] = [
  ["{", "it is no JSON"],
  ["[]", "must be a JSON object"],
  [{ plugins: [BRIDGE] }, "its name must be letters"],
  [{ ...LIST, name: "../up" }, 'and is "../up"'],
  [{ ...LIST, name: 5 }, "and is 5"],
  [{ ...LIST, plugins: [] }, "a list with at least one"],
  [{ ...LIST, plugins: BRIDGE }, "a list with at least one"],
  [
    { ...LIST, plugins: [BRIDGE, {}] },
    "plugin number 2 must name a plugin as its type, which is missing",
  ],
  [{ ...LIST, plugins: [{ type: "../sh" }] }, 'which is "../sh"'],
  [{ ...LIST, plugins: [{ type: ".." }] }, 'which is ".."'],
  [{ ...LIST, plugins: ["bridge"] }, "plugin number 1 must be an object"],
  [{ name: "pods" }, "it has no plugins"],
  [{ name: "pods", loadOnlyInlinedPlugins: true }, "there are no plugins in it"],
  [{ ...LIST, disableCheck: "maybe" }, 'disableCheck must be true or false, and is "maybe"'],
  [{ ...LIST, cniVersion: "1.2.0" }, 'and is "1.2.0"'],
  [{ ...LIST, cniVersion: 1 }, "its version must be one of"],
  [{ ...LIST, cniVersions: "1.0.0" }, "cniVersions must be a list"],
  [{ ...LIST, cniVersions: ["new"] }, "cniVersions must be a list"],
  [LIST, "its name must end in .conflist", "10-a.conf"],
  [{ name: "pods" }, "it must name a plugin as its type", "10-a.conf"],
  [" ".repeat(2 ** 20 + 1), "larger than 1048576 bytes"],
];

for (const [content, words, name = "10-a.conflist"] of UNUSABLE) {
  const shown = JSON.stringify(content).slice(0, 80);
  Deno.test(`readNetworkConfig() says why in one sentence when ${name} is ${shown}`, () =>
    withFiles({ [name]: content, "20-b.conflist": LIST }, async (directory) => {
      const error = await assertRejects(() => readNetworkConfig(directory), CriError, words);
      assertEquals(error.code, "FAILED_PRECONDITION");
      assertEquals(error.message.includes(`${directory}/${name}`), true);
    }));
}

for (const directory of ["/nowhere/net.d", undefined]) {
  Deno.test(`readNetworkConfig() says that the plugin is not initialized when the directory is ${directory ?? "empty"}`, () =>
    withFiles({}, async (empty) => {
      await assertRejects(
        () => readNetworkConfig(directory ?? empty),
        CriError,
        `cni plugin not initialized: there is no network configuration (*.conflist, *.conf or *.json) in ${
          directory ?? empty
        }.`,
      );
    }));
}
