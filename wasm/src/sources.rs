//! The grammars of images that do not come from a container registry.

use crate::domain::check_domain;
use crate::image_name::{ImageName, Kind};
use crate::letters::{name_of, Fault, Part};
use crate::reference::check_digest;

const LATEST: &str = "latest";
/// Linux: the longest path and the longest name of one file, in bytes (limits.h).
const MAX_PATH_BYTES: usize = 4095;
const MAX_FILE_NAME_BYTES: usize = 255;

/// Singularity Hub: `user/image[:tag][@hash]`, the limits are those of Apptainer's shub client. The tag
/// `latest` is its default and left out, as the seed's example does.
pub fn shub(rest: Part) -> Result<ImageName, Fault> {
    const MAX_USER_CHARACTERS: usize = 39;
    const MAX_IMAGE_CHARACTERS: usize = 64;
    let (named, hash) = match rest.cut('@') {
        Some((named, hash)) => (named, Some(hash)),
        None => (rest, None),
    };
    let (named, tag) = match named.cut(':') {
        Some((named, tag)) => (named, Some(tag)),
        None => (named, None),
    };
    let parts = named.split('/');
    if parts.len() != 2 {
        return Err(Fault::at(
            parts.get(2).map_or(named.end, Part::start),
            "an image of Singularity Hub is written as user/image",
        ));
    }
    check_word(parts[0], "the user", MAX_USER_CHARACTERS, &['-'])?;
    check_word(parts[1], "the image", MAX_IMAGE_CHARACTERS, &['-', '_', '.'])?;
    if let Some(tag) = tag {
        check_word(tag, "the tag", MAX_IMAGE_CHARACTERS, &['-', '_', '.'])?;
    }
    if let Some(hash) = hash {
        hash.only(
            |character| character.is_ascii_hexdigit(),
            "a hash consists of hexadecimal digits; this one",
        )?;
        if hash.letters.len() != 32 && hash.letters.len() != 40 {
            return Err(Fault::at(
                hash.start(),
                "the hash after \"@\" must have 32 or 40 hexadecimal digits",
            ));
        }
    }
    let tag = tag.map(|tag| tag.text()).filter(|tag| tag != LATEST);
    let hash = hash.map(|hash| hash.text());
    let mut url = format!("shub://{}", named.text());
    url.push_str(&tag.as_ref().map_or(String::new(), |tag| format!(":{}", tag)));
    url.push_str(&hash.as_ref().map_or(String::new(), |hash| format!("@{}", hash)));
    let mut image = ImageName::of(Kind::Shub, url);
    image.repository = Some(named.text());
    image.tag = tag;
    image.digest = hash;
    Ok(image)
}

/// A Sylabs library: `[[entity/]collection/]container[:tag]`, or with a library's host before all three, as
/// Apptainer tells them apart. The default tag is `latest`.
pub fn library(rest: Part) -> Result<ImageName, Fault> {
    const PARTS_BEHIND_HOST: usize = 3;
    const MAX_PART_CHARACTERS: usize = 64;
    /// `sha256.` and 64 digits is the longest tag in use; registries allow as much as this.
    const MAX_TAG_CHARACTERS: usize = 128;
    let slashes = rest.letters.iter().filter(|letter| letter.character == '/').count();
    let (host, path) = match rest.cut('/') {
        Some((host, path)) if slashes == PARTS_BEHIND_HOST => (Some(check_domain(host)?), path),
        _ => (None, rest),
    };
    let (path, tag) = match path.cut(':') {
        Some((path, tag)) => (path, Some(tag)),
        None => (path, None),
    };
    let parts = path.split('/');
    if let Some(surplus) = parts.get(PARTS_BEHIND_HOST) {
        return Err(Fault::at(
            surplus.start(),
            "an image of a library has at most a host and three parts, entity/collection/container",
        ));
    }
    for part in &parts {
        check_word(*part, "each part of a library's image", MAX_PART_CHARACTERS, &['-', '_', '.'])?;
    }
    let tag = match tag {
        Some(tag) => {
            check_word(tag, "the tag", MAX_TAG_CHARACTERS, &['-', '_', '.'])?;
            tag.text()
        }
        None => LATEST.to_string(),
    };
    let location = host.iter().cloned().chain([path.text()]).collect::<Vec<_>>().join("/");
    let mut image = ImageName::of(Kind::Library, format!("library://{}:{}", location, tag));
    image.registry = host;
    image.repository = Some(path.text());
    image.tag = Some(tag);
    Ok(image)
}

/// A SIF on a web server: `host[:port]/path[@sha256:…]`; the digest is the file's own.
pub fn https(rest: Part) -> Result<ImageName, Fault> {
    let (location, digest) = match rest.cut('@') {
        Some((location, digest)) => (location, Some(check_digest(digest)?)),
        None => (without_latest(rest), None),
    };
    let (host, path) = location.cut('/').ok_or_else(|| {
        Fault::at(location.end, "an image on a web server is written as host/path")
    })?;
    let host = check_domain(host)?;
    for part in path.split('/') {
        check_path_part(part)?;
        // What RFC 3986 allows in a path, except ":" and "@", which have a meaning in image names.
        part.only(
            |character| character.is_ascii_alphanumeric() || "-._~!$&'()*+,;=%".contains(character),
            "the path on the web server must consist of the characters of a URL's path without \":\" and \"@\"; this one",
        )?;
    }
    let mut image = ImageName::of(Kind::Https, format!("https://{}/{}", host, path.text()));
    if let Some(digest) = &digest {
        image.canonical = format!("{}@{}", image.url, digest);
    }
    image.digest = digest;
    Ok(image)
}

/// A file in the container's volume, by its path relative to the volume.
pub fn local(kind: Kind, scheme: &str, rest: Part) -> Result<ImageName, Fault> {
    let path = without_latest(rest);
    if path.is_empty() {
        return Err(Fault::at(path.start(), "the path in the volume is missing"));
    }
    if let Some(index) =
        path.find(|letter| !letter.escaped && matches!(letter.character, ':' | '@'))
    {
        let letter = path.letters[index];
        return Err(Fault::at(
            letter.position,
            format!(
                "a file in the volume has no tag and no digest, but the name has {}",
                name_of(letter.character)
            ),
        ));
    }
    for part in path.split('/') {
        check_path_part(part)?;
        if let Some(letter) = part.letters.iter().find(|letter| letter.character.is_control()) {
            return Err(Fault::at(
                letter.position,
                format!("a path in the volume may not hold {}", name_of(letter.character)),
            ));
        }
        if part.text().len() > MAX_FILE_NAME_BYTES {
            return Err(Fault::at(
                part.start(),
                format!(
                    "a part of the path in the volume has more than {} bytes",
                    MAX_FILE_NAME_BYTES
                ),
            ));
        }
    }
    let text = path.text();
    if text.len() > MAX_PATH_BYTES {
        return Err(Fault::at(
            path.start(),
            format!("the path in the volume has more than {} bytes", MAX_PATH_BYTES),
        ));
    }
    let mut image = ImageName::of(kind, format!("{}:{}", scheme, text));
    image.path = Some(text);
    Ok(image)
}

/// Cuts off the `:latest` that the kubelet appends.
fn without_latest(name: Part) -> Part {
    let suffix = format!(":{}", LATEST);
    let start = name.letters.len().saturating_sub(suffix.len());
    let tail = &name.letters[start..];
    let is_suffix = tail.iter().map(|letter| letter.character).eq(suffix.chars())
        && tail.iter().all(|letter| !letter.escaped);
    if is_suffix {
        Part::new(&name.letters[..start], tail[0].position)
    } else {
        name
    }
}

/// No part of a path may be empty or lead elsewhere.
fn check_path_part(part: Part) -> Result<(), Fault> {
    if part.is_empty() {
        return Err(Fault::at(part.start(), "a part of the path is empty"));
    }
    if part.is(".") || part.is("..") {
        return Err(Fault::at(
            part.start(),
            format!("the path may not have the part \"{}\"", part.text()),
        ));
    }
    Ok(())
}

/// A word of letters, digits and `others`, not empty and at most `longest` characters.
fn check_word(word: Part, what: &str, longest: usize, others: &[char]) -> Result<(), Fault> {
    if word.is_empty() {
        return Err(Fault::at(word.start(), format!("{} is missing", what)));
    }
    if word.is(".") || word.is("..") {
        return Err(Fault::at(word.start(), format!("{} may not be \"{}\"", what, word.text())));
    }
    let signs: Vec<String> = others.iter().map(|sign| format!("\"{}\"", sign)).collect();
    word.only(
        |character| character.is_ascii_alphanumeric() || others.contains(&character),
        &format!("{} must consist of letters, digits and {}; this one", what, signs.join(", ")),
    )?;
    match word.letters.get(longest) {
        Some(letter) => Err(Fault::at(
            letter.position,
            format!("{} has more than {} characters", what, longest),
        )),
        None => Ok(()),
    }
}
