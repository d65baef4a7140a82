import { assert, assertEquals } from "@std/assert";
import { join } from "@std/path";
import { delay } from "@std/async/delay";
import type { Frame } from "../steps/frames.ts";
import { NOBODY, TestContainer } from "./test_container.ts";

const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
const exited = (code: number): Frame[] => [{ kind: "started" }, { kind: "exited", code }];

/** How commands end. */
const ENDS: { when: string; argv: string[]; frames: Frame[] }[] = [
  { when: "it succeeds", argv: ["true"], frames: exited(0) },
  { when: "it fails", argv: ["sh", "-c", "exit 255"], frames: exited(255) },
  { when: "a signal ends it", argv: ["sh", "-c", "kill -TERM $$"], frames: exited(143) },
  { when: "it kills itself", argv: ["sh", "-c", "kill -KILL $$"], frames: exited(137) },
  { when: "its path is absolute", argv: ["/bin/true"], frames: exited(0) },
  { when: "its path is relative", argv: ["bin/true"], frames: exited(0) },
  {
    when: "it is not in PATH",
    argv: ["no-such"],
    frames: [{ kind: "refused", why: "command", text: "it is not in PATH, /usr/bin:/bin" }],
  },
  {
    when: "there is no such file",
    argv: ["/no/such"],
    frames: [{ kind: "refused", why: "command", text: "there is no such file" }],
  },
  {
    when: "it is a directory",
    argv: ["/etc"],
    frames: [{ kind: "refused", why: "command", text: "it is no executable file" }],
  },
];
for (const { when, argv, frames } of ENDS) {
  Deno.test(`enter_container.pl tells how a command ended when ${when}`, async () => {
    await using container = await TestContainer.start();
    assertEquals((await container.enter(argv)).frames, frames);
  });
}

Deno.test("enter_container.pl keeps every byte of both streams", async () => {
  await using container = await TestContainer.start();
  const script = `perl -e 'print pack("C*", 0 .. 255) x 4096' | tee /dev/stderr`;
  const { stdout, stderr, frames } = await container.enter(["sh", "-c", script]);
  const bytes = Uint8Array.from({ length: 1_048_576 }, (_, index) => index % 256);
  assertEquals(frames, exited(0));
  assert(stdout.length === bytes.length && stdout.every((byte, at) => byte === bytes[at]));
  assert(stderr.length === bytes.length && stderr.every((byte, at) => byte === bytes[at]));
});

Deno.test("enter_container.pl hands over the words as they are", async () => {
  await using container = await TestContainer.start();
  const words = ["", " a ", "$(id) `id` $HOME", "'\"\\", "line\nbreak\r\t", "*", "-e", "é漢"];
  const { stdout } = await container.enter(["printf", "<%s>", ...words]);
  assertEquals(text(stdout), words.map((word) => `<${word}>`).join(""));
});

Deno.test("enter_container.pl enters the container's namespaces, where the program is", async () => {
  await using container = await TestContainer.start();
  const show = `for kind in user mnt pid ipc uts; do readlink /proc/self/ns/$kind; done; pwd; umask
    cat; cat /proc/self/comm | tr -d '\\n'; readlink /proc/1/exe; ls -C /proc/self/fd; tty`;
  const { stdout, stderr } = await container.enter(["sh", "-c", show]);
  const lines = text(stdout).split("\n");
  const ours = await new Deno.Command("sh", { args: ["-c", show], stdin: "null" }).output();
  const outside = text(ours.stdout).split("\n");
  for (const index of [0, 1, 2, 3, 4]) assert(lines[index] !== outside[index], lines[index]);
  assertEquals(lines.slice(5, 7), ["/usr", "0022"]);
  assert(lines[7]?.startsWith("cat/") && lines[8] === "0  1  2  3", text(stdout));
  assertEquals([lines[9], text(stderr)], ["not a tty", ""]);
});

Deno.test("enter_container.pl gives the program's environment, and exactly what the job's file says", async () => {
  const variables = [
    "PATH=/usr/bin:/bin",
    "BASE=b\nase",
    "OVER=old",
    "LD_LIBRARY_PATH=/a:/libs",
    "odd-1=x",
  ];
  const envFile = [
    "export APPTAINERENV_OVER='it'\\''s\nnew; $(id)'",
    "export APPTAINERENV_EMPTY=''",
    "export APPTAINERENV_LD_LIBRARY_PATH='/a'",
    "multicri_argv_environment=('a.b=c=d' 'CRLF=1\r\n2' 'Q='\\''\\')",
    "",
  ].join("\n");
  await using container = await TestContainer.start({ variables, envFile });
  const { stdout } = await container.enter(["cat", "/proc/self/environ"]);
  assertEquals(
    text(stdout).split("\0").slice(0, -1).toSorted(),
    [
      "BASE=b\nase",
      "CRLF=1\r\n2",
      "EMPTY=",
      "LD_LIBRARY_PATH=/a:/libs",
      "OVER=it's\nnew; $(id)",
      "PATH=/usr/bin:/bin",
      "Q='\\",
      "a.b=c=d",
      "odd-1=x",
    ],
  );
});

Deno.test("enter_container.pl drops what is over the bound, and the command runs on", async () => {
  await using container = await TestContainer.start();
  const { stdout, stderr, frames } = await container.enter(
    ["sh", "-c", "printf 12345; sleep 0.2; printf 678901 >&2; sleep 0.2; printf x; exit 3"],
    { maxOutputBytes: 10 },
  );
  assertEquals([text(stdout), text(stderr)], ["12345", "67890"]);
  assertEquals(frames, exited(3));
});

Deno.test("enter_container.pl does not wait for what the command leaves in the background", async () => {
  await using container = await TestContainer.start();
  const { stdout, frames } = await container.enter(["sh", "-c", "echo a; sleep 600 & exit 4"]);
  assertEquals([text(stdout), frames], ["a\n", exited(4)]);
});

/** A command whose processes must be gone afterwards, and the file that it makes when they are there. */
function longCommand({ directory }: TestContainer): { argv: string[]; begun: string } {
  const begun = join(directory, "begun");
  const script = `sleep 601 & (setsid sleep 601; :) & trap '' TERM; echo on; : >"$1"; sleep 601`;
  return { argv: ["sh", "-c", script, "sh", begun], begun };
}

/** A killed process ends when the kernel comes to it. */
const KILLED_WITHIN_MS = 20_000;

/** Waits until no process of such a command is left. */
async function assertNoneIsLeft(container: TestContainer): Promise<void> {
  const deadline = performance.now() + KILLED_WITHIN_MS;
  for (let left = "?"; left !== "";) {
    const show = "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '";
    const { stdout } = await container.enter(["sh", "-c", show]);
    left = text(stdout).match(/sleep 601/g)?.join() ?? "";
    if (performance.now() > deadline) assertEquals(left, "");
  }
}

Deno.test("enter_container.pl kills a command and its children when its time is over", async () => {
  await using container = await TestContainer.start();
  const { argv } = longCommand(container);
  const { stdout, frames } = await container.enter(argv, { timeoutMs: 1_000 });
  assertEquals([text(stdout), frames], ["on\n", [{ kind: "started" }, { kind: "timedOut" }]]);
  await assertNoneIsLeft(container);
});

Deno.test("enter_container.pl kills a command when nobody waits any more", async () => {
  await using container = await TestContainer.start();
  const { argv, begun } = longCommand(container);
  const hasBegun = async () => {
    while (!(await Deno.stat(begun).then(() => true, () => false))) await delay(10);
  };
  const { frames } = await container.enter(argv, {}, hasBegun());
  assertEquals(frames, [{ kind: "started" }, { kind: "abandoned" }]);
  await assertNoneIsLeft(container);
});

Deno.test("enter_container.pl begins nothing when nobody waits while the container starts", async () => {
  await using container = await TestContainer.start();
  await Deno.rename(join(container.directory, "status"), join(container.directory, "away"));
  const { frames } = await container.enter(["true"], {}, delay(100));
  assertEquals(frames, [{ kind: "abandoned" }]);
});

Deno.test("enter_container.pl says so when the container is not there yet", async () => {
  await using container = await TestContainer.start();
  await Deno.rename(join(container.directory, "status"), join(container.directory, "away"));
  const { frames } = await container.enter(["true"], { waitMs: 100 });
  assertEquals(frames, [
    { kind: "refused", why: "starting", text: "its program is not there yet, or not any more" },
  ]);
});

Deno.test("enter_container.pl enters no process of another job", async () => {
  await using container = await TestContainer.start({ jobId: "170" });
  await delay(200);
  const { frames } = await container.enter(["true"]);
  assertEquals(frames, [{ kind: "refused", why: "ended", text: "its processes are gone" }]);
});

Deno.test("enter_container.pl says so when the working directory cannot be entered", async () => {
  await using container = await TestContainer.start();
  const { frames } = await container.enter(["true"], { workingDirectory: "/no/such" });
  assertEquals(frames, [{
    kind: "refused",
    why: "command",
    text: "its working directory /no/such cannot be entered: No such file or directory",
  }]);
});

Deno.test("enter_container.pl says so when the container runtime is setuid", async () => {
  await using container = await TestContainer.start({ setuid: true });
  const { frames } = await container.enter(["true"], {}, undefined, NOBODY);
  assertEquals(frames, [{
    kind: "refused",
    why: "setuid",
    text:
      "the container runtime there is installed setuid, so that nobody but root may enter its containers; where the " +
      "kernel lets users make namespaces, export APPTAINER_USERNS=1 (SINGULARITY_USERNS=1) in CLUSTER_CONFIG",
  }]);
});
