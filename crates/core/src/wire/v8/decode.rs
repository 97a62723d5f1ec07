//! V8's format to JSON text.

use super::super::encode::unit_escape;
use super::super::session::WireError;
use super::{DEPTH, Decoded, MARK, VERSION_KNOWN};

/// Reads a payload.
///
/// # Errors
/// It is not of this format, or cut short. What is merely not known or not expressible is no error but inexact.
pub(in super::super) fn decode(payload: &[u8]) -> Result<Decoded, WireError> {
    let mut decoder = Decoder {
        payload,
        at: 0,
        json: Vec::new(),
        exact: true,
    };
    let whole = match decoder.top() {
        Ok(_) => true,
        Err(Stop::Malformed(reason)) if decoder.exact => return Err(WireError::Malformed { reason }),
        // What was passed over before may have been of another shape than we think.
        Err(Stop::Unknown | Stop::Malformed(_)) => false,
    };
    let json = String::from_utf8(decoder.json).map_err(|_| WireError::Malformed { reason: "not UTF-8" })?;
    Ok(Decoded {
        json,
        exact: decoder.exact && whole,
    })
}

/// Why reading ended early.
enum Stop {
    Malformed(&'static str),
    /// Something of unknown size.
    Unknown,
}

const CUT: Stop = Stop::Malformed("a value that is cut short");

/// What a place in an object or array holds.
#[derive(PartialEq, Eq)]
enum Found {
    Value,
    /// `undefined`; `null` was written for it.
    Undefined,
}

struct Decoder<'a> {
    payload: &'a [u8],
    at: usize,
    json: Vec<u8>,
    exact: bool,
}

impl<'a> Decoder<'a> {
    fn top(&mut self) -> Result<Found, Stop> {
        if self.byte()? != MARK {
            return Err(Stop::Malformed("not in V8's format"));
        }
        let version = self.varint()?;
        self.peek()?; // Without a value it is nothing in any version.
        if version > VERSION_KNOWN {
            return Err(Stop::Unknown);
        }
        let found = self.value(0)?;
        self.exact &= found == Found::Value;
        Ok(found)
    }

    fn value(&mut self, depth: usize) -> Result<Found, Stop> {
        if depth > DEPTH {
            return Err(Stop::Unknown);
        }
        let tag = self.tag()?;
        match tag {
            b'_' => {
                self.json.extend_from_slice(b"null");
                return Ok(Found::Undefined);
            }
            b'0' => self.json.extend_from_slice(b"null"),
            b'T' => self.json.extend_from_slice(b"true"),
            b'F' => self.json.extend_from_slice(b"false"),
            b'I' | b'U' | b'N' => self.number(tag)?,
            b'"' | b'c' | b'S' => self.string(tag)?,
            b'o' => self.object(depth)?,
            b'A' => self.array(depth)?,
            b'a' => self.sparse_array(depth)?,
            b'?' => {
                self.varint()?; // A count of objects, in front of a value.
                return self.value(depth + 1);
            }
            _ => self.inexpressible(tag, depth)?,
        }
        Ok(Found::Value)
    }

    /// The next tag that is not padding.
    fn tag(&mut self) -> Result<u8, Stop> {
        loop {
            match self.byte()? {
                0 => {}
                tag => return Ok(tag),
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<(), Stop> {
        self.json.push(b'{');
        self.properties(b'{', depth)?;
        self.varint()?;
        self.json.push(b'}');
        Ok(())
    }

    /// Properties up to the tag `end`; how many there were.
    fn properties(&mut self, end: u8, depth: usize) -> Result<usize, Stop> {
        let mut properties = 0;
        let mut first = true;
        loop {
            let tag = self.tag()?;
            if tag == end {
                return Ok(properties);
            }
            properties += 1;
            let before = self.json.len();
            if !first {
                self.json.push(b',');
            }
            self.key(tag)?;
            self.json.push(b':');
            match self.value(depth + 1)? {
                Found::Value => first = false,
                Found::Undefined => self.json.truncate(before),
            }
        }
    }

    fn key(&mut self, tag: u8) -> Result<(), Stop> {
        match tag {
            b'"' | b'c' | b'S' => self.string(tag),
            b'I' | b'U' | b'N' => {
                self.json.push(b'"');
                self.number(tag)?;
                self.json.push(b'"');
                Ok(())
            }
            _ => Err(Stop::Malformed("a property without a name")),
        }
    }

    fn array(&mut self, depth: usize) -> Result<(), Stop> {
        let length = self.varint()?;
        self.json.push(b'[');
        for index in 0..length {
            if index > 0 {
                self.json.push(b',');
            }
            if self.peek()? == b'-' {
                self.at += 1;
                self.nothing();
            } else if self.value(depth + 1)? == Found::Undefined {
                self.exact = false;
            }
        }
        let elements = self.json.len();
        let properties = self.properties(b'$', depth)?;
        self.json.truncate(elements);
        self.exact &= properties == 0;
        self.varint()?;
        self.varint()?;
        self.json.push(b']');
        Ok(())
    }

    /// An array as index and value pairs: how V8 writes every array that it has itself read. With a hole in it, or
    /// properties beside its elements, it is inexact.
    fn sparse_array(&mut self, depth: usize) -> Result<(), Stop> {
        let length = self.varint()?;
        let before = self.json.len();
        self.json.push(b'[');
        let mut next = 0;
        let mut whole = true;
        loop {
            let tag = self.tag()?;
            if tag == b'@' {
                break;
            }
            let key = self.json.len();
            self.key(tag)?;
            whole &= self.json[key..] == *format!("\"{next}\"").as_bytes();
            self.json.truncate(key);
            if next > 0 {
                self.json.push(b',');
            }
            next += 1;
            if self.value(depth + 1)? == Found::Undefined {
                self.exact = false;
            }
        }
        self.varint()?;
        self.varint()?;
        self.json.push(b']');
        if !whole || next != length {
            self.json.truncate(before);
            self.nothing();
        }
        Ok(())
    }

    fn number(&mut self, tag: u8) -> Result<(), Stop> {
        match tag {
            b'I' => {
                let zigzag = self.varint()?;
                let number = (zigzag >> 1).cast_signed() ^ -((zigzag & 1).cast_signed());
                self.text(number);
            }
            b'U' => {
                let number = self.varint()?;
                self.text(number);
            }
            _ => {
                let number = f64::from_le_bytes(self.array_of()?);
                if !number.is_finite() {
                    self.nothing();
                } else if number.fract() == 0.0
                    && number.abs() < 1e15
                    && !(number == 0.0 && number.is_sign_negative())
                {
                    self.text(format_args!("{number:.0}"));
                } else {
                    self.text(serde_json::Number::from_f64(number).unwrap_or_else(|| 0.into()));
                }
            }
        }
        Ok(())
    }

    fn text(&mut self, number: impl std::fmt::Display) {
        self.json.extend_from_slice(number.to_string().as_bytes());
    }

    fn string(&mut self, tag: u8) -> Result<(), Stop> {
        let length = self.varint()?;
        let bytes = self.bytes(length)?;
        self.json.push(b'"');
        match tag {
            b'"' => bytes.iter().for_each(|&byte| self.character(char::from(byte))),
            b'S' => {
                let text =
                    str::from_utf8(bytes).map_err(|_| Stop::Malformed("a string that is not UTF-8"))?;
                text.chars().for_each(|character| self.character(character));
            }
            _ => {
                let (units, rest) = bytes.as_chunks::<2>();
                if !rest.is_empty() {
                    return Err(Stop::Malformed("half a character"));
                }
                for unit in char::decode_utf16(units.iter().map(|unit| u16::from_le_bytes(*unit))) {
                    match unit {
                        Ok(character) => self.character(character),
                        Err(lone) => unit_escape(&mut self.json, lone.unpaired_surrogate()),
                    }
                }
            }
        }
        self.json.push(b'"');
        Ok(())
    }

    fn character(&mut self, character: char) {
        match character {
            '"' => self.json.extend_from_slice(b"\\\""),
            '\\' => self.json.extend_from_slice(b"\\\\"),
            '\0'..'\u{20}' => unit_escape(&mut self.json, character as u16),
            _ => self
                .json
                .extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }

    /// `null` in the place of what JSON cannot express.
    fn nothing(&mut self) {
        self.json.extend_from_slice(b"null");
        self.exact = false;
    }

    /// Passes over a value of one of the other types.
    fn inexpressible(&mut self, tag: u8, depth: usize) -> Result<(), Stop> {
        self.exact = false;
        let before = self.json.len();
        self.pass_over(tag, depth)?;
        self.json.truncate(before);
        self.nothing();
        Ok(())
    }

    fn pass_over(&mut self, tag: u8, depth: usize) -> Result<(), Stop> {
        match tag {
            // true, false as objects
            b'x' | b'y' => {}
            // date, number as an object
            b'D' | b'n' => {
                self.bytes(8)?;
            }
            // bigint, bigint as an object
            b'Z' | b'z' => {
                let bits = self.varint()?;
                self.bytes(bits >> 1)?;
            }
            // string as an object
            b's' => {
                self.value(depth + 1)?;
            }
            b'R' => {
                self.value(depth + 1)?;
                self.varint()?;
            }
            // reference to an object seen before
            b'^' => {
                self.varint()?;
            }
            b';' => self.pass_over_until(b':', depth, 1)?,
            b'\'' => self.pass_over_until(b',', depth, 1)?,
            b'B' => {
                let length = self.varint()?;
                self.bytes(length)?;
            }
            b'\\' => self.host_object(depth)?,
            _ => return Err(Stop::Unknown),
        }
        Ok(())
    }

    /// Values up to the tag `end`, and as many numbers behind it.
    fn pass_over_until(&mut self, end: u8, depth: usize, numbers: usize) -> Result<(), Stop> {
        loop {
            while self.peek()? == 0 {
                self.at += 1;
            }
            if self.peek()? == end {
                self.at += 1;
                for _ in 0..numbers {
                    self.varint()?;
                }
                return Ok(());
            }
            let before = self.json.len();
            self.value(depth + 1)?;
            self.json.truncate(before);
        }
    }

    /// As Node's child processes write them: a typed array or `Buffer`, or an object's properties.
    fn host_object(&mut self, depth: usize) -> Result<(), Stop> {
        match self.varint()? {
            0 => {
                self.varint()?;
                let length = self.varint()?;
                self.bytes(length)?;
                Ok(())
            }
            1 => self.value(depth + 1).map(drop),
            _ => Err(Stop::Unknown),
        }
    }

    fn peek(&self) -> Result<u8, Stop> {
        self.payload.get(self.at).copied().ok_or(CUT)
    }

    fn byte(&mut self) -> Result<u8, Stop> {
        let byte = self.peek()?;
        self.at += 1;
        Ok(byte)
    }

    fn bytes(&mut self, length: u32) -> Result<&'a [u8], Stop> {
        let length = usize::try_from(length).map_err(|_| CUT)?;
        let end = self.at.checked_add(length).ok_or(CUT)?;
        let bytes = self.payload.get(self.at..end).ok_or(CUT)?;
        self.at = end;
        Ok(bytes)
    }

    fn array_of<const N: usize>(&mut self) -> Result<[u8; N], Stop> {
        let end = self.at + N;
        let bytes = self
            .payload
            .get(self.at..end)
            .and_then(|bytes| bytes.first_chunk::<N>())
            .ok_or(CUT)?;
        self.at = end;
        Ok(*bytes)
    }

    fn varint(&mut self) -> Result<u32, Stop> {
        let mut number = 0;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.byte()?;
            number |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Stop::Malformed("a number that does not end"))
    }
}
