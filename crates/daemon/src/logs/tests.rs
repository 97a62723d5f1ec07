//! With real pipes and files: the thread as a whole, and what a successor makes of each state that a kill can leave.

use super::journal::{Ledger, Record, Step};
use super::thread::Thread;
use super::*;
use rustix::pipe::{SpliceFlags, splice, tee};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::Instant;

fn spec(name: &str) -> AppSpec {
    AppSpec {
        name: name.into(),
        cwd: "/".into(),
        ..AppSpec::default()
    }
}

fn logs(directory: &Path) -> Logs {
    let memory = Memory::create(MEMORY).unwrap();
    Logs::start(&directory.join("logs"), memory, &Contents::default()).unwrap()
}

fn app(spec: AppSpec) -> AppLogs {
    AppLogs {
        spec,
        ids: Arc::new(|slot| slot.0 + 10),
        owner: None,
        mode: 0o600,
    }
}

fn open(outputs: &Arc<dyn OpenOutput>, worker: u32, stream: Stream) -> File {
    File::from(outputs.open(WorkerId(worker), Slot(worker - 1), stream).unwrap())
}

fn until(what: &str, mut true_now: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !true_now() {
        assert!(begin.elapsed() < Duration::from_secs(20), "not in time: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn has(path: &Path, text: &str) {
    until(&format!("{text:?} in {}", path.display()), || {
        fs::read_to_string(path).is_ok_and(|found| found == text)
    });
}

#[test]
fn output_comes_into_the_files() {
    let home = tempfile::tempdir().unwrap();
    let logs = logs(home.path());
    let outputs = logs.app(app(spec("a")));
    let (mut out, mut err) = (open(&outputs, 1, Stream::Out), open(&outputs, 1, Stream::Err));
    let path = home.path().join("logs/a-out.log");
    has(&path, "");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let above = fs::metadata(path.parent().unwrap()).unwrap();
    assert_eq!(above.permissions().mode() & 0o777, 0o700);
    out.write_all(b"one\ntwo").unwrap();
    err.write_all(b"oops\n").unwrap();
    has(&path, "one\ntwo");
    has(&home.path().join("logs/a-error.log"), "oops\n");
    assert!(!logs.drained("a", WorkerId(1)));
    drop((out, err));
    until("both streams have ended", || logs.drained("a", WorkerId(1)));
    assert_eq!(logs.trouble("a"), None);
}

#[test]
fn what_is_there_is_written_before_the_end() {
    let home = tempfile::tempdir().unwrap();
    let logs = logs(home.path());
    let outputs = logs.app(app(spec("a")));
    let mut out = open(&outputs, 1, Stream::Out);
    out.write_all(b"last words").unwrap();
    drop(logs);
    assert_eq!(
        fs::read_to_string(home.path().join("logs/a-out.log")).unwrap(),
        "last words"
    );
}

#[test]
fn one_file_for_both_gets_both() {
    let home = tempfile::tempdir().unwrap();
    let logs = logs(home.path());
    let outputs = logs.app(app(AppSpec {
        log_file: Some("true".into()),
        ..spec("a")
    }));
    let (mut out, mut err) = (open(&outputs, 1, Stream::Out), open(&outputs, 1, Stream::Err));
    let (both, own) = (home.path().join("logs/a.log"), home.path().join("logs/a-out.log"));
    out.write_all(b"one\n").unwrap();
    has(&both, "one\n");
    err.write_all(b"two\n").unwrap();
    has(&both, "one\ntwo\n");
    has(&own, "one\n");
}

#[test]
fn lines_are_dated_and_whole() {
    let home = tempfile::tempdir().unwrap();
    let logs = logs(home.path());
    let outputs = logs.app(app(AppSpec {
        log_date_format: Some("[D]".into()),
        ..spec("a")
    }));
    let (mut one, mut two) = (open(&outputs, 1, Stream::Out), open(&outputs, 2, Stream::Out));
    let path = home.path().join("logs/a-out.log");
    one.write_all(b"first\nbe").unwrap();
    has(&path, "D: first\n");
    two.write_all(b"other\n").unwrap();
    has(&path, "D: first\nD: other\n");
    one.write_all(b"gun\nend").unwrap();
    has(&path, "D: first\nD: other\nD: begun\n");
    drop(one);
    has(&path, "D: first\nD: other\nD: begun\nD: end\n");
}

#[test]
fn a_line_that_fills_its_pipe_is_cut() {
    let home = tempfile::tempdir().unwrap();
    let logs = logs(home.path());
    let outputs = logs.app(app(AppSpec {
        log_type: Some("json".into()),
        ..spec("a")
    }));
    let mut out = open(&outputs, 1, Stream::Out);
    out.write_all(&vec![b'x'; 200_000]).unwrap();
    out.write_all(b"\n").unwrap();
    drop(out);
    until("the end", || logs.drained("a", WorkerId(1)));
    let text = fs::read_to_string(home.path().join("logs/a-out.log")).unwrap();
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let length: usize = lines
        .iter()
        .map(|line| line["message"].as_str().unwrap().len())
        .sum();
    assert_eq!(length, 200_000);
    let (last, others) = lines.split_last().unwrap();
    assert!(others.iter().all(|line| line["partial"] == true));
    assert_eq!(last.get("partial"), None);
    assert_eq!(last["process_id"], 10);
}

#[test]
fn long_raw_lines_of_several_workers_stay_whole() {
    let home = tempfile::tempdir().unwrap();
    let logs = logs(home.path());
    let outputs = logs.app(app(spec("a")));
    let writers: Vec<_> = [(1, b'a'), (2, b'b'), (3, b'c')]
        .map(|(worker, letter)| {
            let mut out = open(&outputs, worker, Stream::Out);
            std::thread::spawn(move || {
                let mut line = vec![letter; 20_000];
                line.push(b'\n');
                (0..30).for_each(|_| out.write_all(&line).unwrap());
            })
        })
        .into_iter()
        .collect();
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    until("all is written", || {
        (1..=3).all(|worker| logs.drained("a", WorkerId(worker)))
    });
    let text = fs::read_to_string(home.path().join("logs/a-out.log")).unwrap();
    assert_eq!(text.len(), 3 * 30 * 20_001);
    let torn = text
        .lines()
        .filter(|line| line.len() != 20_000 || !line.bytes().all(|b| b == line.as_bytes()[0]));
    // The other's turn comes after 50 ms even if a line has not ended: on a busy machine that may happen.
    assert!(torn.count() < 20);
}

#[test]
fn emptied_removed_and_renamed_files() {
    let home = tempfile::tempdir().unwrap();
    let logs = logs(home.path());
    let outputs = logs.app(app(spec("a")));
    let mut out = open(&outputs, 1, Stream::Out);
    let (path, old) = (home.path().join("logs/a-out.log"), home.path().join("old"));
    out.write_all(b"1\n").unwrap();
    has(&path, "1\n");
    logs.flush(vec![path.clone(), home.path().join("none")]).unwrap();
    out.write_all(b"2\n").unwrap();
    has(&path, "2\n");
    fs::remove_file(&path).unwrap();
    out.write_all(b"3\n").unwrap();
    has(&path, "3\n");
    fs::rename(&path, &old).unwrap();
    out.write_all(b"4\n").unwrap();
    has(&old, "3\n4\n");
    logs.reopen(Some("a")).unwrap();
    out.write_all(b"5\n").unwrap();
    has(&path, "5\n");
    fs::OpenOptions::new()
        .append(true)
        .open(&path)
        .unwrap()
        .write_all(b"of others\n")
        .unwrap();
    out.write_all(b"6\n").unwrap();
    has(&path, "5\nof others\n6\n");
    fs::rename(&path, &old).unwrap();
    logs.reopen(None).unwrap();
    out.write_all(b"7\n").unwrap();
    has(&path, "7\n");
}

#[test]
fn what_cannot_be_written_waits() {
    let home = tempfile::tempdir().unwrap();
    let logs = logs(home.path());
    fs::write(home.path().join("logs"), "in the way").unwrap();
    let dated = AppSpec {
        log_date_format: Some("[D]".into()),
        ..spec("b")
    };
    let outputs = [logs.app(app(spec("a"))), logs.app(app(dated))];
    let mut outs = [
        open(&outputs[0], 1, Stream::Out),
        open(&outputs[1], 1, Stream::Out),
    ];
    outs.iter_mut().for_each(|out| out.write_all(b"kept\n").unwrap());
    for name in ["a", "b"] {
        until("the trouble is told", || {
            logs.trouble(name).is_some_and(|why| why.contains("5 bytes wait"))
        });
        let why = logs.trouble(name).unwrap();
        assert!(why.starts_with("cannot write /"), "{why}");
        assert!(!why.contains("os error"), "{why}");
    }
    fs::remove_file(home.path().join("logs")).unwrap();
    has(&home.path().join("logs/a-out.log"), "kept\n");
    has(&home.path().join("logs/b-out.log"), "D: kept\n");
    until("the trouble is over", || {
        logs.trouble("a").or_else(|| logs.trouble("b")).is_none()
    });
}

#[test]
fn a_full_disk_loses_nothing() {
    let home = tempfile::tempdir().unwrap();
    let logs = logs(home.path());
    // A device that is always full, until the link leads elsewhere.
    for (name, format) in [("a", None), ("b", Some("[D]".to_owned()))] {
        let path = home.path().join(format!("{name}.log"));
        symlink("/dev/full", &path).unwrap();
        let outputs = logs.app(app(AppSpec {
            out_file: Some(path.clone()),
            log_date_format: format,
            ..spec(name)
        }));
        let mut out = open(&outputs, 1, Stream::Out);
        out.write_all(b"kept\n").unwrap();
        until("the disk is full", || {
            logs.trouble(name)
                .is_some_and(|why| why.contains("no space left on device"))
        });
        fs::remove_file(&path).unwrap();
        logs.reopen(None).unwrap();
        has(&path, if name == "a" { "kept\n" } else { "D: kept\n" });
    }
}

#[test]
fn a_link_in_a_directory_of_all_is_not_followed() {
    let home = tempfile::tempdir().unwrap();
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o1777)).unwrap();
    let victim = home.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    symlink(&victim, home.path().join("link.log")).unwrap();
    let logs = logs(home.path());
    let outputs = logs.app(app(AppSpec {
        out_file: Some(home.path().join("link.log")),
        ..spec("a")
    }));
    open(&outputs, 1, Stream::Out).write_all(b"x").unwrap();
    until("it is refused", || logs.trouble("a").is_some());
    assert_eq!(fs::read_to_string(victim).unwrap(), "precious");
    fs::remove_file(home.path().join("link.log")).unwrap();
}

#[test]
fn nothing_is_opened_for_no_files() {
    let home = tempfile::tempdir().unwrap();
    let logs = logs(home.path());
    let outputs = logs.app(app(AppSpec {
        disable_logs: Some(true),
        ..spec("a")
    }));
    open(&outputs, 1, Stream::Out).write_all(b"x").unwrap();
    assert!(logs.drained("a", WorkerId(1)));
}

#[test]
fn what_a_worker_wrote_last() {
    let home = tempfile::tempdir().unwrap();
    let logs = logs(home.path());
    let outputs = logs.app(app(spec("a")));
    let ended = |worker, streams: [File; 2]| {
        drop(streams);
        until("it has ended", || logs.drained("a", WorkerId(worker)));
    };
    let both = |worker| [Stream::Out, Stream::Err].map(|stream| open(&outputs, worker, stream));
    let mut first = both(1);
    first[0].write_all(b"hello\n").unwrap();
    ended(1, first);
    assert_eq!(logs.last_lines("a", 1).unwrap(), ["hello"]);
    let mut second = both(2);
    for line in 0..30 {
        second[0].write_all(format!("{line}\n").as_bytes()).unwrap();
    }
    second[1].write_all(b"Error\n  at x").unwrap();
    ended(2, second);
    let lines = logs.last_lines("a", 2).unwrap();
    assert_eq!((lines.len(), lines[0].as_str()), (20, "12"));
    assert_eq!(lines[18..], ["Error", "  at x"]);
    // Two at a time: nobody knows whose the lines are.
    let (third, mut fourth) = (both(3), both(4));
    fourth[0].write_all(b"x\n").unwrap();
    ended(3, third);
    ended(4, fourth);
    assert_eq!((logs.last_lines("a", 3), logs.last_lines("a", 4)), (None, None));
    logs.forget("a");
    assert_eq!(logs.last_lines("a", 2), None);
}

/// A predecessor that died at a certain point: it made these, and never closed them.
struct Dead {
    home: tempfile::TempDir,
    memory: Memory,
    out: File,
    ledger: Ledger,
    pipe: OwnedFd,
    aside: [OwnedFd; 2],
    file: File,
}

impl Dead {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("x.log");
        let mut file = File::create(&path).unwrap();
        file.write_all(b"before\n").unwrap();
        let (pipe, out) = rustix::pipe::pipe().unwrap();
        let (read_end, write_end) = rustix::pipe::pipe().unwrap();
        let mut ledger = Ledger::default();
        let fd = pipe.as_raw_fd();
        let route = Route {
            app: "a".into(),
            id: 0,
            worker: 1,
            err: false,
            files: vec![path.clone()],
            mode: 0o600,
            style: Style::Dated("[D]".into()),
        };
        ledger.apply(Record::Pipe { fd, route });
        let ends = [read_end.as_raw_fd(), write_end.as_raw_fd()];
        ledger.apply(Record::Aside { fd, ends });
        ledger.apply(Record::File {
            fd: file.as_raw_fd(),
            path,
        });
        let mut out = File::from(out);
        out.write_all(b"one\ntwo\nrest").unwrap();
        Self {
            home,
            memory: Memory::create(MEMORY).unwrap(),
            out,
            ledger,
            pipe,
            aside: [read_end, write_end],
            file,
        }
    }

    fn step(&mut self, step: Step) {
        let fd = self.pipe.as_raw_fd();
        self.ledger.apply(Record::Step { fd, step });
    }

    fn move_step() -> Step {
        Step::Move {
            raw: 8,
            at: 0,
            from: vec![Some(7)],
        }
    }

    fn move_now(&self) {
        let moved = splice(&self.pipe, None, &self.aside[1], None, 8, SpliceFlags::NONBLOCK);
        assert_eq!(moved.unwrap(), 8);
    }

    /// What is in the file when the successor has gone on, and the worker has ended its line.
    fn heir(mut self) -> String {
        self.memory
            .snapshot(&serde_json::to_vec(&self.ledger).unwrap())
            .unwrap();
        let left = Contents::read(self.memory.fd()).unwrap();
        std::mem::forget((self.pipe, self.aside, self.file));
        let logs = Logs::start(self.home.path(), self.memory, &left).unwrap();
        self.out.write_all(b"!\n").unwrap();
        drop(self.out);
        until("all is written", || logs.drained("a", WorkerId(1)));
        fs::read_to_string(self.home.path().join("x.log")).unwrap()
    }
}

const WHOLE: &str = "before\nD: one\nD: two\nD: rest!\n";

#[test]
fn killed_between_two_rounds() {
    assert_eq!(Dead::new().heir(), WHOLE);
}

#[test]
fn killed_with_copies_in_the_aside() {
    let mut dead = Dead::new();
    dead.step(Step::Peek);
    tee(&dead.pipe, &dead.aside[1], 100, SpliceFlags::NONBLOCK).unwrap();
    assert_eq!(dead.heir(), WHOLE);
}

#[test]
fn killed_after_the_announcement() {
    let mut dead = Dead::new();
    dead.step(Dead::move_step());
    assert_eq!(dead.heir(), WHOLE);
}

#[test]
fn killed_at_any_byte_of_the_write() {
    let text = b"D: one\nD: two\n";
    for written in 0..=text.len() {
        let mut dead = Dead::new();
        dead.step(Dead::move_step());
        dead.move_now();
        dead.file.write_all(&text[..written]).unwrap();
        assert_eq!(dead.heir(), WHOLE, "after {written} bytes");
    }
}

#[test]
fn killed_before_the_next_round_is_announced() {
    let mut dead = Dead::new();
    dead.step(Dead::move_step());
    dead.move_now();
    dead.file.write_all(b"D: one\nD: two\n").unwrap();
    rustix::io::read(&dead.aside[0], &mut [0; 8]).unwrap();
    assert_eq!(dead.heir(), WHOLE);
}

#[test]
fn a_descriptor_that_is_gone_is_left_out() {
    let home = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::default();
    ledger.files.insert(1_000_000, home.path().join("x"));
    let shared = Shared::new(Box::new(Memory::create(MEMORY).unwrap()), ledger.clone(), 5).unwrap();
    let shared = Arc::new(shared);
    let mut thread = Thread::new(Arc::clone(&shared)).unwrap();
    thread.adopt(&ledger);
    assert_eq!(lock(&shared.journal).ledger(), &Ledger::default());
    assert_eq!(shared.adopted, BTreeSet::from([5, 1_000_000]));
}
