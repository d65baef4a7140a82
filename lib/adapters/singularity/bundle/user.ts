import { CriError } from "../../../base/error.ts";
import { shown } from "../../../base/shown.ts";
import {
  type LinuxContainerSecurityContext,
  SupplementalGroupsPolicy,
} from "../../../cri/api.generated.ts";
import type { OciUser } from "./oci_spec.ts";

/** The image's own files of users, passwd(5) and group(5); empty where it has none. */
export interface UserFiles {
  passwd: string;
  group: string;
}

interface Entry {
  name: string;
  uid: number;
  gid: number;
}

/**
 * Whose the program is: the pod's choice (by number or name) before the image's USER, and the groups of both pod and
 * image, or of the pod alone (SupplementalGroupsPolicy). A number is an id, whatever the image calls by it: else an
 * image could turn the user that the kubelet has checked into root.
 * @throws CriError INVALID_ARGUMENT for a name that the image does not know.
 */
export function resolveUser(
  context: LinuxContainerSecurityContext | undefined,
  imageUser: string,
  files: UserFiles,
): OciUser {
  const policy = context?.supplementalGroupsPolicy;
  if (policy !== undefined && SupplementalGroupsPolicy[policy] === undefined) {
    throw new CriError(
      "INVALID_ARGUMENT",
      `Cannot run the container with the policy ${policy} for supplemental groups: it must be Merge or Strict.`,
    );
  }
  const users = readUsers(files.passwd);
  const [userPart = "", groupPart = ""] = chosenUser(context, imageUser).split(":");
  const user = userPart === "" ? "0" : userPart;
  const entry = findUser(users, user);
  if (entry === undefined && !isNumber(user)) throw unknown("user", user, "passwd");
  const uid = entry?.uid ?? toNumber(BigInt(user));
  const ownGroup = context?.runAsGroup?.value;
  const gid = ownGroup !== undefined
    ? toNumber(ownGroup)
    : groupPart !== ""
    ? groupId(files.group, groupPart)
    : entry?.gid ?? 0;
  const strict = policy === SupplementalGroupsPolicy.Strict;
  const imageGroups = strict || entry === undefined ? [] : groupsOf(files.group, entry.name);
  const asked = (context?.supplementalGroups ?? []).map(toNumber);
  return { uid, gid, additionalGids: [...new Set([gid, ...asked, ...imageGroups])] };
}

/**
 * @throws CriError INVALID_ARGUMENT for a group without a user, a user by number and by name (api.proto), and an id that
 * the kernel does not have.
 */
function chosenUser(context: LinuxContainerSecurityContext | undefined, imageUser: string): string {
  if (context?.runAsUser !== undefined && context.runAsUsername !== "") {
    throw new CriError(
      "INVALID_ARGUMENT",
      "Cannot run the container with both run_as_user and run_as_username: only one of them must be set.",
    );
  }
  if (context?.runAsUser !== undefined) return String(toNumber(context.runAsUser.value));
  if (context !== undefined && context.runAsUsername !== "") return context.runAsUsername;
  if (context?.runAsGroup !== undefined) {
    throw new CriError(
      "INVALID_ARGUMENT",
      "Cannot run the container with run_as_group alone: run_as_user or run_as_username must be set with it.",
    );
  }
  return imageUser;
}

function readUsers(passwd: string): Entry[] {
  return passwd.split("\n").flatMap((line) => {
    const [name = "", , uid = "", gid = ""] = line.split(":");
    return name !== "" && isNumber(uid) && isNumber(gid)
      ? [{ name, uid: Number(uid), gid: Number(gid) }]
      : [];
  });
}

function findUser(users: readonly Entry[], user: string): Entry | undefined {
  return isNumber(user)
    ? users.find(({ uid }) => uid === Number(user))
    : users.find(({ name }) => name === user);
}

/** @throws CriError INVALID_ARGUMENT */
function groupId(group: string, wanted: string): number {
  if (isNumber(wanted)) return toNumber(BigInt(wanted));
  for (const line of group.split("\n")) {
    const [name = "", , gid = ""] = line.split(":");
    if (name === wanted && isNumber(gid)) return Number(gid);
  }
  throw unknown("group", wanted, "group");
}

/** The groups that list the user as a member. */
function groupsOf(group: string, user: string): number[] {
  return group.split("\n").flatMap((line) => {
    const [, , gid = "", members = ""] = line.split(":");
    return isNumber(gid) && members.split(",").includes(user) ? [Number(gid)] : [];
  });
}

function isNumber(text: string): boolean {
  return /^\d{1,10}$/.test(text);
}

/** @throws CriError INVALID_ARGUMENT for an id that the kernel does not have. */
function toNumber(id: bigint): number {
  if (id >= 0n && id < 2n ** 32n - 1n) return Number(id);
  throw new CriError(
    "INVALID_ARGUMENT",
    `Cannot run the container with the id ${id}: it must be from 0 to 4294967294.`,
  );
}

function unknown(kind: string, name: string, file: string): CriError {
  return new CriError(
    "INVALID_ARGUMENT",
    `Cannot run the container as the ${kind} ${shown(name)}: the image's /etc/${file} must ` +
      "have it; use its number, or another image.",
  );
}
