import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { CriError } from "../lib/base/error.ts";
import {
  type CustomConfig,
  joinCommand,
  parseCustomConfig,
  parseExitCode,
  quoteShell,
  renderEnvironment,
  slurmState,
} from "./core.ts";
import { call, memory, reserve } from "./core.wasm";

const TESTDATA = new URL("testdata/", import.meta.url);

function assertRefused(refused: () => unknown, part: string): void {
  const error = assertThrows(refused, CriError);
  assertEquals(error.code, "INVALID_ARGUMENT");
  assertStringIncludes(error.message, part);
}

Deno.test("quoteShell() quotes for a POSIX shell", () => {
  assertEquals(["", "a b", "it's", "$(id)\n"].map(quoteShell), [
    "''",
    "'a b'",
    "'it'\\''s'",
    "'$(id)\n'",
  ]);
  assertRefused(() => quoteShell("a\0"), "NUL");
  assertRefused(() => quoteShell("\udc00"), "surrogate");
});

Deno.test("joinCommand() joins commands at standalone && and || only when told", () => {
  const seed = ["sleep", "60", "&&", "ls", "/"];
  assertEquals(joinCommand(seed, { joinTokens: true }), [
    "/bin/sh",
    "-c",
    "'sleep' '60' && 'ls' '/'",
  ]);
  assertEquals(joinCommand(seed, { joinTokens: false }), seed);
  assertEquals(joinCommand([], { joinTokens: true }), []);
  assertEquals(joinCommand(["echo", "a&&b"], { joinTokens: true }), ["echo", "a&&b"]);
  assertRefused(() => joinCommand(["||", "ls"], { joinTokens: true }), "word 1");
});

Deno.test("renderEnvironment() names what needs the program env", () => {
  const { file, viaArgv } = renderEnvironment([
    { name: "A", value: "old" },
    { name: "a.b", value: "it's" },
    { name: "A", value: "new" },
    { name: "PEM", value: "a\r\nb" },
  ]);
  assertEquals(
    file,
    "export APPTAINERENV_A='new'\nmulticri_argv_environment=('a.b=it'\\''s' 'PEM=a\r\nb')\n",
  );
  assertEquals(viaArgv, ["a.b", "PEM"]);
});

Deno.test("renderEnvironment() refuses what does not fit, without the value", () => {
  const secret = "s3cret".repeat(25_000);
  const error = assertThrows(() => renderEnvironment([{ name: "A", value: secret }]), CriError);
  assertStringIncludes(error.message, '"A"');
  assertEquals(error.message.includes("s3cret"), false);
  assertRefused(() => renderEnvironment([{ name: "", value: "" }]), "empty");
});

Deno.test("parseCustomConfig() reads the golden example", async () => {
  const text = await Deno.readTextFile(new URL("custom_config.txt", TESTDATA));
  const golden = await Deno.readTextFile(new URL("custom_config.golden", TESTDATA));
  const { options, environment, ignored }: CustomConfig = parseCustomConfig(text);
  const lines = [
    ...options.map(({ name, value }) => `--${name}${value === undefined ? "" : `=${value}`}`),
    ...environment.map(({ name, value }) => `${name}=${value}`),
    ...ignored.map(({ line, text, why }) => `${line} ${text}: ${why}`),
  ];
  assertEquals(lines, golden.trimEnd().split("\n"));
});

Deno.test("slurmState() tells phase and end, and takes an unknown state for running", () => {
  assertEquals(slurmState("R"), { name: "RUNNING", known: true, phase: "running" });
  assertEquals(slurmState("CONFIGURING").phase, "pending");
  const end = { succeeded: true, reason: "Completed" };
  assertEquals(slurmState("CD"), { name: "COMPLETED", known: true, phase: "ended", end });
  assertEquals(slurmState("CANCELLED by 1000").end, {
    succeeded: false,
    reason: "Cancelled",
    exitCode: 221,
  });
  assertEquals(slurmState("OUT_OF_MEMORY").end?.exitCode, 137);
  assertEquals(slurmState("NEW_STATE"), { name: "NEW_STATE", known: false, phase: "running" });
});

Deno.test("parseExitCode() makes one number of Slurm's two", () => {
  assertEquals(parseExitCode("7:0"), { code: 7, signal: 0, exitCode: 7 });
  assertEquals(parseExitCode("0:9"), { code: 0, signal: 9, exitCode: 137 });
  assertRefused(() => parseExitCode("seven"), "CODE:SIGNAL");
});

Deno.test("the core keeps no memory after a million calls", () => {
  const word = "it's a word";
  const large = "'".repeat(100_000);
  quoteShell(large);
  const before = memory.buffer.byteLength;
  for (let round = 0; round < 1_000_000; round++) quoteShell(word);
  for (let round = 0; round < 100; round++) quoteShell(large);
  assertEquals(memory.buffer.byteLength, before);
});

Deno.test("the core works on after a call that trapped", () => {
  const traps = [() => call(1, 0xffff_fff0, 100), () => reserve(0xffff_0000)];
  for (const trap of traps) {
    assertThrows(trap, WebAssembly.RuntimeError);
    assertEquals(quoteShell("a'b"), "'a'\\''b'");
  }
});

Deno.test("the core refuses requests that it cannot read", () => {
  const answerTo = (operation: number, request: number[]) => {
    const start = reserve(request.length);
    new Uint8Array(memory.buffer, start, request.length).set(request);
    const answer = call(operation, start, request.length);
    const view = new DataView(memory.buffer);
    const sentence = new Uint8Array(memory.buffer, answer + 12, view.getUint32(answer + 8, true));
    return [view.getUint32(answer + 4, true), new TextDecoder().decode(sentence)];
  };
  assertEquals(answerTo(99, []), [0, "The core has no operation 99."]);
  const shortened = "Cannot read the request: it ends too early.";
  for (let operation = 0; operation < 8; operation++) {
    assertEquals(answerTo(operation, [1, 0, 0]), [0, shortened]);
    assertEquals(answerTo(operation, [9, 0, 0, 0, 65]), [0, shortened]);
  }
});
