//! The environment of a container, as the file `env` that the job script sources.
//!
//! Apptainer passes a variable on exactly when it stands in its own environment as `APPTAINERENV_NAME` and
//! `--no-eval` is given. So a variable of a pod only ever reaches Apptainer under that prefix, whatever its
//! name is: no `APPTAINER_BIND` of a pod can change what Apptainer does.
//!
//! Some names cannot take that way: those that are no shell identifiers (Kubernetes allows `a.b` and more),
//! and those with a meaning of their own for Apptainer or for the script that it runs in the container before
//! the program. So it is with values that hold "\r\n", which that script reads as "\n". They become words of the
//! program `env` in front of the pod's program, in the container.
//! `LD_LIBRARY_PATH` stays with Apptainer, though it appends `:/.singularity.d/libs` to it: the libraries
//! of `--nv` lie there.

use std::collections::BTreeMap;

use crate::limits::{check_total, MAX_EXEC_STRING_BYTES};
use crate::quote::posix;
use crate::refusal::{shown, Refusal};

pub struct Variable<'a> {
    pub name: &'a str,
    pub value: &'a str,
}

pub struct Rendered<'a> {
    pub file: String,
    /// The names that need the program `env` in the image.
    pub via_argv: Vec<&'a str>,
}

const PREFIX: &str = "APPTAINERENV_";
/// Names that Apptainer or SingularityCE (process_linux.go, action_script.sh, env/create.go of theirs) treat
/// in a way of their own, or that its script in the container uses for itself.
const SPECIAL_NAMES: [&str; 11] = [
    "HOME",
    "PREPEND_PATH",
    "APPEND_PATH",
    "PREPEND_LD_LIBRARY_PATH",
    "APPEND_LD_LIBRARY_PATH",
    "PROMPT_COMMAND",
    "UID",
    "EUID",
    "GID",
    "e",
    "key",
];
const SPECIAL_PREFIXES: [&str; 4] = ["APPTAINER", "SINGULARITY", "SING_USER_DEFINED_", "__"];
/// Names that are unset or set anew in the container when their value is empty.
const SPECIAL_WHEN_EMPTY: [&str; 14] = [
    "PATH",
    "PS1",
    "LANG",
    "TERM",
    "http_proxy",
    "HTTP_PROXY",
    "https_proxy",
    "HTTPS_PROXY",
    "no_proxy",
    "NO_PROXY",
    "all_proxy",
    "ALL_PROXY",
    "ftp_proxy",
    "FTP_PROXY",
];

fn is_identifier(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && name.bytes().next().map_or(false, |first| !first.is_ascii_digit())
}

fn needs_argv(variable: &Variable) -> bool {
    !is_identifier(variable.name)
        || SPECIAL_NAMES.contains(&variable.name)
        || SPECIAL_PREFIXES.iter().any(|prefix| variable.name.starts_with(prefix))
        || variable.value.contains("\r\n")
        || (variable.value.is_empty() && SPECIAL_WHEN_EMPTY.contains(&variable.name))
}

/// The `env` file for these variables; of several with one name the last counts.
pub fn render<'a>(variables: &[Variable<'a>]) -> Result<Rendered<'a>, Refusal> {
    let last: BTreeMap<&str, usize> =
        variables.iter().enumerate().map(|(index, variable)| (variable.name, index)).collect();
    let mut exports = String::new();
    let mut words = Vec::new();
    let mut via_argv = Vec::new();
    for (index, variable) in variables.iter().enumerate() {
        check(variable)?;
        if last[variable.name] != index {
            continue;
        }
        if needs_argv(variable) {
            words.push(posix(&format!("{}={}", variable.name, variable.value))?);
            via_argv.push(variable.name);
        } else {
            exports.push_str(&format!(
                "export {}{}={}\n",
                PREFIX,
                variable.name,
                posix(variable.value)?
            ));
        }
    }
    check_total(
        "Cannot pass the environment variables",
        last.values().flat_map(|index| [variables[*index].name, variables[*index].value]),
    )?;
    let file = format!("{}multicri_argv_environment=({})\n", exports, words.join(" "));
    Ok(Rendered { file, via_argv })
}

fn check(variable: &Variable) -> Result<(), Refusal> {
    let refuse = |why: String| {
        Err(Refusal::new(format!("Cannot pass variable {}: {}.", shown(variable.name), why)))
    };
    if variable.name.is_empty() {
        return refuse("its name is empty".into());
    }
    if variable.name.contains('=') || variable.name.contains('\0') {
        return refuse("no name of a variable can hold \"=\" or NUL".into());
    }
    if let Some(index) = variable.value.find('\0') {
        return refuse(format!(
            "byte {} of its value is NUL, which no variable can hold",
            index + 1
        ));
    }
    let bytes = PREFIX.len() + variable.name.len() + variable.value.len() + "=\0".len();
    if bytes > MAX_EXEC_STRING_BYTES {
        return refuse(format!(
            "name and value have {} bytes with what is added, at most {} fit into one string that Linux \
             hands to a program; put the value into a volume",
            bytes, MAX_EXEC_STRING_BYTES
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(variables: &[(&'static str, &'static str)]) -> (String, Vec<&'static str>) {
        let variables: Vec<Variable> =
            variables.iter().map(|(name, value)| Variable { name, value }).collect();
        let rendered = render(&variables).unwrap();
        (rendered.file, rendered.via_argv)
    }

    #[test]
    fn variables_reach_apptainer_only_under_its_prefix() {
        assert_eq!(
            rendered(&[("A", "it's"), ("LD_LIBRARY_PATH", "/x"), ("PATH", "/bin")]).0,
            "export APPTAINERENV_A='it'\\''s'\nexport APPTAINERENV_LD_LIBRARY_PATH='/x'\n\
             export APPTAINERENV_PATH='/bin'\nmulticri_argv_environment=()\n"
        );
    }

    #[test]
    fn what_apptainer_would_change_goes_by_the_command_line() {
        let odd = [
            ("a.b", "1"),
            ("1A", "1"),
            ("-n", "1"),
            ("A B", "1"),
            ("é", "1"),
            ("HOME", "/x"),
            ("APPTAINER_BIND", "/x"),
            ("SINGULARITYENV_A", "1"),
            ("SING_USER_DEFINED_PATH", "/x"),
            ("__script__", "1"),
            ("e", "1"),
            ("key", "1"),
            ("PS1", ""),
            ("PATH", ""),
            ("CRLF", "a\r\nb"),
        ];
        let (file, via_argv) = rendered(&odd);
        assert_eq!(via_argv, odd.iter().map(|(name, _)| *name).collect::<Vec<_>>());
        assert!(!file.contains("export"), "{}", file);
        assert!(file.ends_with("'CRLF=a\r\nb')\n"), "{}", file);
    }

    #[test]
    fn the_last_of_several_counts() {
        let (file, _) = rendered(&[("A", "1"), ("B", "2"), ("A", "3")]);
        assert_eq!(
            file,
            "export APPTAINERENV_B='2'\nexport APPTAINERENV_A='3'\nmulticri_argv_environment=()\n"
        );
    }

    #[test]
    fn what_no_variable_can_hold_is_refused_without_its_value() {
        let longest = "x".repeat(MAX_EXEC_STRING_BYTES - PREFIX.len() - "A=\0".len());
        assert!(render(&[Variable { name: "A", value: &longest }]).is_ok());
        let longer = longest + "x";
        for (name, value, why) in [
            ("", "secret", "empty"),
            ("a=b", "secret", "\"=\""),
            ("a\0b", "secret", "NUL"),
            ("A", "secret\0", "byte 7"),
            ("A", longer.as_str(), "131073 bytes"),
        ] {
            let message = render(&[Variable { name, value }]).err().unwrap().0;
            assert!(message.contains(why) && !message.contains("secret"), "{}", message);
        }
        let large = "<".repeat(100_000);
        let two = [Variable { name: "A", value: &large }, Variable { name: "B", value: &large }];
        assert!(render(&two[..1]).is_ok());
        assert!(render(&two).err().unwrap().0.contains("at most 983040 fit"));
    }
}
