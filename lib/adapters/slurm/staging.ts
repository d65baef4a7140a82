import { basename, dirname, join } from "@std/path";
import { quoteShell } from "../../../wasm/core.ts";
import type { ArchiveEntry } from "./archive.ts";
import type { Bind } from "./binds.ts";
import { podHosts } from "./hosts.ts";
import {
  CopyBudget,
  placeOfPart,
  readVolume,
  type VolumeCopy,
  volumeOfPart,
} from "./kubelet_volumes.ts";
import { isBelow, type PlannedMount, refusal } from "./mounts.ts";
import { TERMINATION_FILE } from "./termination.ts";

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

/** A directory outside the container's that must be there; no link stands for it or counts as one. */
export interface MadeDirectory {
  /** Absolute on the cluster; what it lies in comes before it. */
  path: string;
  /** Permission bits if it is made. */
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
  source: string;
  /** "copied" for what lies in the container's directory. */
  home: "copied" | "shared" | "volume";
  isFile: boolean;
}

/** What a container without mounts takes. */
export function nothingStaged(): Staging {
  return { binds: [], entries: [], made: [], shares: false, preparation: "" };
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
    staging.binds.push({ source: one.source, destination, readonly });
  }
  return staging;
}

/**
 * Lets results stay in the container's volume, where the seed has them: in `<sandbox's id>/<container's id>`.
 * @returns That directory, absolute on the cluster.
 */
export function stageResults(
  staging: Staging,
  volume: string,
  sandboxId: string,
  id: string,
): string {
  const part = join(sandboxId, id);
  makeBelow(volume, part, { mode: POINT_MODE }, staging);
  // What the pod's other containers see they can also replace.
  staging.preparation += mustLieIn(volume, part);
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
    return { mount, source: join(directory, copyName(number)), home: "copied", isFile };
  };
  const shared = (name: string, part: string): Staged => ({
    mount,
    source: makeShared(dirname(directory), name, part, staging),
    home: "shared",
    isFile: false,
  });
  switch (mount.kind) {
    case "volume":
      return { mount, source: volume, home: "volume", isFile: false };
    case "termination":
      return { mount, source: join(directory, TERMINATION_FILE), home: "copied", isFile: true };
    case "hosts":
      await stageHosts(mount.hostPath, staging, budget);
      return { mount, source: join(directory, "hosts"), home: "copied", isFile: true };
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
        : shared(mount.volume, await placeOfPart(found.path, mount.hostPath));
    }
    default:
      return mount satisfies never;
  }
}

/** Where the copy of the mount with this number in the plan lies in the container's directory. */
export function copyName(number: number): string {
  return `${COPIES}/${number}`;
}

/** A shared volume, or a part of one, in the sandbox's directory. */
function makeShared(
  sandboxDirectory: string,
  name: string,
  part: string,
  staging: Staging,
): string {
  const root = join(sandboxDirectory, SHARED);
  staging.shares = true;
  staging.made.push({ path: root, mode: PRIVATE_MODE });
  const volume = join(root, name);
  staging.made.push({ path: volume, mode: SHARED_MODE });
  makeBelow(volume, part, { mode: SHARED_MODE }, staging);
  // Another container of the pod may put a link in its place, which would lead out of the volume.
  if (part !== "") staging.preparation += mustLieIn(volume, part);
  return join(volume, part);
}

function makeBelow(
  root: string,
  part: string,
  { mode, isFile = false }: { mode: number; isFile?: boolean },
  staging: Staging,
): void {
  const names = part.split("/").filter((name) => name !== "");
  for (const index of names.keys()) {
    const path = join(root, ...names.slice(0, index + 1));
    const isLast = index === names.length - 1;
    staging.made.push({ path, mode, ...(isLast && isFile ? { isFile } : {}) });
  }
}

async function stageHosts(hostPath: string, staging: Staging, budget: CopyBudget): Promise<void> {
  const { entries: [file] } = await readVolume(hostPath, "hosts.pod", budget);
  if (file?.kind !== "file") return;
  const text = typeof file.content === "string"
    ? file.content
    : new TextDecoder().decode(file.content);
  staging.entries.push({ ...file, content: podHosts(text) });
  // The names that the node knows are those of the cluster's own machines.
  staging.preparation +=
    `{ cat /etc/hosts; cat hosts.pod; } >hosts 2>/dev/null && chmod 644 hosts ||
  multicri_refuse 125 "the file of host names cannot be written"
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
  makeBelow(around.source, part, { mode, isFile: one.isFile }, staging);
  staging.preparation += mustLieIn(around.source, part);
}

/** Refuses the job if a part of a volume is elsewhere: for PREPARATION_FILE. */
export function mustLieIn(root: string, part: string): string {
  const message = `${basename(part)} in ${basename(root)} is no part of the volume, but a link`;
  return `multicri_root=$(realpath -e -- ${quoteShell(root)}) &&
  [[ $(realpath -e -- ${quoteShell(join(root, part))}) == "$multicri_root"/${quoteShell(part)} ]] ||
  multicri_refuse 125 ${quoteShell(message)}
`;
}
