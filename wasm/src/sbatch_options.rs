//! The options of sbatch (slurm_opt.c of Slurm 26.05 and 22.05): which take a value, which have a letter,
//! which input variable of sbatch sets them, and which are the job script's own business.

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Takes {
    Nothing,
    Value,
    /// A value only after "=".
    Perhaps,
}

use Takes::{Nothing, Perhaps, Value};

#[derive(Clone, Copy)]
pub struct SbatchOption {
    pub name: &'static str,
    pub letter: Option<char>,
    pub takes: Takes,
    /// Set by multicri itself, or without sense for a job that runs a container: a pod may not set it.
    pub owned: bool,
}

const fn option(name: &'static str, letter: Option<char>, takes: Takes) -> SbatchOption {
    SbatchOption { name, letter, takes, owned: false }
}

const fn owned(name: &'static str, letter: Option<char>, takes: Takes) -> SbatchOption {
    SbatchOption { name, letter, takes, owned: true }
}

const OPTIONS: &[SbatchOption] = &[
    option("account", Some('A'), Value),
    option("acctg-freq", None, Value),
    owned("array", Some('a'), Value),
    owned("autocomplete", None, Value),
    option("batch", None, Value),
    option("bb", None, Value),
    option("bbf", None, Value),
    option("begin", Some('b'), Value),
    owned("chdir", Some('D'), Value),
    owned("cluster", None, Value),
    option("cluster-constraint", None, Value),
    owned("clusters", Some('M'), Value),
    owned("comment", None, Value),
    option("consolidate-segments", None, Nothing),
    option("constraint", Some('C'), Value),
    owned("container", None, Value),
    owned("container-id", None, Value),
    option("context", None, Value),
    option("contiguous", None, Nothing),
    option("core-spec", Some('S'), Value),
    option("cores-per-socket", None, Value),
    option("cpu-freq", None, Value),
    option("cpus-per-gpu", None, Value),
    option("cpus-per-task", Some('c'), Value),
    option("deadline", None, Value),
    option("delay-boot", None, Value),
    option("dependency", Some('d'), Value),
    option("distribution", Some('m'), Value),
    owned("error", Some('e'), Value),
    option("exclude", Some('x'), Value),
    option("exclusive", None, Perhaps),
    owned("export", None, Value),
    owned("export-file", None, Value),
    owned("external", None, Nothing),
    option("extra", None, Value),
    option("extra-node-info", Some('B'), Value),
    owned("get-user-env", None, Perhaps),
    owned("gid", None, Value),
    option("gpu-bind", None, Value),
    option("gpu-freq", None, Value),
    option("gpus", Some('G'), Value),
    option("gpus-per-node", None, Value),
    option("gpus-per-socket", None, Value),
    option("gpus-per-task", None, Value),
    option("gres", None, Value),
    option("gres-flags", None, Value),
    owned("help", Some('h'), Nothing),
    option("hint", None, Value),
    option("hold", Some('H'), Nothing),
    owned("ignore-pbs", None, Nothing),
    owned("input", Some('i'), Value),
    owned("job-name", Some('J'), Value),
    option("kill-on-invalid-dep", None, Value),
    option("licenses", Some('L'), Value),
    option("mail-type", None, Value),
    option("mail-user", None, Value),
    option("mcs-label", None, Value),
    option("mem", None, Value),
    option("mem-bind", None, Value),
    option("mem-per-cpu", None, Value),
    option("mem-per-gpu", None, Value),
    option("mincpus", None, Value),
    option("network", None, Value),
    option("nice", None, Perhaps),
    option("no-kill", Some('k'), Perhaps),
    option("no-requeue", None, Nothing),
    option("nodefile", Some('F'), Value),
    option("nodelist", Some('w'), Value),
    option("nodes", Some('N'), Value),
    option("ntasks", Some('n'), Value),
    option("ntasks-per-core", None, Value),
    option("ntasks-per-gpu", None, Value),
    option("ntasks-per-node", None, Value),
    option("ntasks-per-socket", None, Value),
    option("oom-kill-step", None, Perhaps),
    owned("open-mode", None, Value),
    owned("output", Some('o'), Value),
    option("overcommit", Some('O'), Nothing),
    option("oversubscribe", Some('s'), Nothing),
    owned("parsable", None, Nothing),
    option("partition", Some('p'), Value),
    option("power", None, Value),
    option("prefer", None, Value),
    option("priority", None, Value),
    option("profile", None, Value),
    option("propagate", None, Perhaps),
    option("qos", Some('q'), Value),
    owned("quiet", Some('Q'), Nothing),
    option("reboot", None, Nothing),
    option("requeue", None, Perhaps),
    option("reservation", None, Value),
    option("segment", None, Value),
    option("signal", None, Value),
    option("sockets-per-node", None, Value),
    option("spread-job", None, Nothing),
    option("spread-segments", None, Nothing),
    option("stepmgr", None, Nothing),
    option("switches", None, Value),
    option("tasks-per-node", None, Value),
    owned("test-only", None, Nothing),
    option("thread-spec", None, Value),
    option("threads-per-core", None, Value),
    option("time", Some('t'), Value),
    option("time-min", None, Value),
    option("tmp", None, Value),
    option("tres-bind", None, Value),
    option("tres-per-task", None, Value),
    owned("uid", None, Value),
    owned("usage", None, Nothing),
    option("use-min-nodes", None, Nothing),
    owned("verbose", Some('v'), Nothing),
    owned("version", Some('V'), Nothing),
    owned("wait", Some('W'), Nothing),
    option("wait-all-nodes", None, Value),
    option("wckey", None, Value),
    owned("wrap", None, Value),
];

/// Input variables of sbatch (opt.c, `env_vars`) whose option is not simply their name without `SBATCH_`.
const RENAMED_VARIABLES: [(&str, &str); 12] = [
    ("SBATCH_ARRAY_INX", "array"),
    ("SBATCH_BURST_BUFFER", "bb"),
    ("SBATCH_CPU_FREQ_REQ", "cpu-freq"),
    ("SBATCH_DEBUG", "verbose"),
    ("SBATCH_MEM_PER_NODE", "mem"),
    ("SBATCH_REQ_SWITCH", "switches"),
    ("SBATCH_SEGMENT_SIZE", "segment"),
    ("SBATCH_THREADS_PER_CORE", "threads-per-core"),
    ("SBATCH_TIMELIMIT", "time"),
    ("SBATCH_WAIT_ALL_NODES", "wait-all-nodes"),
    // Variables that sbatch reads under the names of srun's.
    ("SLURM_HINT", "hint"),
    ("SLURM_CLUSTERS", "clusters"),
];

/// Settings that would make Slurm's commands in the job take it for another one, or ask another cluster.
pub const EXCLUDED_SETTINGS: [&str; 4] =
    ["SLURM_CONF", "SLURM_JOB_ID", "SLURM_JOBID", "SLURM_JOB_NAME"];

/// The option of this long name.
pub fn by_name(name: &str) -> Option<&'static SbatchOption> {
    OPTIONS.iter().find(|option| option.name == name)
}

/// The option of this letter.
pub fn by_letter(letter: char) -> Option<&'static SbatchOption> {
    OPTIONS.iter().find(|option| option.letter == Some(letter))
}

/// The option that getopt could take `name` for, when the whole name is not known.
pub fn abbreviated(name: &str) -> Option<&'static SbatchOption> {
    OPTIONS.iter().find(|option| option.owned && option.name.starts_with(name))
}

/// The option that a `SBATCH_…` or `SLURM_…` variable sets at submission.
pub fn by_variable(variable: &str) -> Option<&'static SbatchOption> {
    if let Some((_, name)) = RENAMED_VARIABLES.iter().find(|(known, _)| *known == variable) {
        return by_name(name);
    }
    let name = variable.strip_prefix("SBATCH_")?.to_ascii_lowercase().replace('_', "-");
    by_name(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_letters_are_unique() {
        for (index, option) in OPTIONS.iter().enumerate() {
            for other in &OPTIONS[index + 1..] {
                assert_ne!(option.name, other.name);
                assert!(
                    option.letter.is_none() || option.letter != other.letter,
                    "{}",
                    option.name
                );
            }
        }
    }

    #[test]
    fn renamed_variables_lead_to_options() {
        for (variable, _) in RENAMED_VARIABLES {
            assert!(by_variable(variable).is_some(), "{}", variable);
        }
        for (variable, name) in
            [("SBATCH_PARTITION", "partition"), ("SBATCH_GPUS_PER_NODE", "gpus-per-node")]
        {
            assert_eq!(by_variable(variable).map(|option| option.name), Some(name));
        }
        assert!(by_variable("SBATCH_NO_SUCH").is_none());
        assert!(by_variable("SLURM_CPU_BIND").is_none());
    }
}
