import { MPI_ANNOTATION, unusable } from "./job_options.ts";

/** How the ranks of an MPI job are started. */
export interface MpiSettings {
  /** The launcher and its own arguments. */
  launcher: string[];
  /** The module that has it, or a version alone; empty for none. */
  module: string;
  /** How many ranks MPI_FLAGS ask for, where they say so. */
  ranks: string | undefined;
}

/** The values of MPI_VERSION that name no module: the launcher of PATH serves. */
const NO_MODULE = new Set(["default", "system"]);
/** No path, so that only what the site offers can be loaded. */
const MODULE = /^\w[\w+-]*([./][\w+-]+)*$/;
/** Types of srun(1), `--mpi`, that start ranks. */
const SRUN_TYPE = /^(pmi2|pmix(_v\d)?|cray_shasta)$/;

/**
 * What a container's MPI_VERSION and MPI_FLAGS and its pod's annotation say; undefined for a job without MPI.
 * @throws CriError INVALID_ARGUMENT for what cannot be used.
 */
export function readMpi(
  variables: ReadonlyMap<string, string>,
  annotations: Readonly<Record<string, string>>,
): MpiSettings | undefined {
  const version = (variables.get("MPI_VERSION") ?? "").trim();
  if (version === "") return undefined;
  if (!MODULE.test(version)) {
    throw unusable("MPI_VERSION", "a version, a module's name or default", version);
  }
  const type = (Object.hasOwn(annotations, MPI_ANNOTATION) && annotations[MPI_ANNOTATION]) ||
    "mpirun";
  if (type !== "mpirun" && !SRUN_TYPE.test(type)) {
    throw unusable(MPI_ANNOTATION, "mpirun, pmix, pmi2 or cray_shasta", type);
  }
  const flags = splitWords(variables.get("MPI_FLAGS") ?? "");
  return {
    launcher: type === "mpirun"
      ? ["mpirun", ...flags]
      // As mpirun does: when a rank fails the others end.
      : ["srun", `--mpi=${type}`, "--kill-on-bad-exit=1", ...flags],
    module: NO_MODULE.has(version) ? "" : version,
    ranks: ranksOf(flags),
  };
}

/** What of MPI is set though MPI_VERSION is not, without which it means nothing: lines for the container's log. */
export function unusedMpi(
  variables: ReadonlyMap<string, string>,
  annotations: Readonly<Record<string, string>>,
): string[] {
  const set = [
    ...((variables.get("MPI_FLAGS") ?? "").trim() === "" ? [] : ["MPI_FLAGS"]),
    ...(Object.hasOwn(annotations, MPI_ANNOTATION) ? [`the annotation "${MPI_ANNOTATION}"`] : []),
  ];
  return set.map((what) =>
    `${what}: without MPI_VERSION the program runs once, without a launcher`
  );
}

/**
 * The words of MPI_FLAGS: white space parts them; single and double quotes keep it; outside of single quotes a
 * backslash takes the meaning from the next character. Nothing else means anything.
 * @throws CriError INVALID_ARGUMENT for a quote that is not closed.
 */
export function splitWords(text: string): string[] {
  const words: string[] = [];
  // A word, a quoted part of one, or an escaped character; a lone quote or backslash fits nothing.
  const part = /\s+|'([^']*)'|"((?:[^"\\]|\\[^])*)"|\\([^])|([^\s'"\\]+)/gy;
  let word: string | undefined;
  while (part.lastIndex < text.length) {
    const match = part.exec(text);
    if (match === null) {
      throw unusable("MPI_FLAGS", "words whose quotes are closed", text);
    }
    const [, single, double, escaped, plain] = match;
    const piece = single ?? double?.replaceAll(/\\([^])/g, "$1") ?? escaped ?? plain;
    if (piece !== undefined) {
      word = (word ?? "") + piece;
    } else if (word !== undefined) {
      words.push(word);
      word = undefined;
    }
  }
  return word === undefined ? words : [...words, word];
}

function ranksOf(flags: readonly string[]): string | undefined {
  const at = flags.findLastIndex((flag) => /^(-n|--?np|--n|--ntasks)(=|$)/.test(flag));
  const value = flags[at]?.split("=")[1] ?? flags[at + 1] ?? "";
  return at >= 0 && /^[1-9]\d{0,6}$/.test(value) ? value : undefined;
}
