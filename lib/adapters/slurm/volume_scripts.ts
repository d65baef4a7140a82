/** Scripts of the login host about volumes; see `cluster_scripts.ts`. */
import { basename } from "@std/path";
import { quoteShell } from "../../../wasm/core.ts";
import { allocationName } from "./allocation.ts";
import { VERSION_LINK } from "./kubelet_volumes.ts";
import type { MadeDirectory } from "./staging.ts";

/** Prints nothing, or `made` when the directory was not there. */
export function volumeScript(directory: string): string {
  return `
umask 077
[ ! -d ${quoteShell(directory)} ] || exit 0
if [ -e ${quoteShell(directory)} ] || [ -L ${quoteShell(directory)} ]; then
  echo 'in its place is a file, or a link that leads nowhere; remove it' >&2
  exit 1
fi
mkdir -p ${quoteShell(directory)} && echo made
`;
}

/**
 * Lines that make directories. A program of a pod may put links in the place of some, at any moment: so each step goes
 * into the directory itself, looks where that is, and makes only what lies right in it. They exit with `failureCode`
 * when one cannot be made.
 */
export function makeDirectoriesScript(
  made: readonly MadeDirectory[],
  failureCode: number,
): string {
  if (made.length === 0) return "";
  const calls = made.map(({ root, part, mode, isFile }) => {
    const words = [isFile ? "file" : "directory", mode.toString(8), root, ...part.split("/")];
    return `make_below ${words.map(quoteShell).join(" ")} || exit ${failureCode}`;
  });
  return `${MAKE_BELOW}${calls.join("\n")}`;
}

/** Neither mkdir(2) nor a file that must be new follows a link; chmod(1) and touch(1) would. */
const MAKE_BELOW = `
# make_below KIND MODE ROOT NAME...
make_below() (
  kind=$1 mode=$2
  cd -P -- "$3" && at=$(pwd -P) || exit
  shift 3
  refuse() {
    printf '%s is a link\n' "$at" >&2
    exit 1
  }
  for name; do
    at=$at/$name
    shift
    [ ! -L "./$name" ] || refuse
    if [ $# -eq 0 ] && [ "$kind" = file ]; then
      set -C
      [ -e "./$name" ] || true >"./$name" || [ -e "./$name" ]
      exit
    fi
    [ -e "./$name" ] || mkdir -m "$mode" "./$name" || [ -e "./$name" ] || exit
    cd -P "./$name" || exit
    [ "$(pwd -P)" = "$at" ] || refuse
  done
)
`;

/**
 * A command that removes trees, also directories that a program has closed to its own user, as download caches are.
 * @param words Of the shell: names in the directory that it is in.
 */
export function removeTrees(words: string): string {
  return `{ rm -rf ${words} 2>/dev/null || {
  find ${words} -type d ! -perm -700 -exec chmod u+rwx {} \\; 2>/dev/null
  rm -rf ${words}
}; }`;
}

/**
 * Removes what the containers of a sandbox shared, unless there still is one, and ends their common job; the directory
 * goes if nothing is left.
 */
export function cleanSandboxScript(directory: string): string {
  return `
cd ${quoteShell(directory)} 2>/dev/null || exit 0
for script in */job.sh; do
  [ ! -e "$script" ] || exit 0
done
if [ -e allocation ]; then
  scancel --user="$(id -un)" --name=${quoteShell(allocationName(basename(directory)))} || exit 1
fi
${removeTrees("volumes allocation allocation.*")} || exit 1
cd .. && rmdir ${quoteShell(basename(directory))} 2>/dev/null
exit 0
`;
}

/** Exit code of `refreshScript` when the new files cannot be written. */
export const REFRESH_FAILED_EXIT = 74;

/**
 * Brings a copied volume to the version whose directory comes as a tar archive on stdin: the link to it is replaced in
 * one step, as the kubelet does, so that a program sees all of one version. Does nothing when it is there already, or
 * the container is gone.
 *
 * The version before stays until the next comes: a compute node may follow the old link for as long as it remembers it.
 * @param links What the volume shows of the version: names and where they lead.
 */
export function refreshScript(
  directory: string,
  version: string,
  links: readonly { name: string; target: string }[],
): string {
  const shown = links.map(({ name, target }) => {
    const place = quoteShell(`./${name}`);
    return `[ -L ${place} ] || ln -s ${quoteShell(target)} ${place} || exit ${REFRESH_FAILED_EXIT}`;
  });
  return `
cd ${quoteShell(directory)} 2>/dev/null || { cat >/dev/null; exit 0; }
umask 077
old=$(readlink ${VERSION_LINK})
if [ "$old" = ${quoteShell(version)} ]; then
  cat >/dev/null
  exit 0
fi
tar -xpf - || exit ${REFRESH_FAILED_EXIT}
{ ln -s -n -f ${quoteShell(version)} ${VERSION_LINK}_tmp &&
  mv -f -T ${VERSION_LINK}_tmp ${VERSION_LINK}; } || exit ${REFRESH_FAILED_EXIT}
${shown.join("\n")}
for name in * .[!.]*; do
  if [ -L "$name" ] && [ ! -e "$name" ]; then rm -f -- "$name"; fi
done
for other in ..[0-9]*; do
  [ "$other" = ${quoteShell(version)} ] || [ "$other" = "$old" ] || rm -rf -- "$other"
done
exit 0
`;
}
