//! The bytes between TypeScript and the core: a row of values, each a 32-bit little-endian number or a
//! string as its length in bytes (such a number) and its UTF-8 text. Who writes and who reads agree on the
//! order (`core.ts` and `lib.rs`); a row that does not fit is an error, never a panic.

use crate::refusal::Refusal;

/// What stands for the length of a string that is absent.
const ABSENT: u32 = u32::MAX;

pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Reader { rest: bytes }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Refusal> {
        if length > self.rest.len() {
            return Err(Refusal::new("Cannot read the request: it ends too early."));
        }
        let (head, rest) = self.rest.split_at(length);
        self.rest = rest;
        Ok(head)
    }

    pub fn number(&mut self) -> Result<u32, Refusal> {
        let bytes = self.take(4)?;
        Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    pub fn flag(&mut self) -> Result<bool, Refusal> {
        Ok(self.number()? != 0)
    }

    pub fn optional(&mut self) -> Result<Option<&'a str>, Refusal> {
        let length = self.number()?;
        if length == ABSENT {
            return Ok(None);
        }
        let bytes = self.take(length as usize)?;
        match core::str::from_utf8(bytes) {
            Ok(text) => Ok(Some(text)),
            Err(_) => Err(Refusal::new("Cannot read the request: a string is not UTF-8.")),
        }
    }

    pub fn string(&mut self) -> Result<&'a str, Refusal> {
        match self.optional()? {
            Some(text) => Ok(text),
            None => Err(Refusal::new("Cannot read the request: a string is missing.")),
        }
    }

    /// A list: its length, then each item as `item` reads it.
    pub fn list<T>(
        &mut self,
        item: impl Fn(&mut Self) -> Result<T, Refusal>,
    ) -> Result<Vec<T>, Refusal> {
        let count = self.number()?;
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(item(self)?);
        }
        Ok(items)
    }
}

#[derive(Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub fn number(&mut self, value: u32) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    pub fn flag(&mut self, value: bool) {
        self.number(value as u32);
    }

    pub fn string(&mut self, text: &str) {
        self.number(text.len() as u32);
        self.bytes.extend_from_slice(text.as_bytes());
    }

    pub fn optional(&mut self, text: Option<&str>) {
        match text {
            Some(text) => self.string(text),
            None => self.number(ABSENT),
        }
    }

    pub fn list<T>(&mut self, items: &[T], item: impl Fn(&mut Self, &T)) {
        self.number(items.len() as u32);
        for each in items {
            item(self, each);
        }
    }

    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let mut writer = Writer::default();
        writer.string("ü");
        writer.optional(None);
        writer.flag(true);
        writer.list(&["a", ""], |writer, item| writer.string(item));
        let bytes = writer.finish();
        let mut reader = Reader::new(&bytes);
        assert_eq!(reader.string().unwrap(), "ü");
        assert_eq!(reader.optional().unwrap(), None);
        assert!(reader.flag().unwrap());
        assert_eq!(reader.list(|reader| reader.string()).unwrap(), vec!["a", ""]);
    }

    #[test]
    fn a_row_that_does_not_fit_is_refused() {
        for bytes in [&[][..], &[1, 0, 0], &[9, 0, 0, 0, b'a'], &[1, 0, 0, 0, 0xff]] {
            assert!(Reader::new(bytes).string().is_err(), "{:?}", bytes);
        }
        // A count far beyond what follows must not reserve memory for it.
        assert!(Reader::new(&[0xfe, 0xff, 0xff, 0xff])
            .list(|reader| reader.string().map(str::len))
            .is_err());
    }
}
