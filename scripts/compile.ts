/**
 * `deno task compile [flags of multicri]`: builds dist/multicri, one file with the code, its permissions and
 * the runtime in it. The permissions are those that the given flags (else the defaults) need, and are baked
 * in: a binary built for one socket cannot serve another.
 */
import { fromFileUrl, join } from "@std/path";
import { writeStderrLine } from "../lib/base/log.ts";
import { parseInvocation } from "../lib/config/flags.ts";
import { UsageError } from "../lib/config/usage_error.ts";
import { readClusters } from "../lib/config/clusters.ts";
import { permissionFlags } from "../lib/config/permissions.ts";

const ROOT = fromFileUrl(new URL("..", import.meta.url));

/** The permission flags for a server's command line. */
function bakedPermissions(args: readonly string[]): string[] {
  const invocation = parseInvocation(args, (name) => Deno.env.get(name));
  if (invocation.kind === "serve") {
    return permissionFlags(invocation.config, readClusters(invocation.config));
  }
  throw new UsageError("compile takes the flags that the server will be started with.");
}

async function compile(args: readonly string[]): Promise<number> {
  const output = join(ROOT, "dist", "multicri");
  const { success, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["compile", "--quiet", "--output", output, ...bakedPermissions(args), "main.ts"],
    cwd: ROOT,
    stdout: "inherit",
    stderr: "piped",
  }).output();
  if (success) {
    writeStderrLine(`Built ${output}`);
    return 0;
  }
  const words = new TextDecoder().decode(stderr);
  const stub = /https?:\/\/\S*denort\S*?\.zip/.exec(words)?.[0];
  writeStderrLine(
    stub === undefined
      ? words
      : `Cannot compile: Deno's runtime stub for this platform cannot be fetched from ${stub}; fetch it ` +
        "elsewhere, unpack it and name the file in DENORT_BIN, or run the server by scripts/multicri, " +
        "which needs no compiling.",
  );
  return 1;
}

try {
  Deno.exit(await compile(Deno.args));
} catch (error) {
  if (!(error instanceof UsageError)) throw error;
  writeStderrLine(`compile: ${error.message}`);
  Deno.exit(2);
}
