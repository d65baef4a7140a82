//! Text whose characters know where they stood in the name as it was given, so that a fault found after
//! prefixes were cut off and escapes were undone still names the right place.

/// One character of an image name.
#[derive(Clone, Copy, Debug)]
pub struct Letter {
    pub character: char,
    /// Its place in the name as given: characters from 1.
    pub position: usize,
    /// Whether it was written as an escape, and so has no meaning beyond itself in a path.
    pub escaped: bool,
}

/// What is wrong and where; `image_name` makes the sentence around it.
#[derive(Debug, PartialEq)]
pub struct Fault {
    pub position: usize,
    pub what: String,
}

impl Fault {
    pub fn at(position: usize, what: impl Into<String>) -> Self {
        Fault { position, what: what.into() }
    }
}

/// A part of a name, and the position just behind it (what "something is missing" points at).
#[derive(Clone, Copy)]
pub struct Part<'a> {
    pub letters: &'a [Letter],
    pub end: usize,
}

impl<'a> Part<'a> {
    pub fn new(letters: &'a [Letter], end: usize) -> Self {
        Part { letters, end }
    }

    pub fn is_empty(&self) -> bool {
        self.letters.is_empty()
    }

    /// Where the part begins; where it would begin when it is empty.
    pub fn start(&self) -> usize {
        self.letters.first().map_or(self.end, |letter| letter.position)
    }

    pub fn text(&self) -> String {
        self.letters.iter().map(|letter| letter.character).collect()
    }

    pub fn is(&self, text: &str) -> bool {
        self.letters.iter().map(|letter| letter.character).eq(text.chars())
    }

    pub fn find(&self, wanted: impl Fn(&Letter) -> bool) -> Option<usize> {
        self.letters.iter().position(wanted)
    }

    pub fn contains(&self, characters: &[char]) -> bool {
        self.find(|letter| characters.contains(&letter.character)).is_some()
    }

    /// The part before the letter at `index`, and the part after it.
    pub fn split_at(&self, index: usize) -> (Part<'a>, Part<'a>) {
        let before = Part::new(&self.letters[..index], self.letters[index].position);
        (before, Part::new(&self.letters[index + 1..], self.end))
    }

    /// Split at the first `character`; `None` when there is none.
    pub fn cut(&self, character: char) -> Option<(Part<'a>, Part<'a>)> {
        self.find(|letter| letter.character == character).map(|index| self.split_at(index))
    }

    /// The parts between each `character`; a part may be empty.
    pub fn split(&self, character: char) -> Vec<Part<'a>> {
        let mut parts = Vec::new();
        let mut rest = *self;
        while let Some((head, tail)) = rest.cut(character) {
            parts.push(head);
            rest = tail;
        }
        parts.push(rest);
        parts
    }

    /// The first letter that is not `allowed`, as a fault of `whole`, which says what is expected.
    pub fn only(&self, allowed: impl Fn(char) -> bool, whole: &str) -> Result<(), Fault> {
        match self.letters.iter().find(|letter| !allowed(letter.character)) {
            Some(letter) => Err(Fault::at(
                letter.position,
                format!("{} has {}", whole, name_of(letter.character)),
            )),
            None => Ok(()),
        }
    }
}

/// A character as a message shows it.
pub fn name_of(character: char) -> String {
    if character.is_control() {
        format!("the control character U+{:04X}", character as u32)
    } else {
        format!("\"{}\"", character)
    }
}
