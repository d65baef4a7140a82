//! The job script: the options for sbatch, the container's own values, and then text that never changes.
//!
//! Whatever a pod can write stands in the first two parts only, quoted, each value on one line. What the
//! script does with them is told in `job_body.sh`.

use crate::custom_config::refused_option;
use crate::limits::{check_total, MAX_EXEC_STRING_BYTES};
use crate::quote::{bash_line, sbatch_line};
use crate::refusal::{shown, Refusal};

pub struct Job<'a> {
    pub name: &'a str,
    pub comment: &'a str,
    pub directory: &'a str,
    pub options: Vec<(&'a str, Option<&'a str>)>,
    pub environment: Vec<(&'a str, &'a str)>,
    pub has_prerun: bool,
    /// How often the job tells what it uses; 0: never.
    pub usage_seconds: u32,
    pub runtime_arguments: Vec<&'a str>,
    pub image: &'a str,
    pub program: Vec<&'a str>,
    /// What starts the ranks of an MPI job, and its arguments; empty: the program runs once.
    pub launcher: Vec<&'a str>,
    /// The module that has the launcher; empty: none is loaded.
    pub module: &'a str,
}

const BODY: &str = concat!(
    include_str!("job_usage.sh"),
    include_str!("job_ranks.sh"),
    include_str!("job_scratch.sh"),
    include_str!("job_body.sh")
);

/// The script for this job.
pub fn render(job: &Job) -> Result<String, Refusal> {
    check(job)?;
    let mut script = String::from("#!/bin/bash\n");
    // The batch shell's own words; "%" begins a replacement in sbatch's file names.
    let log = format!("{}/slurm.log", job.directory).replace('%', "%%");
    let own = [
        ("job-name", Some(job.name)),
        ("comment", Some(job.comment)),
        ("output", Some(log.as_str())),
        ("open-mode", Some("append")),
    ];
    for (name, value) in own.iter().chain(&job.options) {
        script.push_str("#SBATCH --");
        script.push_str(name);
        if let Some(value) = value {
            script.push('=');
            script.push_str(&sbatch_line(value, &format!("the value of --{}", name))?);
        }
        script.push('\n');
    }
    // sbatch reads options up to the first command.
    script.push_str("umask 077\n");
    script.push_str(&format!("multicri_directory={}\n", bash_line(job.directory)?));
    script.push_str(&format!("multicri_image={}\n", bash_line(job.image)?));
    script.push_str(&format!("multicri_prerun={}\n", if job.has_prerun { "yes" } else { "no" }));
    script.push_str(&format!("multicri_usage_seconds={}\n", job.usage_seconds));
    script.push_str(&array("multicri_runtime_arguments", &job.runtime_arguments)?);
    script.push_str(&array("multicri_program", &job.program)?);
    script.push_str(&array("multicri_launcher", &job.launcher)?);
    script.push_str(&format!("multicri_module={}\n", bash_line(job.module)?));
    // Before the settings below, which may bear any other name of Slurm's.
    script.push_str("multicri_job=${SLURM_JOB_ID:-none}\n");
    for (name, value) in &job.environment {
        script.push_str(&format!("export {}={}\n", name, bash_line(value)?));
    }
    script.push_str(BODY);
    Ok(script)
}

fn array(name: &str, words: &[&str]) -> Result<String, Refusal> {
    let quoted = words.iter().map(|word| bash_line(word)).collect::<Result<Vec<_>, _>>()?;
    Ok(format!("{}=({})\n", name, quoted.join(" ")))
}

fn check(job: &Job) -> Result<(), Refusal> {
    let refuse = |why: String| Err(Refusal::new(format!("Cannot write the job script: {}.", why)));
    for (what, path) in [("directory", job.directory), ("image", job.image)] {
        if !path.starts_with('/') {
            return refuse(format!("the path of the {} must be absolute: {}", what, shown(path)));
        }
    }
    if job.program.is_empty() {
        return refuse(
            "the container has no program: give it a command, or an image with an entry point"
                .into(),
        );
    }
    let words = || job.program.iter().chain(&job.runtime_arguments).chain(&job.launcher).copied();
    for (index, word) in words().enumerate() {
        if word.len() >= MAX_EXEC_STRING_BYTES {
            return refuse(format!(
                "word {} of the command and its arguments has {} bytes, at most {} fit into one string that \
                 Linux hands to a program; put it into a volume",
                index + 1,
                word.len(),
                MAX_EXEC_STRING_BYTES - 1
            ));
        }
    }
    check_total("Cannot write the words of the command and its arguments", words())?;
    for (name, _) in &job.options {
        if name.is_empty()
            || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        {
            return refuse(format!("{} is no name of an option of sbatch", shown(name)));
        }
        if let Some(why) = refused_option(name) {
            return refuse(why);
        }
    }
    for (name, _) in &job.environment {
        let is_slurm = name.starts_with("SLURM_") || name.starts_with("SBATCH_");
        if !is_slurm || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            return refuse(format!("{} is no name of a SLURM_ or SBATCH_ setting", shown(name)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minimal() -> Job<'static> {
        Job {
            name: "multicri-1",
            comment: "multicri",
            directory: "/home/user/multi-cri/sandbox/container",
            options: vec![],
            environment: vec![],
            has_prerun: false,
            usage_seconds: 0,
            runtime_arguments: vec!["--no-eval", "--containall"],
            image: "/home/user/multi-cri/images/perl.sif",
            program: vec!["perl", "-v"],
            launcher: vec![],
            module: "",
        }
    }

    /// Text of every kind a pod may try, as `script_test.ts` has it.
    fn hostile() -> Job<'static> {
        Job {
            name: "it's \"a\" \\ $(job) #name",
            comment: "100 % `id`",
            directory: "/home/u'ser/%j $(id)/x",
            options: vec![
                ("partition", Some("a b")),
                ("hold", None),
                ("gres", Some("gpu:\"k\\80\":2")),
            ],
            environment: vec![("SLURM_HINT_X", "'; id #")],
            has_prerun: true,
            usage_seconds: 10,
            runtime_arguments: vec!["--no-eval", "--bind", "/a b:/c'd"],
            image: "/images/`id`.sif",
            program: vec![
                "sh",
                "-c",
                "echo \"$1\"\n#PBS -l x\r\n#SBATCH --uid=0",
                "'\\''",
                "",
                "é\u{7f}",
            ],
            launcher: vec!["mpirun", "-x", "A=$(id) 'b'\n"],
            module: "a; id",
        }
    }

    #[test]
    fn scripts_are_the_golden_ones() {
        for (job, golden) in [
            (minimal(), include_str!("../testdata/job_minimal.sh")),
            (hostile(), include_str!("../testdata/job_hostile.sh")),
        ] {
            let script = render(&job).unwrap();
            assert!(script == golden, "differs from the golden script:\n{}", script);
        }
    }

    #[test]
    fn text_of_a_pod_begins_no_line() {
        let script = render(&hostile()).unwrap();
        let head = script.strip_suffix(BODY).unwrap();
        for line in head.lines() {
            let known = ["#!", "#SBATCH --", "umask 077", "multicri_", "export SLURM_"];
            assert!(known.iter().any(|start| line.starts_with(start)), "{}", line);
        }
        assert!(!script.contains('\r') && !script.contains('\0'));
    }

    #[test]
    fn what_cannot_be_written_is_refused() {
        let cases: [(fn(&mut Job<'static>), &str); 10] = [
            (|job| job.program = vec![], "no program"),
            (|job| job.program = vec!["a\0"], "NUL"),
            (|job| job.image = "perl.sif", "must be absolute"),
            (|job| job.directory = "", "must be absolute"),
            (|job| job.comment = "a\nb", "U+000A"),
            (|job| job.options = vec![("time", Some("1\n#SBATCH --uid=0"))], "U+000A"),
            (|job| job.options = vec![("time 1", None)], "no name of an option"),
            (|job| job.options = vec![("output", Some("/x"))], "multicri sets"),
            (|job| job.options = vec![("outp", Some("/x"))], "abbreviates"),
            (|job| job.environment = vec![("PATH", "/x")], "no name of a SLURM_"),
        ];
        for (change, why) in cases {
            let mut job = minimal();
            change(&mut job);
            let message = render(&job).err().unwrap().0;
            assert!(message.contains(why), "{}", message);
        }
        let long = "x".repeat(MAX_EXEC_STRING_BYTES);
        for (word, fits) in [(&long[1..], true), (&long[..], false)] {
            let mut job = minimal();
            job.program = vec!["echo", word];
            assert_eq!(render(&job).is_ok(), fits);
        }
    }
}
