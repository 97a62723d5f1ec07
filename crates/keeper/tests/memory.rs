//! A writer that is killed at any instant leaves the old or the new, and nothing that it had done is lost.

use std::env;
use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{self, Child, Command, Stdio};

use everup_keeper::{Contents, Memory};

/// Set in the writer: the memory and the file of what is done.
const WRITER: &str = "EVERUP_TEST_WRITER";
const EVERY: u64 = 23;

/// What is written in one step: its number, and bytes that follow from it.
fn blob(number: u64) -> Vec<u8> {
    let len = usize::try_from(number * 7919 % 2500).expect("a small number");
    let fill = u8::try_from(number % 251 + 1).expect("it works");
    [number.to_le_bytes().as_slice(), &vec![fill; len]].concat()
}

fn step(memory: &mut Memory, number: u64) {
    let blob = blob(number);
    if number.is_multiple_of(EVERY) {
        memory.snapshot(&blob).expect("it works");
    } else if number.is_multiple_of(2) {
        memory.append(&blob).expect("it works");
    } else {
        let space = memory.reserve(&blob[..8], 4096).expect("it works");
        let filled = blob.len() - 8;
        space[..filled].copy_from_slice(&blob[8..]);
        memory.commit(filled);
    }
}

/// The number of the last step that can be seen; everything seen is checked.
fn last(contents: &Contents) -> u64 {
    let first = contents
        .snapshot
        .first_chunk()
        .expect("a snapshot has its number");
    let first = u64::from_le_bytes(*first);
    assert_eq!(contents.snapshot, blob(first), "a torn snapshot");
    for (record, number) in contents.records.iter().zip(first + 1..) {
        assert_eq!(*record, blob(number), "a torn or lost record");
    }
    let count = u64::try_from(contents.records.len()).expect("it works");
    assert!(count < EVERY, "records from before the snapshot");
    if let Some((head, space)) = &contents.reserved {
        let next = blob(first + count + 1);
        assert_eq!(head, &next[..8]);
        // Filled by a copy in this process, which has no order, unlike that of a system call, which a kill waits for.
        let filled = space
            .iter()
            .zip(&next[8..])
            .all(|(seen, meant)| *seen == *meant || *seen == 0);
        assert!(filled && space.len() <= next.len() - 8, "a torn reservation");
    }
    first + count
}

/// Not a test of its own: the process that is killed.
#[test]
fn writer() {
    let Ok(what) = env::var(WRITER) else {
        return;
    };
    let (memory, done) = what.split_once('|').unwrap();
    let memory = OpenOptions::new().read(true).write(true).open(memory).unwrap();
    let done = OpenOptions::new().write(true).open(done).unwrap();
    let (mut memory, contents) = Memory::open(memory.into()).unwrap();
    for number in last(&contents) + 1.. {
        step(&mut memory, number);
        done.write_all_at(&number.to_le_bytes(), 0).unwrap();
    }
}

struct Writer(Child);

impl Writer {
    fn start(memory: &Memory, done: &Path) -> Self {
        let path = format!("/proc/{}/fd/{}", process::id(), memory.fd().as_raw_fd());
        let child = Command::new(env::current_exe().expect("it works"))
            .args(["--exact", "writer"])
            .env(WRITER, format!("{path}|{}", done.display()))
            .stdout(Stdio::null())
            .spawn()
            .expect("it works");
        Self(child)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn killed_at_any_instant_nothing_is_torn_or_lost() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("done");
    let done = File::create_new(&path).unwrap();
    drop(done);
    let done = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    done.write_all_at(&[0; 8], 0).unwrap();
    let number = || {
        let mut bytes = [0; 8];
        done.read_exact_at(&mut bytes, 0).unwrap();
        u64::from_le_bytes(bytes)
    };
    let mut memory = Memory::create("test:killed").unwrap();
    memory.snapshot(&blob(0)).unwrap();
    for round in 0..300_u64 {
        let mut writer = Writer::start(&memory, &path);
        let goal = number() + 1 + round * 31 % 97;
        while number() < goal {
            assert!(
                writer.0.try_wait().unwrap().is_none(),
                "the writer found something wrong"
            );
            std::thread::yield_now();
        }
        drop(writer);
        let seen = last(&Contents::read(memory.fd()).unwrap());
        let said = number();
        assert!(
            seen == said || seen == said + 1,
            "{said} steps were done, and {seen} are there"
        );
    }
}
