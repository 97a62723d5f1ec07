//! JSON text to V8's format.
//!
//! Without recursion, and without a tree of values: one look ahead counts the elements of the arrays, which the
//! format wants in advance; then each token is written as it is met. The text is known to be valid JSON; on
//! any other the result is useless, but nothing worse happens.

use super::{MARK, VERSION_WRITTEN};

/// Appends the payload for this JSON value.
pub(in super::super) fn encode(json: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[MARK, VERSION_WRITTEN]);
    let mut encoder = Encoder {
        json,
        at: 0,
        out,
        start,
        open: Vec::new(),
        lengths: lengths(json).into_iter(),
    };
    while encoder.token().is_some() {}
}

#[derive(Clone, Copy)]
enum Open {
    /// And the number of properties so far.
    Object(u32),
    /// And its length.
    Array(u32),
}

struct Encoder<'a> {
    json: &'a [u8],
    at: usize,
    out: &'a mut Vec<u8>,
    /// Where the payload starts in `out`: two-byte strings are aligned to it.
    start: usize,
    open: Vec<Open>,
    lengths: std::vec::IntoIter<u32>,
}

impl Encoder<'_> {
    fn token(&mut self) -> Option<()> {
        let first = *self.json.get(self.at)?;
        match first {
            b'{' => self.begin(b'o', Open::Object(0)),
            b'[' => {
                let length = self.lengths.next().unwrap_or(0);
                self.begin(b'A', Open::Array(length));
                varint(self.out, length);
            }
            b'}' | b']' => self.end(),
            b':' => self.property(),
            b'"' => self.string(),
            b't' => self.word(b'T', 4),
            b'f' => self.word(b'F', 5),
            b'n' => self.word(b'0', 4),
            b'-' | b'0'..=b'9' => self.number(),
            _ => self.at += 1, // White space and commas.
        }
        Some(())
    }

    fn begin(&mut self, tag: u8, open: Open) {
        self.at += 1;
        self.out.push(tag);
        self.open.push(open);
    }

    fn end(&mut self) {
        self.at += 1;
        match self.open.pop() {
            Some(Open::Object(properties)) => {
                self.out.push(b'{');
                varint(self.out, properties);
            }
            Some(Open::Array(length)) => {
                self.out.extend_from_slice(b"$\0");
                varint(self.out, length);
            }
            None => {}
        }
    }

    fn property(&mut self) {
        self.at += 1;
        if let Some(Open::Object(properties)) = self.open.last_mut() {
            *properties += 1;
        }
    }

    fn word(&mut self, tag: u8, length: usize) {
        self.at += length;
        self.out.push(tag);
    }

    fn number(&mut self) {
        let rest = &self.json[self.at..];
        let length = rest
            .iter()
            .position(|byte| !matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9'))
            .unwrap_or(rest.len());
        self.at += length;
        let text = str::from_utf8(&rest[..length]).unwrap_or_default();
        match text.parse::<i32>() {
            // `-0` is no integer in JavaScript.
            Ok(number) if text != "-0" => {
                self.out.push(b'I');
                varint(self.out, ((number << 1) ^ (number >> 31)).cast_unsigned());
            }
            _ => {
                self.out.push(b'N');
                self.out
                    .extend_from_slice(&text.parse::<f64>().unwrap_or(f64::NAN).to_le_bytes());
            }
        }
    }

    fn string(&mut self) {
        let rest = &self.json[self.at + 1..];
        let length = string_length(rest);
        self.at += length + 2;
        let inner = &rest[..length];
        if inner.iter().all(|&byte| byte.is_ascii() && byte != b'\\') {
            self.out.push(b'"');
            varint(self.out, length_of(inner));
            self.out.extend_from_slice(inner);
            return;
        }
        let units = unescape(inner);
        let latin: Option<Vec<u8>> = units.iter().map(|&unit| u8::try_from(unit).ok()).collect();
        match latin {
            Some(latin) => {
                self.out.push(b'"');
                varint(self.out, length_of(&latin));
                self.out.extend_from_slice(&latin);
            }
            None => self.two_byte_string(&units),
        }
    }

    fn two_byte_string(&mut self, units: &[u16]) {
        let mut length = Vec::with_capacity(5);
        varint(&mut length, length_of(units).saturating_mul(2));
        if (self.out.len() - self.start + 1 + length.len()) % 2 == 1 {
            self.out.push(0);
        }
        self.out.push(b'c');
        self.out.extend_from_slice(&length);
        self.out.extend(units.iter().flat_map(|unit| unit.to_le_bytes()));
    }
}

/// The lengths of all arrays, in the order in which they begin.
fn lengths(json: &[u8]) -> Vec<u32> {
    let mut lengths: Vec<u32> = Vec::new();
    // For each open container: the array's place in `lengths`, if it is one.
    let mut open: Vec<Option<usize>> = Vec::new();
    let mut at = 0;
    while let Some(&byte) = json.get(at) {
        at += 1;
        // Anything in an array but white space makes it non-empty; each comma adds one.
        if !matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b']')
            && let Some(Some(array)) = open.last()
        {
            let length = &mut lengths[*array];
            *length = (*length).max(1) + u32::from(byte == b',');
        }
        match byte {
            b'"' => at += string_length(&json[at..]) + 1,
            b'[' => {
                open.push(Some(lengths.len()));
                lengths.push(0);
            }
            b'{' => open.push(None),
            b']' | b'}' => {
                open.pop();
            }
            _ => {}
        }
    }
    lengths
}

/// How many bytes come before the closing quote.
fn string_length(rest: &[u8]) -> usize {
    let mut at = 0;
    while let Some(&byte) = rest.get(at) {
        match byte {
            b'"' => return at,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    rest.len()
}

/// The UTF-16 of a string's inside. Lone surrogates stay, as in JavaScript.
fn unescape(inner: &[u8]) -> Vec<u16> {
    let text = str::from_utf8(inner).unwrap_or_default();
    let mut units = Vec::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            units.extend_from_slice(character.encode_utf16(&mut [0; 2]));
            continue;
        }
        units.push(match characters.next() {
            Some('b') => 0x08,
            Some('f') => 0x0c,
            Some('n') => 0x0a,
            Some('r') => 0x0d,
            Some('t') => 0x09,
            Some('u') => {
                let digits = characters.as_str().get(..4).unwrap_or_default();
                characters = characters.as_str().get(4..).unwrap_or_default().chars();
                u16::from_str_radix(digits, 16).unwrap_or(0xfffd)
            }
            Some(escaped) => u16::try_from(u32::from(escaped)).unwrap_or(0xfffd),
            None => break,
        });
    }
    units
}

fn length_of<T>(items: &[T]) -> u32 {
    u32::try_from(items.len()).unwrap_or(u32::MAX)
}

fn varint(out: &mut Vec<u8>, mut number: u32) {
    while number >= 0x80 {
        out.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}
