import { exists } from "./lab/files.ts";
import { withLock } from "./lab/lock.ts";
import { run, runOk, shellWord } from "./lab/process.ts";
import { type Progress, step } from "./lab/progress.ts";
import { ensureRoot, type RootRecipe } from "./lab/root.ts";
import { defaultCache } from "./lab/settings.ts";

/** Real clients of CRI that the tests and the `dev` task use, from Kubernetes' cri-tools. */
export type ClientName = "crictl" | "critest";

const VERSION = "1.36.0";

/** go.mod of cri-tools says so; an older Go would fetch a newer one by itself. */
const OLDEST_GO = [1, 26, 2] as const;

const PACKAGE = "sigs.k8s.io/cri-tools";

/** What builds each client, after `go`; the output's path and the package follow. */
const BUILDS: Record<ClientName, string[]> = {
  crictl: ["build"],
  // critest is a compiled Go test.
  critest: ["test", "-c"],
};

/** Debian's own Go, for machines without one that is new enough. */
const GO_ROOT: RootRecipe = { name: "go", packages: ["ca-certificates", "golang-go"] };

/** 40 s on two cores with a quick line. */
const BUILD_TIMEOUT_MS = 900_000;

/** The file name of a client in the clients' folder, as `crictl-1.36.0`. */
export function clientFile(name: ClientName): string {
  return `${name}-${VERSION}`;
}

/**
 * Returns the path of a client's binary, built on first use and kept in the cache by its version. It is
 * linked statically, so it runs in every host.
 *
 * @throws {Error} when the build fails; the message holds the compiler's last words.
 */
export async function ensureClient(
  name: ClientName,
  progress: Progress = () => {},
  cache: string = defaultCache(),
): Promise<string> {
  const folder = `${cache}/clients`;
  const path = `${folder}/${clientFile(name)}`;
  if (await exists(path)) return path;
  return await withLock(`${folder}.lock`, progress, async () => {
    if (await exists(path)) return path;
    const work = `${cache}/clients-build`;
    await Deno.mkdir(work, { recursive: true });
    await Deno.mkdir(folder, { recursive: true });
    await Deno.writeTextFile(`${work}/go.mod`, goMod());
    const go = await machineHasGo() ? goOfMachine : await goOfDebian(cache, progress);
    const flags = ["-mod=mod", "-buildvcs=false", "-trimpath", "-ldflags=-s -w", "-o", name];
    await step(
      progress,
      `Building ${name} ${VERSION} (once; about a minute)`,
      () => go(work, [...BUILDS[name], ...flags, `${PACKAGE}/cmd/${name}`]),
    );
    await Deno.rename(`${work}/${name}`, path);
    return path;
  });
}

/** A module of no other use than to name the version; go fills in the rest. */
function goMod(): string {
  return `module multicri.test/clients\n\ngo ${
    OLDEST_GO.join(".")
  }\n\nrequire ${PACKAGE} v${VERSION}\n`;
}

/** Runs `go` with arguments in a folder. */
type Go = (folder: string, args: string[]) => Promise<void>;

const GO_ENVIRONMENT = { CGO_ENABLED: "0", GOTOOLCHAIN: "local", GOWORK: "off" };

async function goOfMachine(folder: string, args: string[]): Promise<void> {
  await runOk(["go", "-C", folder, ...args], {
    env: GO_ENVIRONMENT,
    timeoutMs: BUILD_TIMEOUT_MS,
  });
}

/** Whether `go version`'s output names one that is new enough. */
export function isNewEnough(goVersion: string): boolean {
  const match = /\bgo(\d+)\.(\d+)(?:\.(\d+))?/.exec(goVersion);
  if (match === null) return false;
  const have = [match[1], match[2], match[3] ?? "0"].map(Number);
  const differing = OLDEST_GO.findIndex((part, index) => have[index] !== part);
  return differing === -1 || (have[differing] ?? 0) > (OLDEST_GO[differing] ?? 0);
}

async function machineHasGo(): Promise<boolean> {
  const { code, stdout } = await run(
    ["sh", "-c", "command -v go >/dev/null && go version"],
    { env: GO_ENVIRONMENT },
  );
  return code === 0 && isNewEnough(stdout);
}

/**
 * Debian's Go in a root of its own, entered in a mount namespace with the work folder, a cache, the
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
    await runOk(
      [
        "unshare",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child=KILL",
        "sh",
        "-c",
        script,
        "sh",
        ...args,
      ],
      {
        env: {
          ...GO_ENVIRONMENT,
          HOME: "/mnt",
          PATH: "/usr/sbin:/usr/bin:/sbin:/bin",
          GOCACHE: "/mnt/.cache",
          GOMODCACHE: "/mnt/.modules",
          TMPDIR: "/tmp",
        },
        timeoutMs: BUILD_TIMEOUT_MS,
      },
    );
  };
}
