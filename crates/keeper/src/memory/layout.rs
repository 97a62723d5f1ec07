//! Where the bytes of a [`Memory`](super::Memory) lie, and in which order they are stored. Pure: bytes and numbers.
//!
//! ```text
//! 0        magic (a word)
//! 8        root: where the snapshot starts (upper half, in words from HEADER), how long it is (lower half)
//! HEADER   first half ............ | size/2   second half ............ | size
//!
//! a region: snapshot, padded to words, then entries up to the end word
//! an entry: a record    word = length + 1,  bytes, padded to words
//!           reserved    word = RESERVED | head's length << 32 | space,  head, space
//!           the end     word = 0
//! ```
//!
//! The region in use is in one half; a new snapshot is written into the other, and one store of the root makes it
//! the valid one. An entry is written behind the end word, together with a new end word; one store into the old
//! end word makes it valid. So whoever reads after the writer was killed finds the old or the new, never a
//! mixture. A file of nothing but zeros is an empty one.
//!
//! Growing at least doubles the file. Then all that was there lies in the first half: nothing has to be moved.

use std::ops::Range;

/// Offset of the first half.
pub(super) const HEADER: usize = 64;
/// Size of a new memory: two pages, one for each half.
pub(super) const INITIAL: usize = 8192;
/// Nobody has so much state; this is a bug that goes on and on.
const LARGEST: usize = 1 << 31;

const WORD: usize = 8;
const ROOT: usize = 8;
const MAGIC: u64 = u64::from_le_bytes(*b"everup\0\x01");
const RESERVED: u64 = 1 << 63;
const HEAD_SHIFT: u32 = 32;

/// Something that bytes are stored into, in this order.
pub(crate) trait Store {
    /// Stores bytes, in any order among themselves.
    fn write(&mut self, at: usize, bytes: &[u8]);
    /// Stores zeros.
    fn zero(&mut self, at: usize, len: usize);
    /// Stores one word as a whole: after everything before, and before everything behind.
    fn publish(&mut self, at: usize, word: u64);
}

/// Why bytes are not a memory of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    /// Another magic number: not ours, or of another version.
    Magic,
    /// A size that no writer makes.
    Size,
    /// A length that points outside.
    Bounds,
}

/// What a memory holds, as places in it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parsed {
    pub(super) snapshot: Range<usize>,
    pub(super) records: Vec<Range<usize>>,
    /// Head and space of what was reserved and not committed.
    pub(super) reserved: Option<(Range<usize>, Range<usize>)>,
    /// Where the next entry goes.
    end: usize,
}

/// Reads all of it.
pub(super) fn parse(bytes: &[u8]) -> Result<Parsed, Broken> {
    if bytes.len() < INITIAL || !bytes.len().is_multiple_of(2 * WORD) {
        return Err(Broken::Size);
    }
    match word(bytes, 0)? {
        // Killed before the magic was stored: everything else is zero too.
        0 | MAGIC => {}
        _ => return Err(Broken::Magic),
    }
    let root = word(bytes, ROOT)?;
    let start = number(root >> 32)? * WORD + HEADER;
    let snapshot = within(bytes, start, number(root & u64::from(u32::MAX))?)?;
    let mut parsed = Parsed {
        end: padded(snapshot.end),
        snapshot,
        records: Vec::new(),
        reserved: None,
    };
    loop {
        let at = parsed.end;
        let entry = word(bytes, at)?;
        if entry == 0 {
            return Ok(parsed);
        }
        if entry & RESERVED != 0 {
            let head = within(bytes, at + WORD, number((entry & !RESERVED) >> HEAD_SHIFT)?)?;
            let space = within(bytes, head.end, number(entry & u64::from(u32::MAX))?)?;
            parsed.reserved = Some((head, space));
            return Ok(parsed);
        }
        let record = within(bytes, at + WORD, number(entry - 1)?)?;
        parsed.end = padded(record.end);
        parsed.records.push(record);
    }
}

/// The writer's view: where things go next.
#[derive(Debug)]
pub(super) struct Writer {
    size: usize,
    /// Where the end word of the region in use is: the next entry.
    end: usize,
    /// For each half: everything from here to the half's end is zero.
    clean: [usize; 2],
    /// The entry at `end` is a reservation.
    reserved: Option<Reservation>,
}

#[derive(Debug, Clone, Copy)]
struct Reservation {
    head: usize,
    space: usize,
}

impl Writer {
    /// A new memory of [`INITIAL`] zeros.
    pub(super) fn create(store: &mut impl Store) -> Self {
        store.publish(0, MAGIC);
        Self {
            size: INITIAL,
            end: HEADER,
            clean: [HEADER, INITIAL / 2],
            reserved: None,
        }
    }

    /// Goes on with what `bytes` hold.
    pub(super) fn resume(bytes: &[u8], parsed: &Parsed) -> Self {
        let middle = bytes.len() / 2;
        Self {
            size: bytes.len(),
            end: parsed.end,
            clean: [
                HEADER + used(&bytes[HEADER..middle]),
                middle + used(&bytes[middle..]),
            ],
            reserved: parsed.reserved.as_ref().map(|(head, space)| Reservation {
                head: head.len(),
                space: space.len(),
            }),
        }
    }

    /// The size that the file must get before a snapshot of so many bytes, if it is too small.
    pub(super) fn growth_for_snapshot(&self, len: usize) -> Result<Option<usize>, TooLarge> {
        if len >= LARGEST {
            return Err(TooLarge);
        }
        let half = self.half(self.other());
        Ok((half.start + padded(len) + WORD > half.end).then(|| self.grown(2 * (padded(len) + WORD))))
    }

    /// The size that the file must get before an entry of so many bytes, if it is too small.
    pub(super) fn growth_for_entry(&self, len: usize) -> Result<Option<usize>, TooLarge> {
        let end = self.end + WORD + padded(len) + WORD;
        if len >= LARGEST || end >= LARGEST {
            return Err(TooLarge);
        }
        Ok((end > self.half(self.current()).end).then(|| self.grown(2 * end)))
    }

    /// The file has this size now, as asked for.
    pub(super) fn grow(&mut self, size: usize) {
        debug_assert!(size >= 2 * self.size, "what is there fits into the first half");
        // The old second half may be clean before its end, but the old first half lies before it.
        let second_is_used = self.clean[1] > self.size / 2;
        let first = if second_is_used {
            self.clean[1]
        } else {
            self.clean[0]
        };
        self.clean = [first, size / 2];
        self.size = size;
    }

    /// Replaces everything. There is room.
    pub(super) fn snapshot(&mut self, store: &mut impl Store, blob: &[u8]) {
        self.give_up_space();
        let half = self.other();
        let start = self.half(half).start;
        let end = start + padded(blob.len());
        store.write(start, blob);
        store.zero(end, WORD);
        self.dirty(half, start + blob.len());
        store.publish(ROOT, packed((start - HEADER) / WORD, blob.len(), 0));
        self.end = end;
        self.reserved = None;
    }

    /// Adds a record. There is room.
    pub(super) fn append(&mut self, store: &mut impl Store, record: &[u8]) {
        self.abandon(store);
        store.write(self.end + WORD, record);
        self.finish(store, record.len());
    }

    /// Adds a head with zeros behind it; says where those are. There is room.
    pub(super) fn reserve(&mut self, store: &mut impl Store, head: &[u8], space: usize) -> usize {
        self.abandon(store);
        let half = self.current();
        let start = self.end + WORD + head.len();
        store.write(self.end + WORD, head);
        let clean = self.clean[half];
        if clean > start {
            store.zero(start, space.min(clean - start));
        }
        self.dirty(half, start);
        store.publish(self.end, RESERVED | packed(head.len(), space, 0));
        self.reserved = Some(Reservation {
            head: head.len(),
            space,
        });
        start
    }

    /// Makes the head and the first `len` bytes behind it a record. Nothing if nothing is reserved.
    pub(super) fn commit(&mut self, store: &mut impl Store, len: usize) {
        if let Some(Reservation { head, space }) = self.reserved.take() {
            self.finish(store, head + len.min(space));
        }
    }

    /// The parts that hold nothing any more: they can be filled with zeros. With them, how many bytes are not zero yet.
    pub(super) fn waste(&self) -> ([Range<usize>; 2], usize) {
        let (current, other) = (self.current(), self.other());
        let end = match self.reserved {
            Some(Reservation { head, space }) => padded(self.end + WORD + head + space),
            None => self.end,
        };
        let behind = end + WORD..self.half(current).end;
        let unused = self.half(other);
        let bytes = self.clean[current].saturating_sub(behind.start) + self.clean[other] - unused.start;
        ([behind, unused], bytes)
    }

    /// What [`Self::waste`] named is zero now.
    pub(super) fn wasted(&mut self) {
        let ([behind, unused], _) = self.waste();
        let (current, other) = (self.current(), self.other());
        self.clean[current] = self.clean[current].min(behind.start);
        self.clean[other] = unused.start;
    }

    fn finish(&mut self, store: &mut impl Store, len: usize) {
        let end = padded(self.end + WORD + len);
        store.zero(end, WORD);
        self.dirty(self.current(), self.end + WORD + len);
        store.publish(self.end, packed(0, len, 1));
        self.end = end;
    }

    /// A reservation that nobody committed gives way. First it must be invalid: its bytes are about to change.
    fn abandon(&mut self, store: &mut impl Store) {
        if self.reserved.is_some() {
            store.publish(self.end, 0);
        }
        self.give_up_space();
    }

    /// Who reserved may have filled it.
    fn give_up_space(&mut self) {
        if let Some(Reservation { head, space }) = self.reserved.take() {
            self.dirty(self.current(), self.end + WORD + head + space);
        }
    }

    fn dirty(&mut self, half: usize, end: usize) {
        self.clean[half] = self.clean[half].max(end);
    }

    fn grown(&self, least: usize) -> usize {
        least.max(2 * self.size).next_power_of_two()
    }

    fn current(&self) -> usize {
        usize::from(self.end >= self.size / 2)
    }

    fn other(&self) -> usize {
        1 - self.current()
    }

    fn half(&self, half: usize) -> Range<usize> {
        match half {
            0 => HEADER..self.size / 2,
            _ => self.size / 2..self.size,
        }
    }
}

/// More than a memory may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooLarge;

/// How many bytes there are up to the last that is not zero.
pub(super) fn used(bytes: &[u8]) -> usize {
    const BLOCK: usize = 1024;
    // Most of it is zero, and comparing blocks is quick.
    let blocks = bytes.rchunks_exact(BLOCK);
    let zero = blocks.take_while(|block| *block == [0; BLOCK]).count() * BLOCK;
    let rest = &bytes[..bytes.len() - zero];
    rest.iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last + 1)
}

fn padded(len: usize) -> usize {
    len.next_multiple_of(WORD)
}

/// Both numbers are below [`LARGEST`].
fn packed(upper: usize, lower: usize, more: u64) -> u64 {
    debug_assert!(upper < LARGEST && lower < LARGEST, "no room in half a word");
    let [upper, lower] = [upper, lower].map(|half| u64::try_from(half).unwrap_or(0));
    (upper << HEAD_SHIFT | lower) + more
}

fn number(half: u64) -> Result<usize, Broken> {
    usize::try_from(half)
        .ok()
        .filter(|number| *number < LARGEST)
        .ok_or(Broken::Bounds)
}

fn word(bytes: &[u8], at: usize) -> Result<u64, Broken> {
    let range = within(bytes, at, WORD)?;
    let word = bytes[range].first_chunk().ok_or(Broken::Bounds)?;
    Ok(u64::from_ne_bytes(*word))
}

fn within(bytes: &[u8], at: usize, len: usize) -> Result<Range<usize>, Broken> {
    let end = at.checked_add(len).filter(|end| *end <= bytes.len());
    Ok(at..end.ok_or(Broken::Bounds)?)
}
