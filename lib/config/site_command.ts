/** An administrator's command about what a cluster offers. */
export interface SiteCommand {
  /** Names of clusters as `--clusters-file` has them; all when it is empty. */
  clusters: readonly string[];
}

/** What `multicri site` takes. */
export const SITE_USAGE =
  `multicri site check [CLUSTER…] [flags]       what a cluster offers, and what will not work there`;

/** Variables that say how the job which looks at a node is asked for, as a pod has them. */
export const SITE_VARIABLES = ["CLUSTER_CONFIG", "JOB_QUEUE", "JOB_CUSTOM_CONFIG"] as const;

/**
 * Parses the words after `site`, up to the first flag.
 * @throws RangeError with a sentence about what is wrong.
 */
export function parseSiteCommand(words: readonly string[]): SiteCommand {
  const [verb, ...clusters] = words;
  if (verb === "check") return { clusters };
  const why = verb === undefined
    ? "it must be told what to do"
    : `${JSON.stringify(verb)} is unknown`;
  throw new RangeError(`Cannot run 'multicri site': ${why}. It is\n${SITE_USAGE}`);
}
