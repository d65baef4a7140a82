//! References to images in registries: the grammar and the normalisation of the OCI distribution project's
//! `reference` package, which every container tool shares.
//!
//! ```text
//! reference      := name [ ":" tag ] [ "@" digest ]
//! name           := [ domain "/" ] path
//! domain         := ( component *( "." component ) | "[" IPv6 "]" ) [ ":" port ]
//! path           := path-component *( "/" path-component )
//! path-component := [a-z0-9]+ *( ( "." | "_" | "__" | "-"* ) [a-z0-9]+ )
//! tag            := [A-Za-z0-9_] [A-Za-z0-9_.-]{0,127}
//! ```
//! The first component is a domain when it holds "." or ":" or an upper-case letter, or is `localhost`;
//! else the domain is docker.io, where a path of one component means `library/…`.
//!
//! One difference: a first component such as `a_b.com` looks like a domain and is no valid one. The
//! package then returns a name without any domain, which no client can pull; here it is a fault.

use crate::domain::check_domain;
use crate::letters::{name_of, Fault, Part};

const DEFAULT_DOMAIN: &str = "docker.io";
const LEGACY_DEFAULT_DOMAIN: &str = "index.docker.io";
const OFFICIAL_PREFIX: &str = "library/";
const DEFAULT_TAG: &str = "latest";
/// The longest path of a repository (the package's RepositoryNameTotalLengthMax).
const MAX_PATH_CHARACTERS: usize = 255;
const MAX_TAG_CHARACTERS: usize = 128;
/// The digest algorithms of the OCI image specification and their length in hexadecimal digits.
const DIGEST_ALGORITHMS: [(&str, usize); 3] = [("sha256", 64), ("sha384", 96), ("sha512", 128)];

#[derive(Debug, PartialEq)]
pub struct Reference {
    pub domain: String,
    pub path: String,
    /// The tag as given, or `latest` when neither tag nor digest was given.
    pub tag: Option<String>,
    pub digest: Option<String>,
}

impl Reference {
    fn suffix(&self) -> String {
        let tag = self.tag.as_ref().map_or(String::new(), |tag| format!(":{}", tag));
        let digest = self.digest.as_ref().map_or(String::new(), |digest| format!("@{}", digest));
        tag + &digest
    }

    /// The whole reference: `docker.io/library/perl:latest`.
    pub fn full(&self) -> String {
        format!("{}/{}{}", self.domain, self.path, self.suffix())
    }

    /// As people write it: `perl:latest`.
    pub fn familiar(&self) -> String {
        if self.domain != DEFAULT_DOMAIN {
            return self.full();
        }
        let short = match self.path.strip_prefix(OFFICIAL_PREFIX) {
            Some(rest) if !rest.contains('/') => rest,
            _ => &self.path,
        };
        format!("{}{}", short, self.suffix())
    }

    /// What is pulled: the digest where there is one (a tag beside it says nothing), else the tag.
    pub fn pulled(&self) -> String {
        match &self.digest {
            Some(digest) => format!("{}/{}@{}", self.domain, self.path, digest),
            None => self.full(),
        }
    }
}

/// Reads a reference and fills in what it leaves out.
pub fn parse(name: Part) -> Result<Reference, Fault> {
    if name.is_empty() {
        return Err(Fault::at(name.start(), "the image name is missing"));
    }
    let text = name.text();
    let id = text.strip_prefix("sha256:").unwrap_or(&text);
    if id.len() == 64 && id.chars().all(is_lower_hex) {
        return Err(Fault::at(
            name.start(),
            "64 hexadecimal digits are an image id, which no registry knows by that name",
        ));
    }
    let (domain, remote) = split_domain(name)?;
    let (repository, tag, digest) = split_suffixes(remote);
    let mut path = check_path(repository)?;
    if domain == DEFAULT_DOMAIN && !path.contains('/') {
        path.insert_str(0, OFFICIAL_PREFIX);
    }
    if path.len() > MAX_PATH_CHARACTERS {
        let surplus = repository.letters.get(MAX_PATH_CHARACTERS);
        return Err(Fault::at(
            surplus.map_or(repository.end, |letter| letter.position),
            format!(
                "the repository path has {} characters, at most {} are allowed",
                path.len(),
                MAX_PATH_CHARACTERS
            ),
        ));
    }
    let digest = digest.map(check_digest).transpose()?;
    let tag = match tag {
        Some(tag) => Some(check_tag(tag)?),
        None if digest.is_none() => Some(DEFAULT_TAG.to_string()),
        None => None,
    };
    Ok(Reference { domain, path, tag, digest })
}

fn split_domain<'a>(name: Part<'a>) -> Result<(String, Part<'a>), Fault> {
    if let Some((first, rest)) = name.cut('/') {
        let is_domain = first.is("localhost")
            || first.contains(&['.', ':'])
            || first.letters.iter().any(|letter| letter.character.is_uppercase());
        if is_domain {
            let domain = check_domain(first)?;
            let domain =
                if domain == LEGACY_DEFAULT_DOMAIN { DEFAULT_DOMAIN.into() } else { domain };
            return Ok((domain, rest));
        }
    }
    Ok((DEFAULT_DOMAIN.into(), name))
}

/// The repository, the tag and the digest: no path holds ":" or "@", no tag holds "@".
fn split_suffixes<'a>(remote: Part<'a>) -> (Part<'a>, Option<Part<'a>>, Option<Part<'a>>) {
    let (named, digest) = match remote.cut('@') {
        Some((named, digest)) => (named, Some(digest)),
        None => (remote, None),
    };
    match named.cut(':') {
        Some((repository, tag)) => (repository, Some(tag), digest),
        None => (named, None, digest),
    }
}

fn check_path(path: Part) -> Result<String, Fault> {
    for component in path.split('/') {
        check_component(component)?;
    }
    Ok(path.text())
}

fn check_component(component: Part) -> Result<(), Fault> {
    if component.is_empty() {
        return Err(Fault::at(component.start(), "a part of the repository path is empty"));
    }
    let mut index = 0;
    loop {
        let letter = match component.letters.get(index) {
            Some(letter) => letter,
            None => {
                let last = component.letters[component.letters.len() - 1];
                return Err(Fault::at(
                    last.position,
                    format!(
                        "a part of the repository path may not end with {}",
                        name_of(last.character)
                    ),
                ));
            }
        };
        if !is_lower_alphanumeric(letter.character) {
            return Err(Fault::at(letter.position, path_fault(letter.character, index == 0)));
        }
        while component
            .letters
            .get(index)
            .map_or(false, |next| is_lower_alphanumeric(next.character))
        {
            index += 1;
        }
        match component.letters.get(index) {
            None => return Ok(()),
            Some(letter) if matches!(letter.character, '.' | '_' | '-') => {
                index += separator_length(component, index);
            }
            Some(letter) => {
                return Err(Fault::at(letter.position, path_fault(letter.character, false)))
            }
        }
    }
}

/// How many letters the separator at `index` has: ".", "_", "__" or any number of "-".
fn separator_length(component: Part, index: usize) -> usize {
    let character = component.letters[index].character;
    let run =
        component.letters[index..].iter().take_while(|next| next.character == character).count();
    match character {
        '-' => run,
        '_' => run.min(2),
        _ => 1,
    }
}

fn path_fault(character: char, first: bool) -> String {
    if character.is_uppercase() {
        format!("a repository path must be lower case, but has {}", name_of(character))
    } else if matches!(character, '.' | '_' | '-') && first {
        format!("a part of the repository path may not begin with {}", name_of(character))
    } else if matches!(character, '.' | '_' | '-') {
        format!("{} may not follow another separator of the repository path", name_of(character))
    } else {
        format!(
            "a repository path consists of lower-case letters and digits, separated by \".\", \"_\", \"__\" or dashes; this one has {}",
            name_of(character)
        )
    }
}

fn check_tag(tag: Part) -> Result<String, Fault> {
    match tag.letters.first() {
        None => return Err(Fault::at(tag.start(), "the tag is missing after \":\"")),
        Some(first) if matches!(first.character, '.' | '-') => {
            return Err(Fault::at(
                first.position,
                format!("a tag may not begin with {}", name_of(first.character)),
            ));
        }
        Some(_) => {}
    }
    tag.only(
        |character| character.is_ascii_alphanumeric() || matches!(character, '_' | '.' | '-'),
        "a tag consists of letters, digits, \"_\", \".\" and \"-\"; this one",
    )?;
    if tag.letters.len() > MAX_TAG_CHARACTERS {
        return Err(Fault::at(
            tag.letters[MAX_TAG_CHARACTERS].position,
            format!(
                "the tag has {} characters, at most {} are allowed",
                tag.letters.len(),
                MAX_TAG_CHARACTERS
            ),
        ));
    }
    Ok(tag.text())
}

/// Checks a digest: a known algorithm, ":" and exactly its number of lower-case hexadecimal digits.
pub fn check_digest(digest: Part) -> Result<String, Fault> {
    let (algorithm, hex) = digest.cut(':').ok_or_else(|| {
        Fault::at(digest.start(), "a digest is written as algorithm:hex, for example sha256:…")
    })?;
    let known = DIGEST_ALGORITHMS.iter().find(|(name, _)| algorithm.is(name));
    let (name, length) = known.ok_or_else(|| {
        Fault::at(digest.start(), "the digest's algorithm must be sha256, sha384 or sha512")
    })?;
    hex.only(is_lower_hex, "a digest consists of lower-case hexadecimal digits; this one")?;
    if hex.letters.len() != *length {
        let at = hex.letters.get(*length).map_or(hex.end, |letter| letter.position);
        return Err(Fault::at(
            at,
            format!(
                "a {} digest has {} hexadecimal digits, this one has {}",
                name,
                length,
                hex.letters.len()
            ),
        ));
    }
    Ok(digest.text())
}

fn is_lower_alphanumeric(character: char) -> bool {
    character.is_ascii_lowercase() || character.is_ascii_digit()
}

fn is_lower_hex(character: char) -> bool {
    character.is_ascii_digit() || ('a'..='f').contains(&character)
}
