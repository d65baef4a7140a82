import { run, runOk, shellWord } from "./lab/process.ts";
import type { Progress } from "./lab/progress.ts";
import { ensureRoot, type RootRecipe } from "./lab/root.ts";

/** Runs `go` with arguments in a folder of the machine, and returns its output. */
export type Go = (folder: string, args: string[]) => Promise<string>;

/** Three numbers of a version of Go. */
export type GoVersion = readonly [number, number, number];

/** Debian's own Go, for machines without one that is new enough. */
const GO_ROOT: RootRecipe = {
  name: "go",
  suite: "sid",
  packages: ["ca-certificates", "golang-go"],
};

/**
 * A kubelet takes three minutes on two idle cores with a quick line; machines at work and slow lines
 * take many times that.
 */
const BUILD_TIMEOUT_MS = 2_400_000;

const ENVIRONMENT = {
  CGO_ENABLED: "0",
  // An older Go would fetch a newer one by itself.
  GOTOOLCHAIN: "local",
  GOWORK: "off",
};

/**
 * The machine's Go when it is new enough, else Debian's.
 *
 * @throws {Error} when neither is.
 */
export async function findGo(oldest: GoVersion, cache: string, progress: Progress): Promise<Go> {
  const { code, stdout } = await run(
    ["sh", "-c", "command -v go >/dev/null && go version"],
    { env: ENVIRONMENT },
  );
  if (code === 0 && isNewEnough(stdout, oldest)) return goOfMachine;
  const go = await goOfDebian(cache, progress);
  const version = await go(cache, ["version"]);
  if (isNewEnough(version, oldest)) return go;
  throw new Error(
    `Cannot build the clients, as they need Go ${oldest.join(".")} or newer: Debian has ` +
      `${version.trim()}. Install a newer Go and put it in PATH.`,
  );
}

/** Whether `go version`'s output names one that is new enough. */
export function isNewEnough(goVersion: string, oldest: GoVersion): boolean {
  const match = /\bgo(\d+)\.(\d+)(?:\.(\d+))?/.exec(goVersion);
  if (match === null) return false;
  const have = [match[1], match[2], match[3] ?? "0"].map(Number);
  const differing = oldest.findIndex((part, index) => have[index] !== part);
  return differing === -1 || (have[differing] ?? 0) > (oldest[differing] ?? 0);
}

async function goOfMachine(folder: string, args: string[]): Promise<string> {
  return await runOk(["go", "-C", folder, ...args], {
    env: ENVIRONMENT,
    timeoutMs: BUILD_TIMEOUT_MS,
  });
}

/**
 * Debian's Go in a root of its own, entered in a mount namespace with the work folder, a cache in it, the
 * machine's name servers and its certificates.
 */
async function goOfDebian(cache: string, progress: Progress): Promise<Go> {
  const root = await ensureRoot(GO_ROOT, cache, progress);
  return async (folder, args) => {
    const bind = (source: string, target: string) =>
      `mount --bind ${shellWord(source)} ${shellWord(root + target)}`;
    const script = [
      "set -e",
      bind(folder, "/mnt"),
      bind("/etc/resolv.conf", "/etc/resolv.conf"),
      bind("/dev", "/dev"),
      `mount -t proc proc ${shellWord(`${root}/proc`)}`,
      `[ ! -e /etc/ssl/certs/ca-certificates.crt ] || ${bind("/etc/ssl/certs", "/etc/ssl/certs")}`,
      `exec chroot ${shellWord(root)} go -C /mnt "$@"`,
    ].join("\n");
    const unshare = ["unshare", "--mount", "--pid", "--fork", "--kill-child=KILL"];
    return await runOk([...unshare, "sh", "-c", script, "sh", ...args], {
      env: {
        ...ENVIRONMENT,
        HOME: "/mnt",
        PATH: "/usr/sbin:/usr/bin:/sbin:/bin",
        GOCACHE: "/mnt/.cache",
        GOMODCACHE: "/mnt/.modules",
        TMPDIR: "/tmp",
      },
      timeoutMs: BUILD_TIMEOUT_MS,
    });
  };
}
