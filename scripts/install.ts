/**
 * `deno task install DIRECTORY`: makes a folder that runs multicri by its scripts/multicri, without a
 * checkout, without Deno in PATH and without a network: the code, this Deno, and the npm packages.
 */
import { dirname, fromFileUrl, isAbsolute, join } from "@std/path";
import { messageOf } from "../lib/base/error.ts";
import { writeStderrLine } from "../lib/base/log.ts";

const ROOT = fromFileUrl(new URL("..", import.meta.url));
const PARTS = [
  "deno.json",
  "deno.lock",
  "main.ts",
  "lib",
  "wasm",
  "scripts/multicri",
  "deploy",
  "README.md",
];

/** The modules that the launcher starts; what they import is fetched with them. */
export const ENTRY_POINTS = ["main.ts", "lib/config/print_permissions.ts"];

/**
 * Copies the server into `target`, which must not exist or be empty.
 * @throws Error with a sentence.
 */
export async function install(target: string): Promise<void> {
  if (!isAbsolute(target)) {
    throw new Error(`The directory must be an absolute path, not '${target}'.`);
  }
  await Deno.mkdir(target, { recursive: true, mode: 0o755 });
  for await (const entry of Deno.readDir(target)) {
    throw new Error(`The directory ${target} must be empty, but it holds ${entry.name}.`);
  }
  for (const part of PARTS) await copy(join(ROOT, part), join(target, part));
  const deno = join(target, "bin", "deno");
  await Deno.mkdir(dirname(deno), { recursive: true });
  await Deno.copyFile(Deno.execPath(), deno);
  await Deno.chmod(deno, 0o755);
  const { success, stderr } = await new Deno.Command(deno, {
    args: ["cache", "--quiet", ...ENTRY_POINTS],
    cwd: target,
    env: { DENO_DIR: join(target, "deno-dir") },
    stderr: "piped",
  }).output();
  if (!success) throw new Error(`Cannot fetch the packages: ${new TextDecoder().decode(stderr)}`);
}

/** Copies a file or a folder, without tests and build products. */
async function copy(from: string, to: string): Promise<void> {
  const info = await Deno.stat(from);
  if (!info.isDirectory) {
    if (/_test\.ts$/.test(from)) return;
    await Deno.mkdir(dirname(to), { recursive: true });
    await Deno.copyFile(from, to);
    return;
  }
  for await (const entry of Deno.readDir(from)) {
    if (["target", "src", "testdata"].includes(entry.name)) continue;
    await copy(join(from, entry.name), join(to, entry.name));
  }
}

if (import.meta.main) {
  try {
    const [target = ""] = Deno.args;
    await install(target);
    writeStderrLine(
      `Installed multicri in ${target}; start it by ${join(target, "scripts/multicri")}`,
    );
  } catch (error) {
    writeStderrLine(`install: ${messageOf(error)}`);
    Deno.exit(1);
  }
}
