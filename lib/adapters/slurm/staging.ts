import { basename, dirname, join } from "@std/path";
import { CriError } from "../../base/error.ts";
import { quoteShell } from "../../../wasm/core.ts";
import type { ArchiveEntry } from "./archive.ts";
import type { Bind } from "./binds.ts";
import { podHosts } from "./hosts.ts";
import {
  CopyBudget,
  placeInVolume,
  placeOfPart,
  readVolume,
  type VolumeCopy,
  volumeOfPart,
} from "./kubelet_volumes.ts";
import { isBelow, type PlannedMount, refusal } from "./mounts.ts";
import { TERMINATION_FILE } from "./termination.ts";
import { NODE_PLUGINS } from "./volume.ts";

/** Where the copies of a container lie in its directory: one directory or file for each, by its number in the plan. */
export const COPIES = "volumes";
/** Where a pod's shared volumes lie in the sandbox's directory. */
export const SHARED = "volumes";
/** What the job does before the container: bash, in the container's directory. */
export const PREPARATION_FILE = "volumes.sh";

/** Everybody's, as the kubelet makes it; the sandbox's directory is private. */
const SHARED_MODE = 0o777;
const PRIVATE_MODE = 0o700;
/** A place in a persistent volume for something to be mounted on. */
const POINT_MODE = 0o755;

/** A directory outside the container's that must be there, with all on its way; no link counts as one. */
export interface MadeDirectory {
  /**
   * Absolute on the cluster; no program of a pod can put anything else in its place. It may be a link of the site's.
   */
  root: string;
  /** Where it lies below that, without `.`, `..` and empty parts. */
  part: string;
  /** Permission bits of what is made. */
  mode: number;
  /** Something to mount a file on. */
  isFile?: boolean;
}

/** What a container's mounts take on the cluster. */
export interface Staging {
  binds: Bind[];
  /** Below the container's directory. */
  entries: ArchiveEntry[];
  made: MadeDirectory[];
  /** Whether volumes lie in the sandbox's directory, which outlive the container. */
  shares: boolean;
  /**
   * Where in the container something is mounted from, or in, a directory that programs of the pod may replace by a
   * link. Whether they did is looked at before the runtime starts, but nothing keeps them from doing it right after.
   */
  replaceable: string[];
  /** Which part of the volume at /multicri is mounted there; "" for all of it. */
  volumePart: string;
  /** PREPARATION_FILE; empty when nothing is to be done. */
  preparation: string;
}

/** Where things lie on the cluster, absolute. */
export interface StagingPlace {
  /** The container's directory, which lies in the sandbox's. */
  directory: string;
  /** That of the volume at /multicri. */
  volume: string | undefined;
}

/** A mount on its way: where its files lie, and what they are. */
interface Staged {
  mount: PlannedMount;
  /** Absolute on the cluster; not to be replaced by programs of the pod. */
  root: string;
  /** Where the files lie below it; "": they are all of it. */
  part: string;
  /** "copied" for what lies in the container's directory. */
  home: "copied" | "shared" | "volume";
  isFile: boolean;
}

/** What a container without mounts takes. */
export function nothingStaged(): Staging {
  return {
    binds: [],
    entries: [],
    made: [],
    shares: false,
    replaceable: [],
    volumePart: "",
    preparation: "",
  };
}

/**
 * Reads what the kubelet wrote for a container and says what of it goes where.
 * @throws CriError INVALID_ARGUMENT, FAILED_PRECONDITION for what cannot be read or copied.
 */
export async function stageMounts(
  mounts: readonly PlannedMount[],
  place: StagingPlace,
): Promise<Staging> {
  const staging = nothingStaged();
  const budget = new CopyBudget();
  const staged: Staged[] = [];
  for (const [number, mount] of mounts.entries()) {
    const one = await stageMount(mount, number, place, staging, budget);
    addMountPoint(one, staged, staging);
    staged.push(one);
    const { destination, readonly } = mount;
    staging.binds.push({ source: join(one.root, one.part), destination, readonly });
  }
  return staging;
}

/**
 * Lets results stay in the container's volume, where the seed has them: in `<sandbox's id>/<container's id>`. Nothing
 * is mounted for that: the program goes there by the volume.
 * @returns That directory, absolute on the cluster.
 */
export function stageResults(
  staging: Staging,
  volume: string,
  sandboxId: string,
  id: string,
): string {
  const part = join(staging.volumePart, sandboxId, id);
  staging.made.push({ root: volume, part, mode: POINT_MODE });
  return join(volume, part);
}

async function stageMount(
  mount: PlannedMount,
  number: number,
  { directory, volume = "" }: StagingPlace,
  staging: Staging,
  budget: CopyBudget,
): Promise<Staged> {
  const copied = (copy: VolumeCopy): Staged => {
    staging.entries.push(...copy.entries);
    const isFile = copy.entries[0]?.kind === "file";
    return { mount, root: directory, part: copyName(number), home: "copied", isFile };
  };
  const shared = (name: string, part: string): Staged => {
    const root = makeShared(dirname(directory), name, staging);
    const one: Staged = { mount, root, part, home: "shared", isFile: false };
    if (part !== "") makePart(one, part, SHARED_MODE, staging);
    return one;
  };
  switch (mount.kind) {
    case "volume":
      return await stageVolume(mount, volume, staging);
    case "termination":
      return { mount, root: directory, part: TERMINATION_FILE, home: "copied", isFile: true };
    case "hosts":
      await stageHosts(mount.hostPath, staging, budget);
      return { mount, root: directory, part: "hosts", home: "copied", isFile: true };
    case "copied":
      return copied(await readVolume(mount.hostPath, copyName(number), budget));
    case "shared":
      return shared(mount.volume, "");
    case "part": {
      const found = await volumeOfPart(mount.podDirectory, mount.volume);
      if (found === undefined) {
        throw refusal(
          { containerPath: mount.destination },
          `${JSON.stringify(mount.hostPath)} is a part of a volume whose files only the node has`,
          "leave it out",
        );
      }
      return found.kind === "copied"
        ? copied(await readVolume(mount.hostPath, copyName(number), budget))
        : shared(mount.volume, await placeOfSharedPart(found.path, mount.hostPath));
    }
    default:
      return mount satisfies never;
  }
}

/** The volume at /multicri, or a part of it. */
async function stageVolume(
  mount: PlannedMount & { kind: "volume" },
  root: string,
  staging: Staging,
): Promise<Staged> {
  const one: Staged = { mount, root, part: "", home: "volume", isFile: false };
  if (mount.part === undefined) return one;
  const { hostPath, ofAnyVolume } = mount.part;
  const counts = (plugin: string) => ofAnyVolume || !NODE_PLUGINS.test(plugin);
  const part = await placeInVolume(mount.part, counts);
  const isDirectory = await Deno.lstat(hostPath).then((info) => info.isDirectory, () => false);
  if (part === undefined || !isDirectory) {
    throw refusal(
      { containerPath: mount.destination },
      `${
        JSON.stringify(hostPath)
      } must be a directory of the volume, and none is the same there on the node ` +
        "(or it holds too many files to find it)",
      "mount all of the volume, without subPath",
    );
  }
  if (part !== "") makePart(one, part, POINT_MODE, staging);
  staging.volumePart = part;
  return { ...one, part };
}

async function placeOfSharedPart(volumePath: string, partPath: string): Promise<string> {
  // The node's volume holds nothing else than such directories: its files are the cluster's.
  const place = await placeOfPart(volumePath, partPath);
  if (place !== undefined) return place;
  throw new CriError(
    "FAILED_PRECONDITION",
    `Cannot find the part ${partPath} of the volume ${volumePath}, which the kubelet must have made there.`,
  );
}

/** Where the copy of the mount with this number in the plan lies in the container's directory. */
export function copyName(number: number): string {
  return `${COPIES}/${number}`;
}

/** A shared volume in the sandbox's directory. @returns Its own, absolute on the cluster. */
function makeShared(sandboxDirectory: string, name: string, staging: Staging): string {
  const root = join(sandboxDirectory, SHARED);
  staging.shares = true;
  staging.made.push({ root: sandboxDirectory, part: SHARED, mode: PRIVATE_MODE });
  staging.made.push({ root, part: name, mode: SHARED_MODE });
  return join(root, name);
}

/**
 * Sees to it that a part of a volume is there, for something to be mounted from or on.
 * @param part Below the volume's root.
 */
function makePart({ root, mount, isFile }: Staged, part: string, mode: number, staging: Staging) {
  staging.made.push({ root, part, mode, ...(isFile ? { isFile } : {}) });
  // Another container of the pod may put a link in its place, which would lead out of the volume.
  staging.preparation += mustLieIn(root, part);
  staging.replaceable.push(mount.destination);
}

async function stageHosts(hostPath: string, staging: Staging, budget: CopyBudget): Promise<void> {
  const { entries: [file] } = await readVolume(hostPath, "hosts.pod", budget);
  if (file?.kind !== "file") return;
  const text = typeof file.content === "string"
    ? file.content
    : new TextDecoder().decode(file.content);
  staging.entries.push({ ...file, content: podHosts(text) });
  // The names that the node knows are those of the cluster's own machines.
  // All ranks of an MPI job have the one file.
  staging.preparation += `if [[ $multicri_mode != rank ]]; then
  { cat /etc/hosts; cat hosts.pod; } >hosts 2>/dev/null && chmod 644 hosts ||
    multicri_refuse 125 "the file of host names cannot be written"
fi
`;
}

/**
 * Sees to it that something can be mounted within what another mount holds. The runtime makes the place for it, but
 * follows links on its way, which a program of the pod may have put there; in copies there are none that lead out.
 */
function addMountPoint(one: Staged, before: readonly Staged[], staging: Staging): void {
  const { destination } = one.mount;
  const around = before.findLast(({ mount }) => isBelow(destination, mount.destination));
  if (around === undefined) return;
  const part = destination.slice(around.mount.destination.length + 1);
  if (around.isFile || part === "") {
    throw refusal(
      { containerPath: destination },
      `something else is mounted at ${JSON.stringify(around.mount.destination)}`,
      "choose another path",
    );
  }
  if (around.home === "copied") return;
  const mode = around.home === "shared" ? SHARED_MODE : POINT_MODE;
  makePart({ ...one, root: around.root }, join(around.part, part), mode, staging);
}

/** Refuses the job if a part of a volume is elsewhere: for PREPARATION_FILE. */
export function mustLieIn(root: string, part: string): string {
  const message = `${basename(part)} in ${basename(root)} is no part of the volume, but a link`;
  return `multicri_root=$(realpath -e -- ${quoteShell(root)}) &&
  [[ $(realpath -e -- ${quoteShell(join(root, part))}) == "$multicri_root"/${quoteShell(part)} ]] ||
  multicri_refuse 125 ${quoteShell(message)}
`;
}
