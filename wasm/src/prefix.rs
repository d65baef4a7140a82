//! What stands before an image in its name: our prefixes, what is nearly one, and schemes, which nobody may write.

use crate::image_name::Kind;
use crate::letters::{Fault, Part};
use crate::nearest::{distance, nearest};
use crate::refusal::shown;

const PREFIXES: [(&str, Kind); 8] = [
    ("docker-repository", Kind::Docker),
    ("docker", Kind::Docker),
    ("singularity-repository", Kind::Shub),
    ("oras-repository", Kind::Oras),
    ("library-repository", Kind::Library),
    ("https-sif", Kind::Https),
    ("local-image", Kind::LocalImage),
    ("local-def-file", Kind::LocalDefFile),
];
/// The one prefix that is a word of its own in image names too.
const SHORT_PREFIX: &str = "docker";

/// Schemes of URLs that other tools write before an image, and what stands for them here.
pub const SCHEMES: [(&str, &str); 6] = [
    ("docker", "\"docker-repository.\" or nothing"),
    ("shub", "\"singularity-repository.\""),
    ("oras", "\"oras-repository.\""),
    ("library", "\"library-repository.\""),
    ("https", "\"https-sif.\" for a SIF on a web server, nothing for an image of a registry"),
    ("http", "\"https-sif.\" for a SIF on a web server, nothing for an image of a registry"),
];

/// How many edits away a word before a dot still counts as one of our prefixes misspelt.
const MAX_PREFIX_TYPOS: usize = 2;

/// The kind an explicit prefix names and what follows it; `None` for a plain name.
pub fn split_prefix<'a>(image: Part<'a>, own: bool) -> Result<Option<(Kind, Part<'a>)>, Fault> {
    let stop = image.find(|letter| matches!(letter.character, '.' | '/' | ':' | '@'));
    let (word, rest) = match stop {
        Some(index) => image.split_at(index),
        None => (image, Part::new(&[], image.end)),
    };
    let has_dot = stop.map_or(false, |index| image.letters[index].character == '.');
    let has_slash = image.contains(&['/']);
    let text = word.text();
    if let Some((_, kind)) = PREFIXES.iter().find(|(prefix, _)| *prefix == text) {
        if text == SHORT_PREFIX && (has_slash || !has_dot) {
            return Ok(None);
        }
        if has_dot {
            return Ok(Some((*kind, rest)));
        }
        if own {
            return Err(Fault::at(
                word.end,
                format!("the prefix {} must be followed by \".\" and the image", shown(&text)),
            ));
        }
        return Ok(None);
    }
    if has_dot && looks_like_prefix(&text, own, has_slash) {
        let names: Vec<&str> = PREFIXES.iter().map(|(prefix, _)| *prefix).collect();
        let host = if has_slash {
            "; a registry's host that begins so is written after \"docker-repository.\""
        } else {
            ""
        };
        return Err(Fault::at(
            word.start(),
            format!(
                "{} is no known image prefix; the nearest known one is {}{}",
                shown(&text),
                shown(nearest(&text, &names)),
                host
            ),
        ));
    }
    Ok(None)
}

/// Whether a word before the first dot is more likely one of our prefixes misspelt than a registry's host or
/// an image with a dot in its name.
fn looks_like_prefix(word: &str, own: bool, has_slash: bool) -> bool {
    // Without "multicri/" and with a slash it may be a host, as repository.example.org is one.
    (word.ends_with("-repository") && (own || !has_slash))
        || PREFIXES.iter().any(|(prefix, _)| {
            if *prefix == SHORT_PREFIX {
                // So short a word is one edit away from much; with a slash it is a host in any case.
                !has_slash && distance(word, prefix) == 1
            } else {
                distance(word, prefix) <= MAX_PREFIX_TYPOS
            }
        })
}

/// Refuses the scheme of a URL, as `docker://` of `docker://perl`; `instead` says what stands for some of them.
pub fn check_no_scheme(name: Part, instead: &[(&str, &str)]) -> Result<(), Fault> {
    let (scheme, rest) = match name.cut(':') {
        Some(parts) => parts,
        None => return Ok(()),
    };
    // Without the "." of RFC 3986, which ends our prefixes.
    let is_word = scheme.find(|letter| !letter.character.is_ascii_alphanumeric()).is_none();
    let slashes = rest.letters.iter().take(2).map(|letter| letter.character).eq("//".chars());
    if scheme.is_empty() || !is_word || !slashes {
        return Ok(());
    }
    let known = instead.iter().find(|(name, _)| scheme.is(name));
    Err(Fault::at(
        name.start(),
        format!(
            "a scheme is no part of an image name; instead of {} write {}",
            shown(&format!("{}://", scheme.text())),
            known.map_or("nothing", |(_, words)| words)
        ),
    ))
}
