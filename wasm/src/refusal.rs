//! Why an input was not accepted.

/// A sentence for a person: what was wrong, what was expected, what to do. It never holds a variable's value.
#[derive(Debug, PartialEq)]
pub struct Refusal(pub String);

impl Refusal {
    pub fn new(sentence: impl Into<String>) -> Self {
        Refusal(sentence.into())
    }
}

/// The most characters of someone's text that a message repeats.
const MAX_SHOWN_CHARACTERS: usize = 120;

/// `text` in double quotes for a message: control characters escaped, cut when long.
pub fn shown(text: &str) -> String {
    let mut quoted = String::from("\"");
    for (index, character) in text.chars().enumerate() {
        if index == MAX_SHOWN_CHARACTERS {
            quoted.push('…');
            break;
        }
        match character {
            '"' | '\\' => {
                quoted.push('\\');
                quoted.push(character);
            }
            _ if character.is_control() => {
                quoted.push_str(&format!("\\u{{{:x}}}", character as u32))
            }
            _ => quoted.push(character),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_text_stays_on_one_line_and_is_cut() {
        assert_eq!(shown("a\nb\"c"), "\"a\\u{a}b\\\"c\"");
        assert_eq!(shown(&"x".repeat(200)).chars().count(), MAX_SHOWN_CHARACTERS + 3);
    }
}
