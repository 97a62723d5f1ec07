//! The layout, cut after every store; the real thing, opened again.

use std::os::fd::OwnedFd;

use proptest::collection::vec;
use proptest::prelude::*;

use super::layout::{HEADER, INITIAL, Store, Writer, parse, used};
use super::*;

/// Bytes that remember each single store.
struct Journal {
    bytes: Vec<u8>,
    stores: Vec<(usize, Vec<u8>)>,
}

impl Journal {
    fn store(&mut self, at: usize, bytes: &[u8]) {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        self.stores.push((at, bytes.to_vec()));
    }
}

impl Store for Journal {
    fn write(&mut self, at: usize, bytes: &[u8]) {
        for (offset, byte) in bytes.iter().enumerate() {
            self.store(at + offset, &[*byte]);
        }
    }
    fn zero(&mut self, at: usize, len: usize) {
        self.write(at, &vec![0; len]);
    }
    fn publish(&mut self, at: usize, word: u64) {
        self.store(at, &word.to_ne_bytes());
    }
}

#[derive(Debug, Clone)]
enum Operation {
    Snapshot(Vec<u8>),
    Append(Vec<u8>),
    /// Head, space, what is filled in, whether it is committed.
    Reserve(Vec<u8>, usize, Vec<u8>, bool),
}

fn operation() -> impl Strategy<Value = Operation> {
    let blob = || vec(any::<u8>(), 0..200);
    prop_oneof![
        (blob(), 1..30_usize).prop_map(|(blob, times)| Operation::Snapshot(blob.repeat(times))),
        blob().prop_map(Operation::Append),
        (blob(), 0..6000_usize, vec(1..=u8::MAX, 0..100), any::<bool>()).prop_map(
            |(head, space, mut filled, commit)| {
                filled.truncate(space);
                Operation::Reserve(head, space, filled, commit)
            }
        ),
    ]
}

/// The same in plain values.
fn expected(contents: &mut Contents, operation: &Operation) {
    match operation {
        Operation::Snapshot(blob) => {
            *contents = Contents {
                snapshot: blob.clone(),
                ..Contents::default()
            };
        }
        Operation::Append(record) => {
            contents.reserved = None;
            contents.records.push(record.clone());
        }
        Operation::Reserve(head, _, filled, true) => {
            contents.reserved = None;
            contents.records.push([head.as_slice(), filled].concat());
        }
        Operation::Reserve(head, _, filled, false) => {
            contents.reserved = Some((head.clone(), filled.clone()));
        }
    }
}

fn seen(bytes: &[u8]) -> Contents {
    contents(String::new(), bytes, &parse(bytes).unwrap())
}

struct Simulation {
    journal: Journal,
    writer: Writer,
}

impl Simulation {
    fn new() -> Self {
        let mut journal = Journal {
            bytes: vec![0; INITIAL],
            stores: Vec::new(),
        };
        let writer = Writer::create(&mut journal);
        Self { journal, writer }
    }

    fn grow(&mut self, growth: Result<Option<usize>, TooLarge>) {
        if let Some(size) = growth.unwrap() {
            self.journal.bytes.resize(size, 0);
            self.writer.grow(size);
        }
    }

    fn apply(&mut self, operation: &Operation) {
        match operation {
            Operation::Snapshot(blob) => {
                let growth = self.writer.growth_for_snapshot(blob.len());
                self.grow(growth);
                self.writer.snapshot(&mut self.journal, blob);
            }
            Operation::Append(record) => {
                let growth = self.writer.growth_for_entry(record.len());
                self.grow(growth);
                self.writer.append(&mut self.journal, record);
            }
            Operation::Reserve(head, space, filled, commit) => {
                let growth = self.writer.growth_for_entry(head.len() + space);
                self.grow(growth);
                let at = self.writer.reserve(&mut self.journal, head, *space);
                assert_eq!(used(&self.journal.bytes[at..at + space]), 0, "the space is zero");
                self.journal.write(at, filled);
                if *commit {
                    self.writer.commit(&mut self.journal, filled.len());
                }
            }
        }
    }
}

/// What may be seen while an operation is under way: the old, the new, and what lies between by its meaning.
fn allowed(before: &Contents, after: &Contents, operation: &Operation, seen: &Contents) -> bool {
    if seen == before || seen == after {
        return true;
    }
    // An old reservation gives way first.
    let mut without = before.clone();
    without.reserved = None;
    if *seen == without && !matches!(operation, Operation::Snapshot(_)) {
        return true;
    }
    // A new one is filled step by step.
    if let (Operation::Reserve(head, _, filled, _), Some((seen_head, seen_filled))) =
        (operation, &seen.reserved)
    {
        without.reserved.clone_from(&seen.reserved);
        return *seen == without && seen_head == head && filled.starts_with(seen_filled);
    }
    false
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn cut_after_any_store_it_is_the_old_or_the_new(operations in vec(operation(), 1..12)) {
        let mut simulation = Simulation::new();
        let mut model = Contents::default();
        for operation in &operations {
            let before = model.clone();
            expected(&mut model, operation);
            let mut image = simulation.journal.bytes.clone();
            simulation.journal.stores.clear();
            simulation.apply(operation);
            image.resize(simulation.journal.bytes.len(), 0);
            prop_assert_eq!(&seen(&image), &before, "growing changes nothing");
            let mut last = None;
            for (at, bytes) in &simulation.journal.stores {
                image[*at..at + bytes.len()].copy_from_slice(bytes);
                // Looking is slow: only where the view can have changed.
                let view = parse(&image).map(|parsed| format!("{parsed:?}"));
                prop_assert!(view.is_ok());
                if bytes.len() > 1 || last.as_ref() != Some(&view) || matches!(operation, Operation::Reserve(..)) {
                    let seen = seen(&image);
                    prop_assert!(allowed(&before, &model, operation, &seen), "{:?} between {:?} and {:?}", seen, before, model);
                }
                last = Some(view);
            }
            prop_assert_eq!(&seen(&simulation.journal.bytes), &model);
        }
    }

    #[test]
    fn a_successor_goes_on_anywhere(operations in vec(operation(), 1..40), restarts in vec(any::<bool>(), 40)) {
        let mut simulation = Simulation::new();
        let mut model = Contents::default();
        for (operation, restart) in operations.iter().zip(restarts) {
            if restart {
                let parsed = parse(&simulation.journal.bytes).unwrap();
                simulation.writer = Writer::resume(&simulation.journal.bytes, &parsed);
            }
            simulation.apply(operation);
            simulation.journal.stores.clear();
            expected(&mut model, operation);
            prop_assert_eq!(&seen(&simulation.journal.bytes), &model);
        }
    }

    #[test]
    fn foreign_bytes_are_an_error_and_no_panic(mut bytes in vec(any::<u8>(), INITIAL), ours in any::<bool>()) {
        if ours {
            bytes[..8].fill(0);
        }
        let parsed = parse(&bytes);
        prop_assert!(parsed.is_err() || ours);
    }

    #[test]
    fn the_real_one_holds_what_was_written(operations in vec(operation(), 1..40), trims in vec(any::<bool>(), 40)) {
        let mut memory = Memory::create("test:real").unwrap();
        let mut model = Contents { name: "test:real".to_owned(), ..Contents::default() };
        for (operation, trim) in operations.iter().zip(trims) {
            apply(&mut memory, operation);
            expected(&mut model, operation);
            model.name = "test:real".to_owned();
            if trim {
                memory.trim().unwrap();
            }
            prop_assert_eq!(&Contents::read(memory.fd()).unwrap(), &model);
        }
        let (mut successor, contents) = Memory::open(memory.fd().try_clone_to_owned().unwrap()).unwrap();
        prop_assert_eq!(&contents, &model);
        successor.append(b"more").unwrap();
        expected(&mut model, &Operation::Append(b"more".to_vec()));
        prop_assert_eq!(&Contents::read(successor.fd()).unwrap(), &model);
    }
}

fn apply(memory: &mut Memory, operation: &Operation) {
    match operation {
        Operation::Snapshot(blob) => memory.snapshot(blob).unwrap(),
        Operation::Append(record) => memory.append(record).unwrap(),
        Operation::Reserve(head, space, filled, commit) => {
            let target = memory.reserve(head, *space).unwrap();
            assert_eq!(used(target), 0, "the space is zero");
            target[..filled.len()].copy_from_slice(filled);
            if *commit {
                memory.commit(filled.len());
            }
        }
    }
}

#[test]
fn a_file_of_zeros_is_an_empty_memory() {
    assert_eq!(seen(&vec![0; INITIAL]), Contents::default());
    assert!(parse(&[0; HEADER]).is_err());
}

#[test]
fn a_reservation_can_be_committed_by_the_successor() {
    let mut memory = Memory::create("test:handed over").unwrap();
    memory.append(b"first").unwrap();
    memory.reserve(b"head ", 1000).unwrap()[..4].copy_from_slice(b"tail");
    let fd: OwnedFd = memory.fd().try_clone_to_owned().unwrap();
    drop(memory);
    let (mut successor, contents) = Memory::open(fd).unwrap();
    assert_eq!(contents.reserved, Some((b"head ".to_vec(), b"tail".to_vec())));
    successor.commit(4);
    successor.append(b"last").unwrap();
    let contents = Contents::read(successor.fd()).unwrap();
    assert_eq!(
        contents.records,
        [b"first".to_vec(), b"head tail".to_vec(), b"last".to_vec()]
    );
}

#[test]
fn memories_are_found_by_name() {
    let memory = Memory::create("test:find me (deleted)").unwrap();
    let found = find().unwrap();
    assert_eq!(found.iter().filter(|(name, _)| name == memory.name()).count(), 1);
    drop(memory);
    assert!(
        !find()
            .unwrap()
            .iter()
            .any(|(name, _)| name == "test:find me (deleted)")
    );
}

#[test]
fn what_is_no_memory_is_refused() {
    let other = rustix::fs::memfd_create("other", MemfdFlags::CLOEXEC).unwrap();
    assert_eq!(
        Memory::open(other).unwrap_err().kind(),
        io::ErrorKind::InvalidData
    );
    let newer = rustix::fs::memfd_create("everup:newer", MemfdFlags::CLOEXEC).unwrap();
    rustix::io::write(&newer, &[7; INITIAL]).unwrap();
    assert_eq!(
        Memory::open(newer).unwrap_err().to_string(),
        "a memory of another version"
    );
}

#[test]
fn an_idle_memory_takes_two_pages_again_after_a_burst() {
    let mut memory = Memory::create("test:small").unwrap();
    for _ in 0..4 {
        memory.snapshot(&[1; 300_000]).unwrap();
    }
    memory.snapshot(b"idle").unwrap();
    memory.trim().unwrap();
    let pages = rustix::fs::fstat(memory.fd()).unwrap().st_blocks * 512 / 4096;
    assert!(pages <= 2, "{pages} pages");
    assert_eq!(Contents::read(memory.fd()).unwrap().snapshot, b"idle");
}
