import { assert, assertEquals, assertRejects } from "@std/assert";
import { CriError } from "../base/error.ts";
import type { RunOptions } from "./executor.ts";
import { createLocalExecutor } from "./local.ts";

const executor = createLocalExecutor({ baseEnv: { PATH: "/usr/bin:/bin" } });
const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
const everyByte = Uint8Array.from({ length: 256 * 1024 }, (_, index) => index % 256);

const OUTCOMES: {
  name: string;
  argv: readonly [string, ...string[]];
  options?: RunOptions;
  code: number;
  stdout?: string;
  stderr?: string;
}[] = [
  { name: "the program succeeds", argv: ["echo", "a b"], code: 0, stdout: "a b\n" },
  { name: "the program fails", argv: ["sh", "-c", "exit 7"], code: 7 },
  { name: "a signal ends the program", argv: ["sh", "-c", "kill -9 $$"], code: 137 },
  { name: "it writes to stderr", argv: ["sh", "-c", "echo e >&2"], code: 0, stderr: "e\n" },
  {
    name: "an argument is full of shell syntax",
    argv: ["printf", "%s", "$(id) `id` ; * \n'\""],
    code: 0,
    stdout: "$(id) `id` ; * \n'\"",
  },
  {
    name: "a variable and a directory are given",
    argv: ["sh", "-c", 'echo "$SECRET $PWD"'],
    options: { env: { SECRET: "s" }, cwd: "/" },
    code: 0,
    stdout: "s /\n",
  },
  {
    name: "the program does not read its input",
    argv: ["true"],
    options: { stdin: everyByte },
    code: 0,
  },
  { name: "no input is given", argv: ["cat"], code: 0, stdout: "" },
];

for (const { name, argv, options, code, stdout, stderr } of OUTCOMES) {
  Deno.test(`createLocalExecutor() gives exit code ${code} when ${name}`, async () => {
    const result = await executor.run(argv, options);
    assertEquals(result.code, code);
    assertEquals(text(result.stdout), stdout ?? "");
    assertEquals(text(result.stderr), stderr ?? "");
  });
}

Deno.test("createLocalExecutor() keeps every byte when stdin is echoed", async () => {
  const result = await executor.run(["cat"], { stdin: everyByte });
  assertEquals(result.stdout, everyByte);
});

Deno.test("createLocalExecutor() hides the server's environment when a child lists its own", async () => {
  Deno.env.set("MULTICRI_TEST_SECRET", "hunter2");
  try {
    const result = await createLocalExecutor().run(["env"]);
    assert(!text(result.stdout).includes("hunter2"));
    assert(text(result.stdout).includes("PATH="));
  } finally {
    Deno.env.delete("MULTICRI_TEST_SECRET");
  }
});

Deno.test("createLocalExecutor() hands on stderr piece by piece when onStderr is given", async () => {
  const pieces: string[] = [];
  await executor.run(["sh", "-c", "echo 1 >&2; echo 2 >&2"], {
    onStderr: (chunk) => pieces.push(text(chunk)),
  });
  assertEquals(pieces.join(""), "1\n2\n");
});

/** A shell with a child that keeps its pipes open after the shell is killed. */
const LINGERING = ["sh", "-c", "sleep 20 & echo $!; wait"] as const;

const FAILURES: {
  name: string;
  argv: readonly [string, ...string[]];
  options: () => RunOptions;
  code: string;
  message: RegExp;
}[] = [
  {
    name: "the program does not exist",
    argv: ["/no/such/program"],
    options: () => ({}),
    code: "NOT_FOUND",
    message: /\/no\/such\/program/,
  },
  {
    name: "the directory does not exist",
    argv: ["true"],
    options: () => ({ cwd: "/no/such/directory" }),
    code: "NOT_FOUND",
    message: /\/no\/such\/directory/,
  },
  {
    name: "the time is over",
    argv: LINGERING,
    options: () => ({ timeoutMs: 50 }),
    code: "DEADLINE_EXCEEDED",
    message: /within 50 ms/,
  },
  {
    name: "the caller cancels",
    argv: LINGERING,
    options: () => ({ signal: AbortSignal.timeout(50) }),
    code: "CANCELLED",
    message: /sh was cancelled/,
  },
  {
    name: "the caller had cancelled before",
    argv: ["true"],
    options: () => ({ signal: AbortSignal.abort(new Error("not wanted")) }),
    code: "CANCELLED",
    message: /not wanted/,
  },
  {
    name: "stdout is endless",
    argv: ["yes"],
    options: () => ({ maxOutputBytes: 10_000 }),
    code: "RESOURCE_EXHAUSTED",
    message: /stdout of yes .* at most 10000 bytes/,
  },
  {
    name: "stderr is endless",
    argv: ["sh", "-c", "yes >&2"],
    options: () => ({ maxOutputBytes: 10_000 }),
    code: "RESOURCE_EXHAUSTED",
    message: /stderr of sh/,
  },
  {
    name: "onStderr throws",
    argv: ["sh", "-c", "echo e >&2; sleep 20"],
    options: () => ({
      onStderr: () => {
        throw new Error("listener broke");
      },
    }),
    code: "INTERNAL",
    message: /listener broke/,
  },
  {
    name: "input is left unread by a program that is killed",
    argv: ["sleep", "20"],
    options: () => ({ stdin: everyByte, timeoutMs: 50 }),
    code: "DEADLINE_EXCEEDED",
    message: /sleep/,
  },
];

for (const { name, argv, options, code, message } of FAILURES) {
  Deno.test(`createLocalExecutor() throws ${code} when ${name}`, async () => {
    const error = await assertRejects(() => executor.run(argv, options()), CriError);
    assertEquals(error.code, code);
    assert(message.test(error.message), error.message);
  });
}
