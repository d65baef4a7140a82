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
mkdir -p ${quoteShell(directory)} && echo made
`;
}

/**
 * Lines that make directories one after the other. A program of the pod may have put a link in the place of one, so
 * whatever is there stays as it is, and no link that is there at the look is followed. They exit with `failureCode` when one cannot be made.
 */
export function makeDirectoriesScript(
  made: readonly MadeDirectory[],
  failureCode: number,
): string {
  return made.map(({ path, mode, isFile }) => {
    const place = quoteShell(path);
    const make = isFile
      ? `touch ${place}`
      // Not by chmod(1), which would follow a link that a program puts in the new directory's place meanwhile.
      : `mkdir -m ${mode.toString(8)} ${place}`;
    return `if [ -L ${place} ]; then
  printf '%s is a link\n' ${place} >&2
  exit ${failureCode}
fi
[ -e ${place} ] || ${make} || [ -e ${place} ] || exit ${failureCode}`;
  }).join("\n");
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
rm -rf volumes allocation allocation.* || exit 1
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
