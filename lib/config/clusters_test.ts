import { assertEquals, assertThrows } from "@std/assert";
import { type Clusters, reachableAddresses, readClusters } from "./clusters.ts";
import { parseInvocation } from "./flags.ts";
import { UsageError } from "./usage_error.ts";

const SECRET = "hunter2";

/** What the server makes of `--clusters-file` with this text and mode. */
async function read(
  text: string | undefined,
  options: { mode?: number; args?: string[] } = {},
): Promise<Clusters> {
  const directory = await Deno.makeTempDir({ prefix: "clusters-" });
  const path = `${directory}/clusters.yaml`;
  try {
    if (text !== undefined) {
      await Deno.writeTextFile(path, text);
      await Deno.chmod(path, options.mode ?? 0o600);
    }
    const args = [`--clusters-file=${path}`, ...options.args ?? []];
    const invocation = parseInvocation(args, () => undefined);
    if (invocation.kind !== "serve") throw new Error("expected a configuration");
    return readClusters(invocation.config);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

Deno.test("readClusters() reads every key", async () => {
  const clusters = await read(`
default: small
clusters:
  small: { host: login, user: u, password: ${SECRET} }
  large.hpc-1:
    host: 2001:db8::1
    port: 2222
    user: v
    password: other
    namespaces: [physics, "chemistry"]
    prerun: true
  closed: { host: login, user: u, password: x, namespaces: [] }
  behind: { host: login, user: u, password: x, jump: { host: gate, user: v, password: y } }
`);
  assertEquals(clusters.defaultName, "small");
  assertEquals([...clusters.named], [
    ["small", {
      login: { host: "login", port: 22, user: "u", password: SECRET },
      namespaces: undefined,
      prerun: false,
    }],
    ["large.hpc-1", {
      login: { host: "2001:db8::1", port: 2222, user: "v", password: "other" },
      namespaces: ["physics", "chemistry"],
      prerun: true,
    }],
    ["closed", {
      login: { host: "login", port: 22, user: "u", password: "x" },
      namespaces: [],
      prerun: false,
    }],
    ["behind", {
      login: {
        host: "login",
        port: 22,
        user: "u",
        password: "x",
        jump: { host: "gate", port: 22, user: "v", password: "y" },
      },
      namespaces: undefined,
      prerun: false,
    }],
  ]);
});

Deno.test("readClusters() knows no login when there is no file", () => {
  const invocation = parseInvocation(["--allowed-clusters=login"], () => undefined);
  if (invocation.kind !== "serve") throw new Error("expected a configuration");
  assertEquals(readClusters(invocation.config), {
    allowed: [{ host: "login", port: 22 }],
    named: new Map(),
    defaultName: undefined,
  });
});

const entry = (fields: string) => `clusters:\n  hpc: { ${fields} }\n`;
const LOGIN = `host: login, user: u, password: ${SECRET}`;

const REFUSED: readonly [what: string, text: string | undefined, words: string][] = [
  ["it is missing", undefined, "No such file"],
  ["it is no YAML", `clusters: { hpc: { password: "${SECRET}`, "it is not YAML"],
  ["it names a key twice", `${entry(LOGIN)}clusters: ${SECRET}\n`, "it is not YAML"],
  ["it is empty", "", "it must name clusters, under the key 'clusters'"],
  ["it is a text", SECRET, "it must name clusters"],
  ["it is a list", `- ${SECRET}\n`, "it must name clusters"],
  ["it names no cluster", "clusters: {}\n", "it must name clusters"],
  ["a name cannot stand in a message", `clusters: { "a b": { ${LOGIN} } }\n`, `name "a b" must be`],
  ["the default is none of its clusters", `default: other\n${entry(LOGIN)}`, "must be one of hpc"],
  ["the default is no name", `default: [hpc]\n${entry(LOGIN)}`, "must be one of hpc"],
  ["there is an unknown key", entry(`${LOGIN}, pasword: x`), "unknown key 'pasword'"],
  ["an entry is a text", `clusters: { hpc: ${SECRET} }\n`, "'host' and 'user' must be set"],
  ["there is no host", entry(`user: u, password: ${SECRET}`), "'host' and 'user' must be set"],
  ["there is no user", entry(`host: h, password: ${SECRET}`), "'host' and 'user' must be set"],
  ["there is no secret", entry("host: h, user: u"), "'password' or 'privateKey' must be set"],
  ["a password is a number", entry("host: h, user: u, password: 1234567"), "'password' must be a"],
  ["a password is empty", entry('host: h, user: u, password: ""'), "'password' must be a text"],
  ["a key is none", entry(`host: h, user: u, privateKey: ${SECRET}`), "cluster hpc: "],
  ["a port is too large", entry(`${LOGIN}, port: 65536`), "'port' must be a number"],
  ["a port is a text", entry(`${LOGIN}, port: "22"`), "'port' must be a number"],
  ["namespaces is a text", entry(`${LOGIN}, namespaces: all`), "'namespaces' must be a list"],
  ["a namespace is a number", entry(`${LOGIN}, namespaces: [1]`), "'namespaces' must be a list"],
  ["namespaces is null", entry(`${LOGIN}, namespaces: null`), "'namespaces' must be a list"],
  [
    "the jump host has no user",
    entry(`${LOGIN}, jump: { host: g, password: x }`),
    "its jump host: 'host'",
  ],
  [
    "a jump host has one of its own",
    entry(`${LOGIN}, jump: { ${LOGIN}, jump: { ${LOGIN} } }`),
    "its jump host: unknown key 'jump'",
  ],
  ["prerun is a text", entry(`${LOGIN}, prerun: "false"`), "'prerun' must be true or false"],
];

for (const [what, text, words] of REFUSED) {
  Deno.test(`readClusters() refuses the file with a sentence without secrets when ${what}`, async () => {
    const error = await read(text).then(() => undefined, (error) => error);
    assertThrows(
      () => {
        throw error;
      },
      UsageError,
      words,
    );
    assertEquals(error.message.startsWith("Cannot use --clusters-file /"), true);
    assertEquals([error.message.includes(SECRET), error.message.includes("\n")], [false, false]);
    assertEquals(error.message.includes("1234567"), false);
  });
}

for (const mode of [0o644, 0o640, 0o602, 0o610]) {
  Deno.test(`readClusters() refuses a file of mode ${mode.toString(8)}`, async () => {
    const error = await read(entry(LOGIN), { mode }).then(() => undefined, (error) => error);
    assertEquals(error instanceof UsageError && /chmod 600/.test(error.message), true);
    assertEquals(error.message.includes(SECRET), false);
  });
}

Deno.test("reachableAddresses() joins what pods may name with what the node keeps", async () => {
  const text = entry(`${LOGIN}, port: 2222`);
  assertEquals(reachableAddresses(await read(text, { args: ["--allowed-clusters=other"] })), [
    { host: "other", port: 22 },
    { host: "login", port: 2222 },
  ]);
  assertEquals(reachableAddresses(await read(text)), undefined);
  const behind = entry(`${LOGIN}, jump: { host: gate, user: v, password: y }`);
  assertEquals(reachableAddresses(await read(behind, { args: ["--allowed-clusters=other"] })), [
    { host: "other", port: 22 },
    { host: "gate", port: 22 },
  ]);
});
