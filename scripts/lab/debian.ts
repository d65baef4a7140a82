import { run, runOk } from "./process.ts";
import { type Progress, step } from "./progress.ts";

/** One of apt's source files: sources.list(5) one-line style or deb822 style, told apart by its name. */
export interface SourceFile {
  path: string;
  text: string;
}

const DEBIAN_SUITES = new Set([
  ...["oldstable", "stable", "testing", "unstable"],
  ...["bullseye", "bookworm", "trixie", "forky", "sid"],
]);

/** Names a Debian mirror when the machine's own apt sources hold none. */
const MIRROR_VARIABLE = "MULTICRI_LAB_MIRROR";

/**
 * The Debian mirror this machine's apt uses: the first source with a Debian suite and component `main`,
 * one whose address ends in /debian before others. Undefined when there is none. It may be a
 * `mirror+file:` address, whose file lists the real ones.
 */
export function mirrorOf(files: SourceFile[]): string | undefined {
  const uris = files.flatMap(({ path, text }) =>
    path.endsWith(".sources") ? stanzaUris(text) : lineUris(text)
  );
  return uris.find((uri) => /\/debian\/?$/.test(uri)) ?? uris[0];
}

/** The one-line style: `deb [options] URI suite component…`. */
function lineUris(text: string): string[] {
  return text.split("\n").flatMap((line) => {
    const [, uri, suite, components] =
      /^\s*deb\s+(?:\[[^\]]*\]\s*)?(\S+)\s+(\S+)\s+([^#]*)/.exec(line) ?? [];
    if (uri === undefined || suite === undefined || components === undefined) return [];
    return isDebianMain([suite], components.split(/\s+/)) ? [uri] : [];
  });
}

/** The deb822 style: stanzas of `Field: values`, parted by empty lines. */
function stanzaUris(text: string): string[] {
  return text.split(/\n\s*\n/).flatMap((stanza) => {
    const field = (name: string) =>
      new RegExp(`^${name}:\\s*(.*)$`, "mi").exec(stanza)?.[1]?.trim().split(/\s+/) ?? [];
    if (field("Enabled")[0] === "no" || !field("Types").includes("deb")) return [];
    return isDebianMain(field("Suites"), field("Components")) ? field("URIs").slice(0, 1) : [];
  });
}

function isDebianMain(suites: string[], components: string[]): boolean {
  return components.includes("main") && suites.some((suite) => DEBIAN_SUITES.has(suite));
}

/**
 * Finds the Debian mirror to make the lab's root from: `MULTICRI_LAB_MIRROR`, else the machine's own.
 *
 * @throws {Error} when the machine names none.
 */
export async function findMirror(): Promise<string> {
  const named = Deno.env.get(MIRROR_VARIABLE);
  if (named !== undefined) return named;
  const files: SourceFile[] = [];
  for (const path of ["/etc/apt/sources.list", ...await listSources("/etc/apt/sources.list.d")]) {
    const text = await Deno.readTextFile(path).catch(() => "");
    files.push({ path, text });
  }
  const mirror = mirrorOf(files);
  if (mirror?.startsWith("mirror+file:")) {
    const list = await Deno.readTextFile(mirror.slice("mirror+file:".length));
    const first = list.split("\n").find((line) => /^\s*https?:/.test(line))?.trim().split(/\s+/)[0];
    if (first !== undefined) return first;
  } else if (mirror !== undefined) {
    return mirror;
  }
  throw new Error(
    `Cannot make the lab's Debian root: /etc/apt/sources.list* names no Debian mirror. ` +
      `Set ${MIRROR_VARIABLE} to one.`,
  );
}

async function listSources(folder: string): Promise<string[]> {
  const paths: string[] = [];
  try {
    for await (const { name } of Deno.readDir(folder)) {
      if (/\.(list|sources)$/.test(name)) paths.push(`${folder}/${name}`);
    }
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  return paths.sort();
}

/** Environment that makes debootstrap's wget use the proxy that apt is configured with. */
export async function proxyEnvironment(): Promise<Record<string, string>> {
  const { stdout } = await run(["apt-config", "shell", "proxy", "Acquire::http::Proxy"]);
  const proxy = /^proxy='(.*)'$/m.exec(stdout)?.[1];
  return proxy === undefined || proxy === "DIRECT" ? {} : { http_proxy: proxy };
}

/** Commands the lab needs on the machine, and the Debian packages that bring them. */
const PREREQUISITES: Record<string, string[]> = {
  debootstrap: ["debootstrap", "gpgv", "debian-archive-keyring", "wget", "ca-certificates"],
  ip: ["iproute2"],
  nsenter: ["util-linux"],
  mount: ["mount"],
  setsid: ["util-linux"],
};

/** Downloads on a slow line. */
const APT_TIMEOUT_MS = 300_000;

/**
 * Installs by apt what the machine lacks of the commands that are the keys of `needed`; the values are
 * the packages that bring them.
 *
 * @throws {Error} when a command is missing and apt cannot bring it.
 */
export async function installPrerequisites(
  progress: Progress,
  needed: Readonly<Record<string, readonly string[]>> = PREREQUISITES,
): Promise<void> {
  const missing: string[] = [];
  for (const [command, packages] of Object.entries(needed)) {
    const { code } = await run(["sh", "-c", 'command -v "$1"', "sh", command]);
    if (code !== 0) missing.push(...packages);
  }
  if (missing.length === 0) return;
  await step(progress, `Installing ${missing.join(", ")} by apt`, () => aptInstall(missing));
}

/** Installs Debian packages on the machine; `timeoutMs` bounds each step of it. */
export async function aptInstall(packages: string[], timeoutMs = APT_TIMEOUT_MS): Promise<void> {
  const options = { env: { DEBIAN_FRONTEND: "noninteractive" }, timeoutMs };
  const apt = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=120", "-o", "Acquire::Retries=3"];
  const install = [...apt, "install", "--no-install-recommends", "-y", ...packages];
  const first = await run(install, options);
  if (first.code === 0) return;
  // The package lists of a fresh machine are often empty or too old.
  await runOk([...apt, "update"], options);
  await runOk(install, options);
}

/** Signs Debian's packages; of debian-archive-keyring. */
const KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg";

/**
 * Downloads the source of a Debian package of a suite into an empty folder, checked by its signatures,
 * and unpacks the upstream part of it. The machine's own apt configuration is neither used for it nor
 * changed, but for the mirror and the proxy.
 *
 * @returns the folder of the unpacked source.
 */
export async function fetchSource(
  name: string,
  suite: string,
  folder: string,
): Promise<string> {
  for (const state of ["lists/partial", "cache/archives/partial", "source"]) {
    await Deno.mkdir(`${folder}/${state}`, { recursive: true });
  }
  const list = `${folder}/sources.list`;
  await Deno.writeTextFile(
    list,
    `deb-src [signed-by=${KEYRING}] ${await findMirror()} ${suite} main\n`,
  );
  const apt = [
    ...["env", "-C", `${folder}/source`, "apt-get", "-qq"],
    ...["-o", `Dir::Etc::sourcelist=${list}`, "-o", "Dir::Etc::sourceparts=/dev/null"],
    ...["-o", `Dir::State::lists=${folder}/lists`, "-o", `Dir::Cache=${folder}/cache`],
    // A mirror's copy of an unreleased suite may be some weeks old.
    ...["-o", "Acquire::Check-Valid-Until=false", "-o", "Acquire::Retries=3"],
    // The folder may be one that apt's own user cannot reach.
    ...["-o", "APT::Sandbox::User=root"],
  ];
  await runOk([...apt, "update"], { timeoutMs: APT_TIMEOUT_MS });
  await runOk([...apt, "source", "--download-only", name], { timeoutMs: APT_TIMEOUT_MS });
  const unpack = 'cd "$1" && tar --extract --one-top-level=upstream --strip-components=1 ' +
    "--file=$(ls *.orig.tar.*z* | grep -v asc)";
  await runOk(["sh", "-c", unpack, "sh", `${folder}/source`]);
  return `${folder}/source/upstream`;
}
