/**
 * Builds the core from Rust, and proves that the committed `wasm/core.wasm` is what the source says.
 *
 * ```
 * deno task wasm setup      # install what is missing: compiler, wasm-opt, shellcheck
 * deno task wasm            # build wasm/core.wasm
 * deno task wasm --check    # change nothing; exit 1 when the committed file is not what the source builds
 * deno task wasm test       # the tests in Rust
 * ```
 *
 * The committed file is built by Debian 12's packages, whose output is the same bytes on every machine. With
 * other versions of the tools the bytes differ, so `--check` compares the behaviour instead: the source's by
 * its tests in Rust, the file's by those in TypeScript, both on the tables and scripts in `wasm/testdata`.
 */
import { messageOf } from "../lib/base/error.ts";
import { writeStderrLine } from "../lib/base/log.ts";
import { aptInstall } from "./lab/debian.ts";
import { run, runOk } from "./lab/process.ts";
import { step } from "./lab/progress.ts";
import { dirname, fromFileUrl, join } from "@std/path";

const ROOT = dirname(dirname(fromFileUrl(import.meta.url)));
const CRATE = join(ROOT, "wasm");
const COMMITTED = join(CRATE, "core.wasm");
const TARGET = "wasm32-unknown-unknown";

/** Programs and the Debian packages they come from. */
const TOOLS = {
  rustc: ["/usr/bin/rustc", "rustc"],
  cargo: ["/usr/bin/cargo", "cargo"],
  std: ["/usr/lib/rustlib/wasm32-unknown-unknown", "libstd-rust-dev-wasm32"],
  linker: ["/usr/bin/wasm-ld", "lld"],
  optimizer: ["/usr/bin/wasm-opt", "binaryen"],
  shellcheck: ["/usr/bin/shellcheck", "shellcheck"],
} as const;

/** What the pinned tools call themselves; other words mean other bytes. */
const PINNED_VERSIONS = [
  [TOOLS.rustc[0], "rustc 1.63.0"],
  [TOOLS.optimizer[0], "wasm-opt version 108"],
] as const;

/** Longest a step may take: apt on a slow mirror, cargo on a busy machine. */
const STEP_TIMEOUT_MS = 10 * 60_000;

/** Installs the missing packages by apt; needs root on a Debian machine, and nothing when all are there. */
export async function installTools(): Promise<void> {
  const missing: string[] = [];
  for (const [path, name] of Object.values(TOOLS)) {
    if (!await exists(path)) missing.push(name);
  }
  if (missing.length === 0) return;
  if (!await exists("/usr/bin/apt-get")) {
    throw new Error(
      `The core's tools are Debian packages; install ${missing.join(", ")} yourself.`,
    );
  }
  await step(
    writeStderrLine,
    `Installing ${missing.join(", ")} by apt`,
    () => aptInstall(missing, STEP_TIMEOUT_MS),
  );
}

/** The tools that are not the pinned ones, in words; empty when a build gives the committed bytes. */
export async function otherTools(): Promise<string[]> {
  const others: string[] = [];
  for (const [path, version] of PINNED_VERSIONS) {
    const words = await exists(path) ? (await runOk([path, "--version"])).trim() : "nothing";
    if (!words.startsWith(version)) others.push(`${path} is ${words}, not ${version}`);
  }
  return others;
}

/** Builds the core and returns its bytes. */
export async function build(): Promise<Uint8Array<ArrayBuffer>> {
  await cargo(["build", "--release", "--locked", "--target", TARGET]);
  const built = join(CRATE, "target", TARGET, "release", "multicri_core.wasm");
  const directory = await Deno.makeTempDir({ prefix: "multicri-wasm-" });
  try {
    const small = join(directory, "core.wasm");
    await runOk([
      TOOLS.optimizer[0],
      "-Oz",
      "--strip-debug",
      "--strip-producers",
      built,
      "-o",
      small,
    ]);
    return await Deno.readFile(small);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

/** Runs the tests in Rust on this machine's own target. */
export async function testSource(): Promise<void> {
  writeStderrLine((await cargo(["test", "--locked", "--quiet"])).trim());
}

/** Debian's cargo and rustc together: another cargo asks this rustc for what it cannot do. */
async function cargo(args: string[]): Promise<string> {
  const path = `/usr/bin:${Deno.env.get("PATH") ?? ""}`;
  const env = { PATH: path, RUSTC: TOOLS.rustc[0], CARGO_TERM_COLOR: "never" };
  const manifest = ["--manifest-path", join(CRATE, "Cargo.toml")];
  return await runOk([TOOLS.cargo[0], ...args, ...manifest], { env, timeoutMs: STEP_TIMEOUT_MS });
}

/** A sentence for a person when the committed file is not what the source builds; undefined when it is. */
export async function check(): Promise<string | undefined> {
  const others = await otherTools();
  if (others.length > 0) return await checkBehaviour(others);
  const [built, committed] = [await build(), await Deno.readFile(COMMITTED)];
  const same = built.length === committed.length &&
    built.every((byte, index) => byte === committed[index]);
  return same
    ? undefined
    : `wasm/core.wasm (${committed.length} bytes) is not what wasm/src builds (${built.length} bytes): run "deno task wasm" and commit it with the source.`;
}

async function checkBehaviour(others: string[]): Promise<string | undefined> {
  writeStderrLine(`Comparing behaviour instead of bytes: ${others.join("; ")}.`);
  await testSource();
  const tests = await run([Deno.execPath(), "test", "-A", "--quiet", CRATE], {
    timeoutMs: STEP_TIMEOUT_MS,
  });
  if (tests.code === 0) return undefined;
  writeStderrLine(tests.stdout + tests.stderr);
  return `wasm/core.wasm does not pass the tests that its source passes: build it with Debian 12's tools by "deno task wasm" and commit it.`;
}

async function exists(path: string): Promise<boolean> {
  return await Deno.stat(path).then(() => true, () => false);
}

async function main(args: string[]): Promise<number> {
  const [command = "build", ...rest] = args;
  if (!["build", "setup", "--check", "test"].includes(command) || rest.length > 0) {
    writeStderrLine("Usage: deno task wasm [setup | --check | test]");
    return 2;
  }
  await installTools();
  switch (command) {
    case "setup":
      return 0;
    case "test":
      await testSource();
      return 0;
    case "--check": {
      const complaint = await check();
      writeStderrLine(complaint ?? "wasm/core.wasm agrees with wasm/src.");
      return complaint === undefined ? 0 : 1;
    }
    default: {
      const others = await otherTools();
      if (others.length > 0) {
        writeStderrLine(
          `The committed file must be built by Debian 12's tools: ${others.join("; ")}.`,
        );
        return 1;
      }
      const bytes = await build();
      await Deno.writeFile(COMMITTED, bytes);
      writeStderrLine(`wasm/core.wasm: ${bytes.length} bytes`);
      return 0;
    }
  }
}

if (import.meta.main) {
  const code = await main(Deno.args).catch((error) => {
    writeStderrLine(messageOf(error));
    return 1;
  });
  Deno.exit(code);
}
