//! The seed's `JOB_CUSTOM_CONFIG`: Slurm settings as text.
//!
//! Statements stand on lines of their own or between ";". A statement is `#SBATCH` and options, options
//! alone (`--time=10`, `-p debug`), or settings (`SBATCH_TIMELIMIT=10`, `SLURM_CPU_BIND=none`, with or
//! without `export`). Words are told apart as sbatch does on its `#SBATCH` lines: spaces end a word, single
//! and double quotes keep it together, a backslash makes the next character plain, `#` begins a comment.
//!
//! What cannot be used is ignored with a reason, alone: the rest of the text goes on to count. A `SBATCH_…`
//! setting counts as the option it stands for, because sbatch reads it before the job exists. Options
//! unknown here are passed on, since sites add their own (SPANK plugins).

use crate::refusal::shown;
use crate::sbatch_options::{
    abbreviated, by_letter, by_name, by_variable, SbatchOption, Takes, EXCLUDED_SETTINGS,
};

#[derive(Debug, Default, PartialEq)]
pub struct CustomConfig {
    pub options: Vec<(String, Option<String>)>,
    pub environment: Vec<(String, String)>,
    pub ignored: Vec<Ignored>,
}

#[derive(Debug, PartialEq)]
pub struct Ignored {
    /// From 1.
    pub line: usize,
    pub text: String,
    pub why: String,
}

const DIRECTIVE: &str = "#SBATCH";

/// Reads the whole text.
pub fn parse(text: &str) -> CustomConfig {
    let mut config = CustomConfig::default();
    for (index, line) in text.lines().enumerate() {
        let mut rest = line.trim();
        while !rest.is_empty() {
            let is_directive = rest.starts_with(DIRECTIVE);
            let body = if is_directive { &rest[DIRECTIVE.len()..] } else { rest };
            let (words, length) = split_words(body);
            let end = rest.len() - body.len() + length;
            let mut statement =
                Statement { config: &mut config, line: index + 1, text: rest[..end].trim() };
            match words {
                Ok(words) => statement.read(&words, is_directive),
                Err(why) => statement.ignore(statement.text, why),
            }
            rest = rest[end..].trim_start_matches(|sign: char| sign == ';' || sign.is_whitespace());
        }
    }
    config
}

/// The words of the first statement of `text`, and how many bytes of the text it takes.
fn split_words(text: &str) -> (Result<Vec<String>, &'static str>, usize) {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut characters = text.char_indices();
    while let Some((index, character)) = characters.next() {
        if character == '\\' {
            if let Some((_, next)) = characters.next() {
                word.get_or_insert_with(String::new).push(next);
            }
            continue;
        }
        match quote {
            Some(open) if character == open => quote = None,
            Some(_) => word.get_or_insert_with(String::new).push(character),
            None => match character {
                '"' | '\'' => {
                    quote = Some(character);
                    word.get_or_insert_with(String::new);
                }
                ';' => {
                    words.extend(word);
                    return (Ok(words), index);
                }
                '#' => {
                    words.extend(word);
                    return (Ok(words), text.len());
                }
                _ if character.is_whitespace() => words.extend(word.take()),
                _ => word.get_or_insert_with(String::new).push(character),
            },
        }
    }
    if quote.is_some() {
        return (Err("a quote is opened and not closed on its line"), text.len());
    }
    words.extend(word);
    (Ok(words), text.len())
}

struct Statement<'a> {
    config: &'a mut CustomConfig,
    line: usize,
    text: &'a str,
}

impl Statement<'_> {
    fn ignore(&mut self, text: &str, why: impl Into<String>) {
        let ignored = Ignored { line: self.line, text: text.to_string(), why: why.into() };
        self.config.ignored.push(ignored);
    }

    fn read(&mut self, words: &[String], is_directive: bool) {
        let first = match words.first() {
            Some(first) => first,
            None => return,
        };
        if is_directive || first.starts_with('-') {
            return self.read_options(words);
        }
        let settings = if first == "export" { &words[1..] } else { words };
        for setting in settings {
            self.read_setting(setting);
        }
    }

    fn read_setting(&mut self, setting: &str) {
        let name_end = setting.find('=').unwrap_or(0);
        let (name, value) = (&setting[..name_end], setting.get(name_end + 1..).unwrap_or(""));
        let is_slurm = (name.starts_with("SLURM_") || name.starts_with("SBATCH_"))
            && name
                .bytes()
                .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_');
        if !is_slurm {
            return self.ignore(
                setting,
                "it is neither an option of sbatch nor a SLURM_ or SBATCH_ setting, NAME=value",
            );
        }
        if EXCLUDED_SETTINGS.contains(&name) {
            return self.ignore(setting, "Slurm's commands in the job depend on it");
        }
        match by_variable(name) {
            Some(option) if option.owned => self.ignore(
                setting,
                format!("it stands for --{}, which multicri sets or excludes itself", option.name),
            ),
            Some(option) if option.takes == Takes::Nothing => self.add(setting, option.name, None),
            Some(option) => self.add(setting, option.name, Some(value)),
            None if has_control(value) => self.ignore(setting, CONTROL),
            None => self.config.environment.push((name.to_string(), value.to_string())),
        }
    }

    fn read_options(&mut self, words: &[String]) {
        let mut words = words.iter().peekable();
        while let Some(word) = words.next() {
            // A separate word is the value of an option that takes one.
            let mut next = || words.next_if(|next| !next.starts_with('-')).cloned();
            if let Some(long) = word.strip_prefix("--") {
                match long.split_once('=') {
                    Some((name, value)) => self.read_long(word, name, Some(value.to_string())),
                    None => {
                        let takes_value =
                            by_name(long).map_or(true, |option| option.takes == Takes::Value);
                        let value = if takes_value && !long.is_empty() { next() } else { None };
                        self.read_long(word, long, value);
                    }
                }
            } else if word.starts_with('-') && word.len() > 1 {
                self.read_letters(word, next);
            } else {
                self.ignore(word, "a word that belongs to no option");
            }
        }
    }

    fn read_long(&mut self, word: &str, name: &str, value: Option<String>) {
        let is_name = name.bytes().next().map_or(false, |first| first.is_ascii_alphanumeric())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        if !is_name {
            return self.ignore(word, "an option's name consists of letters, digits and dashes");
        }
        match (by_name(name), &value) {
            (Some(option), None) if option.takes == Takes::Value => {
                self.ignore(word, format!("--{} needs a value", name))
            }
            (Some(option), Some(_)) if option.takes == Takes::Nothing => {
                self.ignore(word, format!("--{} takes no value", name))
            }
            _ => self.add(word, name, value.as_deref()),
        }
    }

    /// Letters of options, as getopt reads them: `-p debug`, `-pdebug`, `-OHp debug`.
    fn read_letters(&mut self, word: &str, mut next: impl FnMut() -> Option<String>) {
        let mut letters = word[1..].chars();
        while let Some(letter) = letters.next() {
            let option: &SbatchOption = match by_letter(letter) {
                Some(option) => option,
                None => {
                    return self.ignore(
                        word,
                        format!("sbatch has no option {}", shown(&format!("-{}", letter))),
                    )
                }
            };
            let attached = Some(letters.as_str()).filter(|rest| !rest.is_empty()).map(String::from);
            match option.takes {
                Takes::Nothing => self.add(word, option.name, None),
                Takes::Perhaps => return self.add(word, option.name, attached.as_deref()),
                Takes::Value => match attached.or_else(&mut next) {
                    Some(value) => return self.add(word, option.name, Some(&value)),
                    None => return self.ignore(word, format!("-{} needs a value", letter)),
                },
            }
        }
    }

    fn add(&mut self, text: &str, name: &str, value: Option<&str>) {
        if let Some(why) = refused_option(name) {
            self.ignore(text, why);
        } else if value.map_or(false, has_control) {
            self.ignore(text, CONTROL);
        } else {
            self.config.options.push((name.to_string(), value.map(String::from)));
        }
    }
}

const CONTROL: &str = "its value holds a control character";

fn has_control(value: &str) -> bool {
    value.chars().any(char::is_control)
}

/// Why a pod may not set the option of this name; `None` when it may.
pub fn refused_option(name: &str) -> Option<String> {
    match by_name(name) {
        Some(option) if option.owned => {
            Some(format!("multicri sets or excludes --{} itself", name))
        }
        Some(_) => None,
        None => abbreviated(name).map(|option| {
            format!(
                "--{} abbreviates --{}, which multicri sets or excludes itself",
                name, option.name
            )
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(config: &CustomConfig) -> String {
        let mut text = String::new();
        for (name, value) in &config.options {
            let value = value.as_ref().map_or(String::new(), |value| format!("={}", value));
            text.push_str(&format!("--{}{}\n", name, value));
        }
        for (name, value) in &config.environment {
            text.push_str(&format!("{}={}\n", name, value));
        }
        for Ignored { line, text: what, why } in &config.ignored {
            text.push_str(&format!("{} {}: {}\n", line, what, why));
        }
        text
    }

    #[test]
    fn the_example_is_read_as_the_golden_file_says() {
        let config = parse(include_str!("../testdata/custom_config.txt"));
        assert_eq!(described(&config), include_str!("../testdata/custom_config.golden"));
    }

    #[test]
    fn line_ends_and_control_characters() {
        let config = parse("--time=1\r\n--qos='a\tb'\r\nSLURM_X=\u{1b}\n\n");
        assert_eq!(config.options, [("time".to_string(), Some("1".to_string()))]);
        assert_eq!(config.environment, []);
        let lines: Vec<usize> = config.ignored.iter().map(|ignored| ignored.line).collect();
        assert_eq!(lines, [2, 3]);
        assert!(config.ignored.iter().all(|ignored| ignored.why == CONTROL));
    }

    #[test]
    fn empty_values_are_kept() {
        let config = parse("--comment-x= --wckey=''; SLURM_X=");
        assert_eq!(described(&config), "--comment-x=\n--wckey=\nSLURM_X=\n");
    }
}
