/** Where ip(8) keeps namespaces by name; CNI daemons that run in containers mount this very directory. */
export const NETNS_DIRECTORY = "/run/netns";

/** Where libcni, which most other runtimes use, keeps what they have attached (libcni/api.go). */
export const LIBCNI_RESULTS_DIRECTORY = "/var/lib/cni/results";

/**
 * The programs that pod networks need. Plugins are run by flock(1), not by names of their own: they may be installed
 * while the server runs, and Deno can permit programs by name alone, not those of a directory. What makes and removes
 * namespaces runs below it too. perl(1) counts what goes through them.
 */
export const NETWORK_PROGRAMS = ["flock", "perl"] as const;
