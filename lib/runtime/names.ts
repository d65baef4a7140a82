/** Kubernetes' names have 253 characters at most; other clients' may be longer, but must fit a variable of a plugin. */
const MAX_NAME_CHARACTERS = 1024;

/**
 * Why a text cannot be the name of a pod or a container, as the end of a sentence; undefined for one that can. Names
 * become lines of logs, of job scripts and of Slurm's lists, and none in Kubernetes has more than one.
 */
export function whyNoName(name: string): string | undefined {
  if (/\p{Cc}/u.test(name)) return "it must be one line without control characters";
  if (name.length <= MAX_NAME_CHARACTERS) return undefined;
  return `it must have ${MAX_NAME_CHARACTERS} characters at most`;
}
