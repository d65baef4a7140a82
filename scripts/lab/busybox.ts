import { fetchSource, installPrerequisites } from "./debian.ts";
import { exists, remove } from "./files.ts";
import { withLock } from "./lock.ts";
import { runOk } from "./process.ts";
import { type Progress, step } from "./progress.ts";

/** What compiles C on the machine, statically. */
export const COMPILER: Readonly<Record<string, readonly string[]>> = {
  gcc: ["gcc", "libc6-dev"],
  make: ["make"],
  bzip2: ["bzip2"],
};

/** The suite of the source, 1.35: the shell of 1.37 words its errors otherwise than critest expects. */
const SUITE = "bookworm";

/** Half a minute on two idle cores. */
const BUILD_TIMEOUT_MS = 540_000;

/**
 * Returns the path of a static busybox with upstream's default applets, built from Debian's source on
 * first use and kept in `cache`. The one that Debian packages lacks pgrep and ipcs, among others, which
 * critest calls in its containers.
 *
 * @throws {Error} when the download or the build fails; the message holds the last words.
 */
export async function ensureBusybox(cache: string, progress: Progress): Promise<string> {
  const path = `${cache}/busybox-default`;
  if (await exists(path)) return path;
  return await withLock(`${path}.lock`, progress, async () => {
    if (await exists(path)) return path;
    await installPrerequisites(progress, COMPILER);
    const work = `${path}.build`;
    await remove(work);
    await step(progress, "Building busybox (once; about a minute)", async () => {
      const source = await fetchSource("busybox", SUITE, work);
      await build(source);
      await Deno.rename(`${source}/busybox`, path);
    });
    await remove(work);
    return path;
  });
}

async function build(source: string): Promise<void> {
  // `tc` does not compile against the headers of Linux 6.8 and later.
  const configure = "make defconfig && sed -i " +
    "-e 's/^# CONFIG_STATIC is not set/CONFIG_STATIC=y/' " +
    "-e 's/^CONFIG_TC=y/# CONFIG_TC is not set/' .config && yes '' | make oldconfig";
  const script = `cd "$1" && { ${configure}; } >/dev/null 2>&1 && make -j2 2>&1 | tail -n 20 && ` +
    "test -x busybox";
  await runOk(["sh", "-c", script, "sh", source], { timeoutMs: BUILD_TIMEOUT_MS });
}
