/** The scripts by which images come to lie on a cluster; as in `cluster_scripts.ts`, POSIX sh for the login host. */
import { quoteShell } from "../../../wasm/core.ts";

/** How often whoever brings an image shows that he is still alive, while no byte of it arrives. */
const SIGN_OF_LIFE_SECONDS = 10;

/** Exit codes of `volumeFileScript` beside 0. */
export const VOLUME_FILE_EXIT = {
  /** There is no such directory. */
  NO_VOLUME: 70,
  /** There is no such file in it, or it cannot be read. */
  NO_FILE: 71,
  /** A link leads out of the directory. */
  OUTSIDE: 72,
} as const;

/** What `claimImageScript` prints first when there is nothing to bring. */
export const IMAGE_IS_THERE = "there";
/** The same when the image is somebody else's: in a directory that users share it is not what we put there. */
export const IMAGE_IS_FOREIGN = "foreign";

/**
 * Asks for the right to bring the image `name` into `directory`: prints whose it is, `part` when it is now the
 * caller's, and then what changes as long as the holder lives (names, sizes and times of his files). The right is a
 * symbolic link, which exactly one of several makes, on NFS too.
 */
export function claimImageScript(directory: string, name: string, part: string): string {
  const image = quoteShell(name);
  const lock = quoteShell(`${name}.lock`);
  return `${enterImages(directory)}
find . -maxdepth 1 -name '*.part' -mtime +0 -exec rm -f {} +
if [ ! -e ${image} ]; then
  ln -s ${quoteShell(part)} ${lock} 2>/dev/null
  holder=$(readlink ${lock})
fi
if [ -e ${image} ]; then
  [ "\${holder:-}" != ${quoteShell(part)} ] || rm -f ${lock}
  if [ -O ${image} ]; then echo ${IMAGE_IS_THERE}; else echo ${IMAGE_IS_FOREIGN}; fi
  exit 0
fi
[ -n "$holder" ] || { echo "no link can be made in $PWD" >&2; exit 1; }
printf '%s\\n' "$holder"
stat -c '%n %s %Y' ${image}.* 2>/dev/null
exit 0
`;
}

/** Ends the right of `holder`, and what he has brought of the image; nothing when it is another's by now. */
export function releaseImageScript(directory: string, name: string, holder: string): string {
  const lock = quoteShell(`${name}.lock`);
  const part = quoteShell(holder);
  return `
cd ${quoteShell(directory)} || exit 0
[ "$(readlink ${lock} 2>/dev/null)" = ${part} ] || exit 0
rm -f ${lock} ${part} ${part}.*
`;
}

/** Lands an upload under its name if its bytes are right; fails and removes it if they are not. */
export function landImageScript(
  directory: string,
  name: string,
  part: string,
  sha256: string,
): string {
  return `
cd ${quoteShell(directory)} || exit 1
${whileAlive(part, `sum=$(sha256sum <${quoteShell(part)})`)}
[ "\${sum%% *}" = ${sha256} ] || { rm -f ${quoteShell(part)}; exit 1; }
${landed(name, part)}
`;
}

/**
 * Resolves a path in a volume to the file that is there, and prints it, then its SHA-256 if asked for.
 * @param root The volume's directory, absolute on the cluster.
 */
export function volumeFileScript(root: string, path: string): string {
  return `
cd ${quoteShell(root)} 2>/dev/null || exit ${VOLUME_FILE_EXIT.NO_VOLUME}
root=$(pwd -P)
file=$(readlink -f ./${quoteShell(path)}) || exit ${VOLUME_FILE_EXIT.NO_FILE}
case $file in "$root"/*) ;; *) exit ${VOLUME_FILE_EXIT.OUTSIDE} ;; esac
[ -f "$file" ] && [ -r "$file" ] || exit ${VOLUME_FILE_EXIT.NO_FILE}
printf '%s\\n' "$file"
`;
}

/** Makes and enters the image directory. */
function enterImages(directory: string): string {
  return `
umask 077
mkdir -p ${quoteShell(directory)} && cd ${quoteShell(directory)} || exit 1`;
}

/** Runs `command` and shows meanwhile that whoever brings the image is alive, by the time of \`part\`. */
function whileAlive(part: string, command: string): string {
  return `( while sleep ${SIGN_OF_LIFE_SECONDS}; do touch ${
    quoteShell(part)
  }; done ) </dev/null >/dev/null 2>&1 &
alive=$!
${command}
code=$?
kill $alive 2>/dev/null`;
}

function landed(name: string, part: string): string {
  const lock = quoteShell(`${name}.lock`);
  return `mv -f ${quoteShell(part)} ${quoteShell(name)} || exit 1
[ "$(readlink ${lock} 2>/dev/null)" != ${quoteShell(part)} ] || rm -f ${lock}`;
}
