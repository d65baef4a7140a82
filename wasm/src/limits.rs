//! What Linux and Apptainer can hand to a program.

use crate::refusal::Refusal;

/// Linux: the longest string of an argument or variable, with its NUL (MAX_ARG_STRLEN).
pub const MAX_EXEC_STRING_BYTES: usize = 131_072;
/// Apptainer hands a container's configuration on as JSON in at most 8 strings of 128 KiB (MAX_ENGINE_CONFIG_SIZE,
/// 1,048,448 bytes): environment, command, bind mounts and all. This leaves 64 KiB for what is not counted.
const MAX_CONFIGURATION_BYTES: usize = 983_040;

/// How many bytes `text` has as a JSON string of Go's encoder, which escapes HTML's signs as well.
fn json_bytes(text: &str) -> usize {
    let escaped = |character: char| match character {
        '"' | '\\' | '\n' | '\r' | '\t' => 2,
        '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => 6,
        _ if character < ' ' => 6,
        _ => character.len_utf8(),
    };
    text.chars().map(escaped).sum::<usize>() + "\"\",".len()
}

/// Refuses more text than Apptainer takes for one container; `what` begins the sentence.
pub fn check_total<'a>(what: &str, texts: impl Iterator<Item = &'a str>) -> Result<(), Refusal> {
    let total: usize = texts.map(json_bytes).sum();
    if total <= MAX_CONFIGURATION_BYTES {
        return Ok(());
    }
    Err(Refusal::new(format!(
        "{}: together they take {} bytes of the container's configuration, at most {} fit; put large texts \
         into a volume.",
        what, total, MAX_CONFIGURATION_BYTES
    )))
}
