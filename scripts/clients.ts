import { findGo, type Go, type GoVersion } from "./go.ts";
import { exists } from "./lab/files.ts";
import { withLock } from "./lab/lock.ts";
import { type Progress, step } from "./lab/progress.ts";
import { defaultCache } from "./lab/settings.ts";

/** A Go module that clients are built from. */
interface GoModule {
  path: string;
  /** Without the `v`. */
  version: string;
  /** What its go.mod asks for. */
  oldestGo: GoVersion;
  /** Package whose gitVersion tells a program of Kubernetes its own version, if there is one. */
  versionPackage?: string;
}

const CRI_TOOLS: GoModule = {
  path: "sigs.k8s.io/cri-tools",
  version: "1.36.0",
  oldestGo: [1, 26, 2],
};

const KUBERNETES: GoModule = {
  path: "k8s.io/kubernetes",
  version: "1.37.2",
  oldestGo: [1, 26, 0],
  versionPackage: "k8s.io/component-base/version",
};

/** What is built of which module, by which words after `go`. */
const CLIENTS = {
  crictl: { module: CRI_TOOLS, build: ["build"], takes: "a minute" },
  // critest is a compiled Go test.
  critest: { module: CRI_TOOLS, build: ["test", "-c"], takes: "a minute" },
  kubelet: { module: KUBERNETES, build: ["build"], takes: "five minutes" },
  "kube-apiserver": { module: KUBERNETES, build: ["build"], takes: "two minutes" },
  "kube-controller-manager": { module: KUBERNETES, build: ["build"], takes: "two minutes" },
  kubectl: { module: KUBERNETES, build: ["build"], takes: "a minute" },
} as const satisfies Record<string, { module: GoModule; build: string[]; takes: string }>;

/** Real clients of CRI, and what they need, that the tests and the `dev` task use. */
export type ClientName = keyof typeof CLIENTS;

/** The file name of a client in the clients' folder, as `crictl-1.36.0`. */
export function clientFile(name: ClientName): string {
  return `${name}-${CLIENTS[name].module.version}`;
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
  const { module, build, takes } = CLIENTS[name];
  const work = `${cache}/clients-build/${module.path}`;
  return await withLock(`${work}.lock`, progress, async () => {
    if (await exists(path)) return path;
    await Deno.mkdir(work, { recursive: true });
    await Deno.mkdir(folder, { recursive: true });
    const go = await findGo(module.oldestGo, cache, progress);
    await step(progress, `Building ${name} ${module.version} (once; about ${takes})`, async () => {
      await writeGoMod(module, work, go);
      const flags = ["-mod=mod", "-buildvcs=false", "-trimpath", `-ldflags=${linkFlags(module)}`];
      await go(work, [...build, ...flags, "-o", name, `${module.path}/cmd/${name}`]);
    });
    await Deno.rename(`${work}/${name}`, path);
    return path;
  });
}

function linkFlags({ versionPackage, version }: GoModule): string {
  const stamp = versionPackage === undefined ? "" : ` -X ${versionPackage}.gitVersion=v${version}`;
  return `-s -w${stamp}`;
}

/**
 * Writes a go.mod that does no more than name the module; go fills in the rest. What the module replaces
 * by folders of its own repository (Kubernetes' staging modules) is taken from the published modules, as
 * replacements count only in a main module.
 */
async function writeGoMod(module: GoModule, work: string, go: Go): Promise<void> {
  const goMod = `${work}/go.mod`;
  await Deno.writeTextFile(goMod, mainGoMod(module, []));
  const version = `${module.path}@v${module.version}`;
  const { GoMod } = JSON.parse(await go(work, ["mod", "download", "-json", version]));
  const { Require } = JSON.parse(await go(work, ["mod", "edit", "-json", String(GoMod)]));
  await Deno.writeTextFile(goMod, mainGoMod(module, stagingModules(Require)));
}

/** One entry of `Require` as `go mod edit -json` writes it. */
export interface Requirement {
  Path: string;
  Version: string;
}

/** The modules of the same repository: they are required in no version, and replaced by its folders. */
export function stagingModules(requirements: readonly Requirement[]): string[] {
  return requirements.filter(({ Version }) => Version === "v0.0.0").map(({ Path }) => Path);
}

/** Kubernetes 1.X.Y publishes its staging modules as 0.X.Y. */
function mainGoMod({ path, version, oldestGo }: GoModule, staging: readonly string[]): string {
  const published = version.replace(/^\d+/, "0");
  return [
    "module multicri.test/clients",
    `go ${oldestGo.join(".")}`,
    `require ${path} v${version}`,
    ...staging.map((name) => `require ${name} v${published}`),
    "",
  ].join("\n");
}
