//! Image names as pods write them: our prefixes, and what each becomes.
//!
//! ```text
//! name  := [ "multicri/" | "docker.io/multicri/" | "index.docker.io/multicri/" ] image
//! image := "docker-repository." reference       image of a registry
//!        | "docker." reference                  the same, only when no "/" follows anywhere
//!        | "singularity-repository." shub       Singularity Hub
//!        | "oras-repository." reference         SIF stored in a registry
//!        | "library-repository." library        a Sylabs library
//!        | "https-sif." host "/" path           SIF on a web server
//!        | "local-image." path                  SIF in the container's multicri volume
//!        | "local-def-file." path               definition file in the container's multicri volume
//!        | reference                            plain: image of a registry
//! ```
//!
//! **`docker.` or a registry called docker.something?** A name with a slash has a registry host before it by
//! the rules of every container tool, so `docker.io/perl`, `docker.elastic.co/x/y` and `docker.lab/busybox`
//! are plain names; `docker.perl` and `docker.perl.img:latest` have the prefix. The other reading would fetch
//! `docker.lab/busybox` from Docker Hub, where anyone may own the name. `docker-repository.` has no such limit.
//!
//! **Misspelt prefixes.** A word before the first dot that is nearly a prefix is refused, with and without
//! `multicri/`. A registry's host that begins like one, as `local-images.corp`, can be written behind
//! `docker-repository.`, which the message says.
//!
//! **Escape.** The kubelet refuses upper case, ports after our prefixes and more before we see them. After a
//! prefix `0x--` and two hexadecimal digits stand for that printable ASCII character: `local-image.0x--50erl.img`
//! is `Perl.img`, `docker-repository.registry.lab0x--3a5000/perl` is `registry.lab:5000/perl`.
//!
//! **`:latest`.** The kubelet appends it to every name without tag and digest, so at the end of a name that
//! knows no tags it means nothing and is cut off.

use crate::letters::{Fault, Letter, Part};
use crate::prefix::{check_no_scheme, split_prefix, SCHEMES};
use crate::reference;
use crate::refusal::{shown, Refusal};
use crate::sources;

/// Before the image when a pod picks this CRI by its image's name.
const OWN_PREFIXES: [&str; 3] = ["multicri/", "docker.io/multicri/", "index.docker.io/multicri/"];
/// Longer than any name the grammar allows; keeps hostile input short.
const MAX_NAME_CHARACTERS: usize = 4096;
const ESCAPE: &str = "0x--";

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Docker,
    Shub,
    Oras,
    Library,
    Https,
    LocalImage,
    LocalDefFile,
}

/// What a name means. Fields a kind does not have are `None`.
#[derive(Debug, PartialEq)]
pub struct ImageName {
    pub kind: Kind,
    pub prefixed: bool,
    /// The same for two names only when they mean the same image.
    pub canonical: String,
    /// What the image is called by the tool that fetches it.
    pub url: String,
    pub registry: Option<String>,
    pub repository: Option<String>,
    pub tag: Option<String>,
    pub digest: Option<String>,
    pub familiar: Option<String>,
    pub full: Option<String>,
    pub path: Option<String>,
}

impl ImageName {
    /// A name of `kind` with its URL, which is canonical as well; the other fields are for the caller.
    pub fn of(kind: Kind, url: String) -> Self {
        ImageName {
            kind,
            prefixed: false,
            canonical: url.clone(),
            url,
            registry: None,
            repository: None,
            tag: None,
            digest: None,
            familiar: None,
            full: None,
            path: None,
        }
    }
}

/// Reads an image name.
pub fn parse(name: &str) -> Result<ImageName, Refusal> {
    let length = name.chars().count();
    if length > MAX_NAME_CHARACTERS {
        return Err(Refusal::new(format!(
            "Cannot read image name {}: it has {} characters, at most {} are allowed.",
            shown(name),
            length,
            MAX_NAME_CHARACTERS
        )));
    }
    parse_letters(name, length + 1).map_err(|fault| {
        Refusal::new(format!(
            "Cannot read image name {} at character {}: {}.",
            shown(name),
            fault.position,
            fault.what
        ))
    })
}

fn parse_letters(name: &str, end: usize) -> Result<ImageName, Fault> {
    let letters: Vec<Letter> = name
        .chars()
        .enumerate()
        .map(|(index, character)| Letter { character, position: index + 1, escaped: false })
        .collect();
    let own = OWN_PREFIXES.iter().find(|prefix| name.starts_with(**prefix));
    let image = Part::new(&letters[own.map_or(0, |prefix| prefix.len())..], end);
    check_no_scheme(image, &SCHEMES)?;
    let mut parsed = match split_prefix(image, own.is_some())? {
        Some((kind, rest)) => {
            check_no_scheme(rest, &[])?;
            let rest_letters = unescape(rest.letters)?;
            parse_kind(kind, Part::new(&rest_letters, rest.end))?
        }
        None => parse_kind(Kind::Docker, image)?,
    };
    parsed.prefixed = own.is_some();
    Ok(parsed)
}

fn parse_kind(kind: Kind, rest: Part) -> Result<ImageName, Fault> {
    match kind {
        Kind::Docker => Ok(from_reference(kind, "docker", reference::parse(rest)?)),
        Kind::Oras => Ok(from_reference(kind, "oras", reference::parse(rest)?)),
        Kind::Shub => sources::shub(rest),
        Kind::Library => sources::library(rest),
        Kind::Https => sources::https(rest),
        Kind::LocalImage => sources::local(kind, "local-image", rest),
        Kind::LocalDefFile => sources::local(kind, "local-def-file", rest),
    }
}

fn from_reference(kind: Kind, scheme: &str, reference: reference::Reference) -> ImageName {
    let mut image = ImageName::of(kind, format!("{}://{}", scheme, reference.pulled()));
    image.familiar = Some(reference.familiar());
    image.full = Some(reference.full());
    image.registry = Some(reference.domain);
    image.repository = Some(reference.path);
    image.tag = reference.tag;
    image.digest = reference.digest;
    image
}

/// Replaces each `0x--HH` by the character it stands for.
fn unescape(letters: &[Letter]) -> Result<Vec<Letter>, Fault> {
    let mut plain = Vec::with_capacity(letters.len());
    let mut index = 0;
    while index < letters.len() {
        let rest = &letters[index..];
        let escape =
            rest.iter().take(ESCAPE.len()).map(|letter| letter.character).eq(ESCAPE.chars());
        let code = if escape { hex_byte(&rest[ESCAPE.len()..]) } else { None };
        match code {
            Some(code) if (0x20..0x7f).contains(&code) => {
                plain.push(Letter {
                    character: code as char,
                    position: rest[0].position,
                    escaped: true,
                });
                index += ESCAPE.len() + 2;
            }
            Some(_) => {
                return Err(Fault::at(
                    rest[0].position,
                    "the escape 0x-- must be followed by the code of a printable ASCII character, 20 to 7e",
                ));
            }
            None => {
                plain.push(rest[0]);
                index += 1;
            }
        }
    }
    Ok(plain)
}

fn hex_byte(letters: &[Letter]) -> Option<u8> {
    let high = letters.first()?.character.to_digit(16)?;
    let low = letters.get(1)?.character.to_digit(16)?;
    Some((high * 16 + low) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind_name(kind: Kind) -> &'static str {
        match kind {
            Kind::Docker => "docker",
            Kind::Shub => "shub",
            Kind::Oras => "oras",
            Kind::Library => "library",
            Kind::Https => "https",
            Kind::LocalImage => "local-image",
            Kind::LocalDefFile => "local-def-file",
        }
    }

    #[test]
    fn names_mean_what_the_golden_table_says() {
        let table = include_str!("../testdata/image_names.tsv");
        let mut failures = Vec::new();
        for line in table.lines().filter(|line| !line.starts_with('#')) {
            let columns: Vec<&str> = line.split('\t').collect();
            let (name, expected) = (columns[0], columns[1..].join("\t"));
            let found = match parse(name) {
                Ok(image) => {
                    let spelt = image.full.or(image.path).or(image.repository);
                    format!(
                        "{}\t{}\t{}",
                        kind_name(image.kind),
                        image.canonical,
                        spelt.as_deref().unwrap_or("-")
                    )
                }
                Err(Refusal(message)) => {
                    let place = format!(" at character {}: ", columns[2]);
                    let agrees = message.contains(&place) && message.contains(columns[3]);
                    if agrees && columns[1] == "error" {
                        expected.clone()
                    } else {
                        message
                    }
                }
            };
            if found != expected {
                failures.push(format!("{}\n   expected {}\n   found    {}", name, expected, found));
            }
        }
        assert!(failures.is_empty(), "{}", failures.join("\n"));
    }

    #[test]
    fn only_our_own_prefix_counts_as_prefixed() {
        for (name, prefixed) in [
            ("perl", false),
            ("docker-repository.perl", false),
            ("multicri/perl", true),
            ("docker.io/multicri/local-image.x", true),
            ("quay.io/multicri/perl", false),
        ] {
            assert_eq!(parse(name).unwrap().prefixed, prefixed, "{}", name);
        }
    }

    #[test]
    fn control_characters_are_named_and_never_repeated() {
        for (name, position) in
            [("a\nb", 2), ("local-image.a\0b", 14), ("multicri/docker.a\u{1b}[0m", 18)]
        {
            let message = parse(name).unwrap_err().0;
            assert!(message.contains(&format!("at character {}:", position)), "{}", message);
            assert!(message.contains("control character U+00"), "{}", message);
            assert!(!message.chars().any(char::is_control));
        }
        assert!(parse(&"a".repeat(5000)).unwrap_err().0.contains("5000 characters"));
    }
}
