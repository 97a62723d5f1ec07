//! Bytes to frames: where one message ends and the next begins.
//!
//! Job: cut what was read into frames, whatever the splits, and refuse frames that are too long. A frame is the
//! text of a line without its newline (`json`), or the payload behind a length of four bytes (`advanced`).
//!
//! States: nothing kept (frames that lie whole in one read are lent from it, without a copy) → a part kept →
//! a frame completed in the kept part, which is forgotten at the next call.
//!
//! Invariant: what is kept never exceeds the limit and a length prefix.
//!
//! Must not know: what a frame says.

use super::message::Serialization;
use super::session::WireError;

/// Above this size the room of a completed frame is given back to the allocator.
const KEEP: usize = 256 * 1024;
/// The length prefix of `advanced`.
const PREFIX: usize = 4;

#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct Deframer {
    serialization: Serialization,
    limit: usize,
    kept: Vec<u8>,
    /// `kept` holds a frame that was already given out.
    spent: bool,
}

impl Deframer {
    pub(super) fn new(serialization: Serialization, limit: usize) -> Self {
        Self {
            serialization,
            limit,
            kept: Vec::new(),
            spent: false,
        }
    }

    /// The next whole frame, if there is one; takes from `input` what was used or kept.
    pub(super) fn next<'a, 'i: 'a>(
        &'a mut self,
        input: &mut &'i [u8],
    ) -> Result<Option<&'a [u8]>, WireError> {
        if self.spent {
            self.forget();
        }
        match self.serialization {
            Serialization::Json => self.line(input),
            Serialization::Advanced => self.prefixed(input),
        }
    }

    /// Drops everything kept.
    pub(super) fn clear(&mut self) {
        self.kept = Vec::new();
        self.spent = false;
    }

    fn forget(&mut self) {
        self.kept.clear();
        self.kept.shrink_to(KEEP);
        self.spent = false;
    }

    fn line<'a, 'i: 'a>(&'a mut self, input: &mut &'i [u8]) -> Result<Option<&'a [u8]>, WireError> {
        let end = input.iter().position(|&byte| byte == b'\n');
        let here = end.unwrap_or(input.len());
        if self.kept.len() + here > self.limit {
            return Err(WireError::FrameTooLong { limit: self.limit });
        }
        let (line, rest) = input.split_at(here);
        if end.is_none() {
            self.kept.extend_from_slice(line);
            *input = rest;
            return Ok(None);
        }
        *input = &rest[1..];
        if self.kept.is_empty() {
            return Ok(Some(line));
        }
        self.kept.extend_from_slice(line);
        self.spent = true;
        Ok(Some(&self.kept))
    }

    fn prefixed<'a, 'i: 'a>(&'a mut self, input: &mut &'i [u8]) -> Result<Option<&'a [u8]>, WireError> {
        if self.kept.is_empty()
            && let Some((prefix, rest)) = input.split_first_chunk::<PREFIX>()
        {
            let length = self.length(*prefix)?;
            if let Some((payload, rest)) = rest.split_at_checked(length) {
                *input = rest;
                return Ok(Some(payload));
            }
        }
        if !self.keep(input, PREFIX) {
            return Ok(None);
        }
        let Some(prefix) = self.kept.first_chunk::<PREFIX>() else {
            return Ok(None);
        };
        let length = self.length(*prefix)?;
        if !self.keep(input, PREFIX + length) {
            return Ok(None);
        }
        self.spent = true;
        Ok(Some(&self.kept[PREFIX..]))
    }

    /// Moves input into `kept` until it holds `wanted` bytes; whether it does.
    fn keep(&mut self, input: &mut &[u8], wanted: usize) -> bool {
        let missing = wanted.saturating_sub(self.kept.len()).min(input.len());
        let (taken, rest) = input.split_at(missing);
        self.kept.extend_from_slice(taken);
        *input = rest;
        self.kept.len() >= wanted
    }

    fn length(&self, prefix: [u8; PREFIX]) -> Result<usize, WireError> {
        match usize::try_from(u32::from_be_bytes(prefix)) {
            Ok(length) if length <= self.limit => Ok(length),
            _ => Err(WireError::FrameTooLong { limit: self.limit }),
        }
    }
}
