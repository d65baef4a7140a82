import { assert, assertEquals, assertThrows } from "@std/assert";
import { CriError } from "../../base/error.ts";
import { createLocalExecutor } from "../local.ts";
import { COMMAND_LINE, MarkerFilter, MAX_BANNER_BYTES, wrapScript } from "./shell.ts";
import { everyByte, namesIn, text } from "./test_session.ts";

const executor = createLocalExecutor();
/** The login shells of clusters, as far as this machine has them. */
const SHELLS = ["/bin/sh", "/bin/bash", "/usr/bin/tcsh", "/usr/bin/fish", "/usr/bin/zsh"].filter(
  exists,
);

for (const shell of SHELLS) {
  Deno.test(`COMMAND_LINE runs the script and leaves it the rest of stdin when the login shell is ${shell}`, async () => {
    const { stdinLine, marker } = wrapScript("cat; printf '%s' '!$HOME `x` \\\\' >&2; exit 7");
    const data = everyByte(100_000);
    const stdin = new Uint8Array(stdinLine.length + data.length);
    stdin.set(stdinLine);
    stdin.set(data, stdinLine.length);
    const result = await executor.run([shell, "-c", COMMAND_LINE], { stdin });
    assertEquals(result.code, 7);
    const out: Uint8Array[] = [];
    const filter = new MarkerFilter(marker, (chunk) => out.push(chunk), () => {});
    filter.add(result.stdout);
    assert(/^\d+$/.test(filter.rest));
    assertEquals(out.length, 1);
    assertEquals(out[0]?.length, data.length);
    assert(out[0]?.every((byte, at) => byte === data[at]));
    assertEquals(text(result.stderr), `${marker}\n!$HOME \`x\` \\\\`);
  });

  Deno.test(`COMMAND_LINE runs nothing when the script was cut off and the login shell is ${shell}`, async () => {
    const { stdinLine } = wrapScript("echo ran; echo this too");
    for (const length of [0, 4, stdinLine.length - 8, stdinLine.length - 1]) {
      const result = await executor.run([shell, "-c", COMMAND_LINE], {
        stdin: stdinLine.slice(0, length),
      });
      assertEquals([result.code === 0, text(result.stdout)], [false, ""]);
    }
  });
}

Deno.test("wrapScript() makes a script that does not begin when nobody reads its output", async () => {
  const folder = await Deno.makeTempDir({ prefix: "multicri-shell-" });
  try {
    const { stdinLine } = wrapScript(`touch ${folder}/began`);
    // `: |` would be a race; a descriptor that is closed fails each write.
    const result = await executor.run(["/bin/sh", "-c", `exec 1>&-; ${COMMAND_LINE}`], {
      stdin: stdinLine,
    });
    assert(result.code !== 0);
    assertEquals(await namesIn(folder), []);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("wrapScript() takes a marker of its own for each script", () => {
  assert(wrapScript("true").marker !== wrapScript("true").marker);
});

/** What may be a login host's /bin/sh. */
const POSIX_SHELLS = [["/bin/dash"], ["/bin/bash", "--posix"], ["/usr/bin/busybox", "sh"]].filter(
  ([path = ""]) => exists(path),
);

for (const shell of POSIX_SHELLS) {
  Deno.test(`wrapScript() keeps every character of a script when /bin/sh is ${shell.join(" ")}`, async () => {
    const letters = Array.from({ length: 0xff }, (_, index) => String.fromCodePoint(index + 1));
    const words = [...letters, "漢\u{1f680}", "\\c", "\\0101", "%s", "  "].join("");
    const { stdinLine } = wrapScript(
      `  printf '%s' '${words.replaceAll("'", "'\\''")}' | od -An -tx1 -v`,
    );
    const argv: [string, ...string[]] = [
      "env",
      ...shell,
      "-c",
      COMMAND_LINE.replace(/^.*? -c '|'$/g, ""),
    ];
    const result = await executor.run(argv, { stdin: stdinLine });
    const hex = text(result.stdout).split("\n").slice(1).join("").replaceAll(/\s/g, "");
    assertEquals(hex, new TextEncoder().encode(words).toHex());
  });
}

Deno.test("wrapScript() refuses NUL", () => {
  assertEquals(assertThrows(() => wrapScript("a\0b"), CriError).code, "INVALID_ARGUMENT");
});

Deno.test("MarkerFilter passes on exactly what follows the marker's line when pieces are cut anywhere", () => {
  const marker = "multicri-0123456789abcdef0123456789abcdef";
  const output = everyByte(1_000);
  const banner = `Welcome\nmulticri-0123 ${marker.slice(0, 20)}\xff`;
  const head = new TextEncoder().encode(`${banner}${marker} 4711\n`);
  const all = new Uint8Array(head.length + output.length);
  all.set(head);
  all.set(output, head.length);
  for (const size of [1, 2, 7, 40, head.length - 1, head.length, head.length + 1, all.length]) {
    const passed: number[] = [];
    const filter = new MarkerFilter(marker, (chunk) => passed.push(...chunk), () => {});
    for (let at = 0; at < all.length; at += size) filter.add(all.subarray(at, at + size));
    assertEquals(passed, [...output], `pieces of ${size}`);
    assertEquals([filter.seen, filter.rest], [true, "4711"]);
  }
});

Deno.test("MarkerFilter tells that there is no marker when a banner does not end", () => {
  let told = 0;
  const filter = new MarkerFilter("marker", () => {}, () => told++);
  filter.add(new Uint8Array(MAX_BANNER_BYTES));
  assertEquals(told, 0);
  filter.add(new Uint8Array(1));
  assertEquals([told, filter.seen], [1, false]);
});

function exists(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false;
  }
}
