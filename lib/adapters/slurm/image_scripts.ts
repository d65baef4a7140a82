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
  if [ -O ${image} ]; then
    # Its time is that of its last use, for whoever removes old ones.
    touch ${image}
    echo ${IMAGE_IS_THERE}
  else
    echo ${IMAGE_IS_FOREIGN}
  fi
  exit 0
fi
[ -n "$holder" ] || { echo "no link can be made in $PWD" >&2; exit 1; }
printf '%s\\n' "$holder"
stat -c '%n %s %Y' ${image}.* 2>/dev/null
exit 0
`;
}

/**
 * Ends the right of `holder`, and what he has brought of the image; nothing when it is another's by now. Where users
 * share the directory, anyone of them can make the link, and it may lead anywhere: only parts of the image are removed.
 */
export function releaseImageScript(directory: string, name: string, holder: string): string {
  const lock = quoteShell(`${name}.lock`);
  const part = quoteShell(holder);
  const isPart = holder.startsWith(`${name}.`) && holder.endsWith(".part") && !holder.includes("/");
  return `
cd ${quoteShell(directory)} || exit 0
[ "$(readlink ${lock} 2>/dev/null)" = ${part} ] || exit 0
rm -f ${lock}${isPart ? ` ${part} ${part}.*` : ""}
`;
}

/** Exit code of `receiveImageScript` when somebody else has removed what arrived, since he has the right now. */
export const TAKEN_OVER_EXIT = 74;

/**
 * Takes an image from stdin and lands it under its name if its bytes are right; fails and removes it if they are not.
 * They are hashed from the page cache when all are there: on their way a pipe more would cost as much.
 */
export function receiveImageScript(
  directory: string,
  name: string,
  part: string,
  sha256: string,
): string {
  return `
cd ${quoteShell(directory)} || exit 1
umask 077
cat >${quoteShell(part)} || { rm -f ${quoteShell(part)}; exit 1; }
${whileAlive(part, `sum=$(sha256sum <${quoteShell(part)})`)}
[ -e ${quoteShell(part)} ] || exit ${TAKEN_OVER_EXIT}
if [ "\${sum%% *}" != ${sha256} ]; then
  rm -f ${quoteShell(part)}
  echo 'what arrived is not what was sent' >&2
  exit 1
fi
${landed(name, part)}
`;
}

/** Exit code of `makeImageScript` when there is no container runtime in the PATH of the login host. */
export const NO_RUNTIME_EXIT = 73;

/**
 * Lets the runtime make the image on the login host, and lands it. The words are those behind `apptainer`, which writes
 * `<directory>/<part>` and runs in the directory `from`; the prerun script, which may bring the runtime into the PATH,
 * comes on stdin. What the runtime says is on stdout.
 */
export function makeImageScript(
  directory: string,
  name: string,
  part: string,
  { words, from, launcher }: {
    words: readonly string[];
    from: string;
    /** What stands before the runtime, srun and its options for example. */
    launcher: readonly string[];
  },
): string {
  const prerun = quoteShell(`${part}.prerun.part`);
  const argv = [from, String(launcher.length), ...launcher, ...words]
    .map((word) => quoteShell(word)).join(" ");
  return `
cd ${quoteShell(directory)} || exit 1
umask 077
cat >${prerun} && : >${quoteShell(part)} || exit 1
${
    whileAlive(
      part,
      `bash -c ${quoteShell(RUN_RUNTIME)} bash "$PWD"/${prerun} ${argv} 2>&1 </dev/null`,
    )
  }
rm -f ${prerun}
[ "$code" -eq 0 ] || { rm -f ${quoteShell(part)}; exit "$code"; }
${landed(name, part)}
`;
}

const RUN_RUNTIME = `prerun=$1
cd "$2" || exit
count=$3
shift 3
if [ -s "$prerun" ]; then . "$prerun"; fi
runtime=$(command -v apptainer || command -v singularity) || exit ${NO_RUNTIME_EXIT}
exec "\${@:1:count}" "$runtime" "\${@:count+1}"`;

/**
 * Resolves a path in a volume to the file that is there, and prints it, and then what sha256sum says of it if `hash` is
 * set.
 * @param root The volume's directory, absolute on the cluster.
 */
export function volumeFileScript(
  root: string,
  path: string,
  options: { hash: boolean } = { hash: false },
): string {
  return `
cd ${quoteShell(root)} 2>/dev/null || exit ${VOLUME_FILE_EXIT.NO_VOLUME}
root=$(pwd -P)
file=$(readlink -f ./${quoteShell(path)}) || exit ${VOLUME_FILE_EXIT.NO_FILE}
case $file in "$root"/*) ;; *) exit ${VOLUME_FILE_EXIT.OUTSIDE} ;; esac
[ -f "$file" ] && [ -r "$file" ] || exit ${VOLUME_FILE_EXIT.NO_FILE}
printf '%s\\n' "$file"
${options.hash ? `sha256sum <"$file"` : ""}
`;
}

/** Makes and enters the image directory. */
function enterImages(directory: string): string {
  return `
umask 077
mkdir -p ${quoteShell(directory)} && cd ${quoteShell(directory)} || exit 1`;
}

/**
 * Runs `command`, sets $code, and shows meanwhile that whoever brings the image is alive, by the time of `part`. That
 * ends with the script itself, however it ends, and never brings back a part that was taken over.
 */
function whileAlive(part: string, command: string): string {
  return `( while sleep ${SIGN_OF_LIFE_SECONDS} && kill -0 $$; do touch -c ${
    quoteShell(part)
  }; done ) </dev/null >/dev/null 2>&1 &
alive=$!
${command}
code=$?
kill $alive 2>/dev/null
wait $alive 2>/dev/null`;
}

function landed(name: string, part: string): string {
  const lock = quoteShell(`${name}.lock`);
  return `mv -f ${quoteShell(part)} ${quoteShell(name)} || exit 1
[ "$(readlink ${lock} 2>/dev/null)" != ${quoteShell(part)} ] || rm -f ${lock}`;
}
