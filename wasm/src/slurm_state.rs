//! Slurm's job states: what each means for a container.
//!
//! Source: `enum job_states` and the state flags of slurm.h, named as squeue, scontrol and sacct print them.
//! A state says how a job ended only where the job's own status file does not: the program's exit code is
//! in that file. An end that is not the program's own gets an exit code of its own, because a pod's
//! podFailurePolicy sees nothing but exit codes.

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Phase {
    Pending,
    Running,
    Ended,
}

impl Phase {
    pub fn name(self) -> &'static str {
        match self {
            Phase::Pending => "pending",
            Phase::Running => "running",
            Phase::Ended => "ended",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct End {
    pub succeeded: bool,
    /// The exit code of an end that is not the program's own; `None`: the job's exit code counts.
    pub exit_code: Option<u32>,
    pub reason: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct State {
    /// The long name, as Slurm prints it.
    pub name: &'static str,
    pub phase: Phase,
    pub end: Option<End>,
}

// Exit codes of ends that are not the program's own. They lie above 128 + 64, the highest code a signal
// gives, so that no signal is mistaken for one; out of memory is the 137 that Kubernetes users know.
const OUT_OF_MEMORY: u32 = 137;
const CANCELLED: u32 = 221;
const TIMEOUT: u32 = 222;
const DEADLINE: u32 = 223;
const NODE_FAIL: u32 = 224;
const PREEMPTED: u32 = 225;
const BOOT_FAIL: u32 = 226;

const fn pending(name: &'static str) -> State {
    State { name, phase: Phase::Pending, end: None }
}

const fn running(name: &'static str) -> State {
    State { name, phase: Phase::Running, end: None }
}

const fn ended(
    name: &'static str,
    succeeded: bool,
    exit_code: Option<u32>,
    reason: &'static str,
) -> State {
    State { name, phase: Phase::Ended, end: Some(End { succeeded, exit_code, reason }) }
}

/// The base states by their short names.
const BASES: [(&str, State); 12] = [
    ("PD", pending("PENDING")),
    ("R", running("RUNNING")),
    ("S", running("SUSPENDED")),
    ("CD", ended("COMPLETED", true, None, "Completed")),
    ("CA", ended("CANCELLED", false, Some(CANCELLED), "Cancelled")),
    ("F", ended("FAILED", false, None, "Error")),
    ("TO", ended("TIMEOUT", false, Some(TIMEOUT), "DeadlineExceeded")),
    ("NF", ended("NODE_FAIL", false, Some(NODE_FAIL), "NodeFail")),
    ("PR", ended("PREEMPTED", false, Some(PREEMPTED), "Preempted")),
    ("BF", ended("BOOT_FAIL", false, Some(BOOT_FAIL), "BootFail")),
    ("DL", ended("DEADLINE", false, Some(DEADLINE), "DeadlineExceeded")),
    ("OOM", ended("OUT_OF_MEMORY", false, Some(OUT_OF_MEMORY), "OOMKilled")),
];

/// The flags that win over the base state beside them, the one that decides first: a job that is COMPLETING
/// has ended as far as its base state goes, but its processes may still live. Some have no short name.
const FLAGS: [(&str, State); 14] = [
    ("RQ", pending("REQUEUED")),
    ("RF", pending("REQUEUE_FED")),
    ("RH", pending("REQUEUE_HOLD")),
    ("SE", pending("SPECIAL_EXIT")),
    ("RD", pending("RESV_DEL_HOLD")),
    ("", pending("EXPEDITING")),
    ("CF", pending("CONFIGURING")),
    ("", pending("POWER_UP_NODE")),
    // The job runs on another cluster of the federation: it is not dead.
    ("RV", running("REVOKED")),
    ("CG", running("COMPLETING")),
    ("SO", running("STAGE_OUT")),
    ("SI", running("SIGNALING")),
    ("ST", running("STOPPED")),
    ("RS", running("RESIZING")),
];

/// The flags that only say why; alone they stand for a job that is held for another try.
const REMARKS: [(&str, State); 2] =
    [("", pending("LAUNCH_FAILED")), ("", pending("RECONFIG_FAIL"))];

/// What a state means; `None` for one that no known Slurm has, which must be taken as still running.
///
/// Accepts long and short names in any case, several joined by "," or "+" (scontrol, JSON), and what sacct
/// adds: `CANCELLED by 1000`, and "+" where it cut a column short.
pub fn parse(text: &str) -> Option<State> {
    let word = text.split_whitespace().next()?.to_ascii_uppercase();
    let names: Vec<&str> = word.split([',', '+']).filter(|name| !name.is_empty()).collect();
    let tables: [&[(&str, State)]; 3] = [&FLAGS, &BASES, &REMARKS];
    let is = |name: &str, (short, state): &(&str, State)| name == state.name || name == *short;
    let known = |name: &&str| tables.iter().any(|table| table.iter().any(|entry| is(name, entry)));
    if !names.iter().all(known) {
        return None;
    }
    let entries = tables.iter().flat_map(|table| table.iter());
    let found = entries
        .filter(|entry| names.iter().any(|name| is(name, entry)))
        .map(|entry| entry.1)
        .next();
    found
}

/// What sacct prints as the signal of a job that was out of memory (SIG_OOM of slurm.h).
const SIGNAL_OUT_OF_MEMORY: u32 = 125;
const MAX_EXIT_CODE: u32 = 255;
const MAX_SIGNAL: u32 = 127;

/// Slurm's exit code `code:signal`, and the one number a shell would make of it: 128 + signal.
pub fn parse_exit_code(text: &str) -> Option<(u32, u32, u32)> {
    let (code, signal) = text.trim().split_once(':')?;
    // `parse` alone would take a sign as well.
    let digits = |part: &str| {
        let plain = part.bytes().all(|byte| byte.is_ascii_digit());
        part.parse::<u32>().ok().filter(|_| plain)
    };
    let code = digits(code).filter(|code| *code <= MAX_EXIT_CODE)?;
    let signal = digits(signal).filter(|signal| *signal <= MAX_SIGNAL)?;
    let exit_code = match signal {
        0 => code,
        SIGNAL_OUT_OF_MEMORY => OUT_OF_MEMORY,
        _ => 128 + signal,
    };
    Some((code, signal, exit_code))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(text: &str) -> (&'static str, &'static str, Option<u32>, &'static str) {
        let state = parse(text).unwrap_or_else(|| panic!("{} is unknown", text));
        let (exit_code, reason) = state.end.map_or((None, ""), |end| (end.exit_code, end.reason));
        (state.name, state.phase.name(), exit_code, reason)
    }

    #[test]
    fn every_state_is_told_by_its_long_and_its_short_name() {
        for (long, short, phase, exit_code, reason) in [
            ("PENDING", "PD", "pending", None, ""),
            ("RUNNING", "R", "running", None, ""),
            ("SUSPENDED", "S", "running", None, ""),
            ("COMPLETED", "CD", "ended", None, "Completed"),
            ("CANCELLED", "CA", "ended", Some(221), "Cancelled"),
            ("FAILED", "F", "ended", None, "Error"),
            ("TIMEOUT", "TO", "ended", Some(222), "DeadlineExceeded"),
            ("DEADLINE", "DL", "ended", Some(223), "DeadlineExceeded"),
            ("NODE_FAIL", "NF", "ended", Some(224), "NodeFail"),
            ("PREEMPTED", "PR", "ended", Some(225), "Preempted"),
            ("BOOT_FAIL", "BF", "ended", Some(226), "BootFail"),
            ("OUT_OF_MEMORY", "OOM", "ended", Some(137), "OOMKilled"),
            ("COMPLETING", "CG", "running", None, ""),
            ("CONFIGURING", "CF", "pending", None, ""),
            ("REQUEUED", "RQ", "pending", None, ""),
            ("REQUEUE_FED", "RF", "pending", None, ""),
            ("REQUEUE_HOLD", "RH", "pending", None, ""),
            ("RESIZING", "RS", "running", None, ""),
            ("RESV_DEL_HOLD", "RD", "pending", None, ""),
            ("REVOKED", "RV", "running", None, ""),
            ("SIGNALING", "SI", "running", None, ""),
            ("SPECIAL_EXIT", "SE", "pending", None, ""),
            ("STAGE_OUT", "SO", "running", None, ""),
            ("STOPPED", "ST", "running", None, ""),
            ("EXPEDITING", "EXPEDITING", "pending", None, ""),
            ("POWER_UP_NODE", "POWER_UP_NODE", "pending", None, ""),
            ("LAUNCH_FAILED", "LAUNCH_FAILED", "pending", None, ""),
            ("RECONFIG_FAIL", "RECONFIG_FAIL", "pending", None, ""),
        ] {
            for text in [long.to_string(), short.to_string(), long.to_lowercase()] {
                assert_eq!(outcome(&text), (long, phase, exit_code, reason), "{}", text);
            }
        }
    }

    #[test]
    fn states_as_the_tools_print_them() {
        for (text, name) in [
            ("CANCELLED by 1000", "CANCELLED"),
            ("CANCELLED+", "CANCELLED"),
            ("  RUNNING\n", "RUNNING"),
            ("RUNNING,COMPLETING", "COMPLETING"),
            ("CANCELLED+COMPLETING", "COMPLETING"),
            ("PENDING,REQUEUED", "REQUEUED"),
            ("RUNNING,COMPLETING,REQUEUE_HOLD", "REQUEUE_HOLD"),
            ("RUNNING,CONFIGURING,POWER_UP_NODE", "CONFIGURING"),
            ("FAILED,LAUNCH_FAILED", "FAILED"),
        ] {
            assert_eq!(outcome(text).0, name, "{}", text);
        }
    }

    #[test]
    fn an_unknown_state_is_not_guessed() {
        for text in ["", " ", "?", "+", "DEAD", "RUNNING,ODD", "RUNNINGX"] {
            assert_eq!(parse(text), None, "{}", text);
        }
    }

    #[test]
    fn exit_codes() {
        for (text, expected) in [
            ("0:0", Some((0, 0, 0))),
            ("7:0", Some((7, 0, 7))),
            ("0:15", Some((0, 15, 143))),
            ("0:11", Some((0, 11, 139))),
            ("143:0", Some((143, 0, 143))),
            ("0:125", Some((0, 125, 137))),
            (" 1:0\n", Some((1, 0, 1))),
            ("1:9", Some((1, 9, 137))),
            ("7", None),
            ("", None),
            (":", None),
            ("-1:0", None),
            ("+1:0", None),
            ("256:0", None),
            ("1:0:0", None),
            ("99999999999:0", None),
        ] {
            assert_eq!(parse_exit_code(text), expected, "{}", text);
        }
    }
}
