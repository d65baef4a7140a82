import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { dirname, fromFileUrl, join } from "@std/path";
import { TestClient } from "../lib/server/test_client.ts";

const CHECKOUT = fromFileUrl(new URL("..", import.meta.url));

interface Outcome {
  code: number;
  stdout: string;
  stderr: string;
}

async function launch(launcher: string, ...args: string[]): Promise<Outcome> {
  const { code, stdout, stderr } = await new Deno.Command("/bin/sh", {
    args: [launcher, ...args],
    env: { MULTICRI_DENO: Deno.execPath(), NO_COLOR: "1" },
    cwd: "/",
  }).output();
  const decode = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return { code, stdout: decode(stdout), stderr: decode(stderr) };
}

/** A directory whose name no shell may take apart. */
async function withDirectory(use: (directory: string) => Promise<void>): Promise<void> {
  const parent = await Deno.makeTempDir({ prefix: "launcher-" });
  const directory = join(parent, `it's "odd" $HOME`);
  await Deno.mkdir(directory);
  try {
    await use(directory);
  } finally {
    await Deno.remove(parent, { recursive: true });
  }
}

/** The launcher where people have it, each made below an oddly named directory. */
const PLACES: Record<string, (directory: string) => Promise<string>> = {
  "in a checkout": () => Promise.resolve(join(CHECKOUT, "scripts/multicri")),
  "behind a symbolic link": async (directory) => {
    const link = join(directory, "multicri");
    await Deno.symlink(join(CHECKOUT, "scripts/multicri"), link);
    return link;
  },
  "in a copied folder": async (directory) => {
    const files = [
      "main.ts",
      "deno.json",
      "deno.lock",
      "lib",
      "wasm/call.ts",
      "wasm/core.ts",
      "wasm/frame.ts",
    ];
    for (const path of [...files, "wasm/core.wasm", "scripts/multicri"]) {
      const target = join(directory, path === "scripts/multicri" ? "bin/multicri" : path);
      await Deno.mkdir(dirname(target), { recursive: true });
      const copy = await new Deno.Command("cp", { args: ["-r", join(CHECKOUT, path), target] })
        .output();
      assertEquals(copy.code, 0);
    }
    return join(directory, "bin/multicri");
  },
};

for (const [place, make] of Object.entries(PLACES)) {
  Deno.test(`scripts/multicri works ${place}`, () =>
    withDirectory(async (directory) => {
      const launcher = await make(directory);
      const version = await launch(launcher, "--version");
      assertEquals([version.code, version.stderr], [0, ""]);
      assertMatch(version.stdout, /^multicri \d+\.\d+\.\d+ \(Deno .*\)\n$/);
      const help = await launch(launcher, "--help");
      assertEquals([help.code, help.stderr], [0, ""]);
      assertStringIncludes(help.stdout, "Usage: multicri [flags]");
    }));
}

for (
  const args of [["--bogus"], ["--socket-path=relative"], ["stray word"], ["--root-dir=/a\nb"]]
) {
  Deno.test(`scripts/multicri ends with 2 and one line when given ${JSON.stringify(args)}`, async () => {
    const outcome = await launch(join(CHECKOUT, "scripts/multicri"), ...args);
    assertEquals([outcome.code, outcome.stdout], [2, ""]);
    assertMatch(outcome.stderr, /^multicri: .+\n$/);
    assertEquals(outcome.stderr.trimEnd().includes("\n"), false);
  });
}

Deno.test("scripts/multicri says what to do when there is no Deno", async () => {
  const { code, stderr } = await new Deno.Command("/bin/sh", {
    args: [join(CHECKOUT, "scripts/multicri"), "--version"],
    env: { MULTICRI_DENO: "", PATH: "/usr/bin:/bin" },
    clearEnv: true,
  }).output();
  assertEquals(code, 127);
  assertStringIncludes(
    new TextDecoder().decode(stderr),
    "put it into PATH or name it in MULTICRI_DENO",
  );
});

Deno.test("scripts/multicri serves in odd paths with scoped permissions and ends on SIGTERM", () =>
  withDirectory(async (directory) => {
    const at = (name: string) => join(directory, name);
    const socketPath = at("cri.sock");
    const server = new Deno.Command("/bin/sh", {
      args: [
        join(CHECKOUT, "scripts/multicri"),
        `--socket-path=${socketPath}`,
        `--root-dir=${at("root dir")}`,
        `--state-dir=${at("state")}`,
        `--resources-cache-path=${at("cache")}`,
        `--pod-logs-dir=${at("logs")}`,
        "--allowed-clusters=login.example",
      ],
      env: { MULTICRI_DENO: Deno.execPath() },
      stdout: "null",
      stderr: "piped",
    }).spawn();
    const said = new Response(server.stderr).text();
    const ended = server.status.then(() => "ended" as const);
    try {
      while (await Deno.lstat(socketPath).then(() => false, () => true)) {
        const pause = new Promise((resolve) => setTimeout(resolve, 50));
        if (await Promise.race([ended, pause]) === "ended") throw new Error(await said);
      }
      const client = new TestClient(socketPath);
      try {
        assertStringIncludes(new TextDecoder().decode(await client.unary("Version")), "multicri");
      } finally {
        client.close();
      }
      const argv = (await Deno.readTextFile(`/proc/${server.pid}/cmdline`)).split("\0");
      const flags = argv.slice(0, argv.findIndex((word) => word.endsWith("main.ts")));
      const wide = flags.filter((flag) => /^(-A|--allow-all|--allow-[a-z]+)$/.test(flag));
      assertEquals([wide, flags.includes("--no-prompt")], [[], true]);
      assertEquals((await Deno.stat(socketPath)).mode, 0o140600);
    } finally {
      server.kill("SIGTERM");
    }
    assertEquals([(await server.status).code, await said], [0, ""]);
    await assertGone(socketPath);
  }));

async function assertGone(path: string): Promise<void> {
  assertEquals(await Deno.lstat(path).then(() => "there", () => "gone"), "gone");
}
