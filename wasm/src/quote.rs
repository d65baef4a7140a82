//! Quoting: a word for a POSIX shell, for a line of a bash script, and for an `#SBATCH` line.

use crate::refusal::{shown, Refusal};

/// `word` for any POSIX shell: in single quotes nothing has a meaning but the single quote itself.
pub fn posix(word: &str) -> Result<String, Refusal> {
    refuse_nul(word, "word")?;
    let mut quoted = String::with_capacity(word.len() + 2);
    quoted.push('\'');
    for piece in word.split_inclusive('\'') {
        match piece.strip_suffix('\'') {
            Some(plain) => {
                quoted.push_str(plain);
                quoted.push_str("'\\''");
            }
            None => quoted.push_str(piece),
        }
    }
    quoted.push('\'');
    Ok(quoted)
}

/// `word` for bash, on one line whatever it holds.
///
/// A job script may not hold "\r\n" (sbatch refuses it), and no line of it may begin with text of a pod:
/// sbatch looks for `#PBS` and `#BSUB` at the start of every line, the body's too. So a word with a control
/// character is written in bash's `$'…'` form.
pub fn bash_line(word: &str) -> Result<String, Refusal> {
    if !word.chars().any(|character| character.is_ascii_control()) {
        return posix(word);
    }
    refuse_nul(word, "word")?;
    let mut quoted = String::with_capacity(word.len() + 16);
    quoted.push_str("$'");
    for character in word.chars() {
        match character {
            '\'' | '\\' => {
                quoted.push('\\');
                quoted.push(character);
            }
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            // Three digits always, so that a digit that follows is not taken for a fourth.
            _ if character.is_ascii_control() => {
                quoted.push_str(&format!("\\{:03o}", character as u32))
            }
            _ => quoted.push(character),
        }
    }
    quoted.push('\'');
    Ok(quoted)
}

/// `value` as part of an `#SBATCH` line, as sbatch's own reader of those lines undoes it: inside double
/// quotes only `"` and `\` have a meaning, and a backslash takes it from them. A line's end cannot be
/// written at all.
pub fn sbatch_line(value: &str, what: &str) -> Result<String, Refusal> {
    if let Some(control) = value.chars().find(|character| character.is_control()) {
        return Err(Refusal::new(format!(
            "Cannot write {} {} on an #SBATCH line: it holds the control character U+{:04X}; remove it.",
            what,
            shown(value),
            control as u32
        )));
    }
    Ok(format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"")))
}

fn refuse_nul(word: &str, what: &str) -> Result<(), Refusal> {
    match word.find('\0') {
        Some(index) => Err(Refusal::new(format!(
            "Cannot quote a {} for a shell: byte {} is NUL, which no argument of a program can hold.",
            what,
            index + 1
        ))),
        None => Ok(()),
    }
}

/// The seed's way to run two commands in one container: a word of `command` or `args` that is exactly `&&`
/// or `||` joins what stands before and behind it, as in `["sleep", "60", "&&", "ls", "/"]`. Only these two
/// words have a meaning; every other one is quoted, so nothing else in them can be evaluated. Without such a
/// word, or with `join` off, the words are returned as they are.
pub fn join_command(words: &[&str], join: bool) -> Result<Vec<String>, Refusal> {
    let is_token = |word: &str| word == "&&" || word == "||";
    if !join || !words.iter().any(|word| is_token(word)) {
        return Ok(words.iter().map(|word| word.to_string()).collect());
    }
    let mut script = String::new();
    let mut expects_command = true;
    for (index, word) in words.iter().enumerate() {
        if index > 0 {
            script.push(' ');
        }
        if is_token(word) {
            if expects_command {
                return Err(stray_token(word, index, "before"));
            }
            script.push_str(word);
        } else {
            script.push_str(&posix(word)?);
        }
        expects_command = is_token(word);
    }
    if expects_command {
        let last = words.len() - 1;
        return Err(stray_token(words[last], last, "behind"));
    }
    Ok(vec!["/bin/sh".into(), "-c".into(), script])
}

fn stray_token(token: &str, index: usize, side: &str) -> Refusal {
    Refusal::new(format!(
        "Cannot join commands: word {} of the container's command and args is {} and must have a command {} it; \
         add one, or switch the joining of commands off to pass {} as a plain word.",
        index + 1,
        shown(token),
        side,
        shown(token)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn posix_words() {
        for (word, quoted) in [
            ("", "''"),
            ("plain", "'plain'"),
            ("it's", "'it'\\''s'"),
            ("'", "''\\'''"),
            ("$(id) `id` \\ \"\n", "'$(id) `id` \\ \"\n'"),
        ] {
            assert_eq!(posix(word).unwrap(), quoted);
        }
        assert!(posix("a\0b").unwrap_err().0.contains("byte 2 is NUL"));
    }

    #[test]
    fn bash_words_stay_on_one_line() {
        for (word, quoted) in [
            ("a b", "'a b'"),
            ("a\n#PBS -x", "$'a\\n#PBS -x'"),
            ("\r\n'\\", "$'\\r\\n\\'\\\\'"),
            ("\u{1}7\u{7f}", "$'\\0017\\177'"),
            ("é\t", "$'é\\t'"),
        ] {
            assert_eq!(bash_line(word).unwrap(), quoted);
        }
        assert!(bash_line("\n\0").is_err());
    }

    #[test]
    fn sbatch_values() {
        assert_eq!(sbatch_line("a \"b\" \\c #d", "option").unwrap(), "\"a \\\"b\\\" \\\\c #d\"");
        assert!(sbatch_line("a\nb", "comment").unwrap_err().0.contains("U+000A"));
    }

    #[test]
    fn commands_are_joined_only_by_standalone_tokens() {
        let seed = ["sleep", "60", "&&", "ls", "/"];
        assert_eq!(
            join_command(&seed, true).unwrap(),
            ["/bin/sh", "-c", "'sleep' '60' && 'ls' '/'"]
        );
        assert_eq!(join_command(&seed, false).unwrap(), seed);
        let plain = ["sh", "-c", "a && b", "&&x"];
        assert_eq!(join_command(&plain, true).unwrap(), plain);
        let hostile = ["echo", "'; id; '", "||", "$(id)"];
        assert_eq!(
            join_command(&hostile, true).unwrap()[2],
            "'echo' ''\\''; id; '\\''' || '$(id)'"
        );
        for (words, place) in [
            (&["&&", "ls"][..], "word 1 "),
            (&["ls", "&&"], "word 2 "),
            (&["ls", "&&", "||", "ls"], "word 3 "),
        ] {
            assert!(join_command(words, true).unwrap_err().0.contains(place), "{:?}", words);
        }
    }
}
