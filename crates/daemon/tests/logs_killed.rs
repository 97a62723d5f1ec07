//! The process that takes the output is killed again and again while workers write, and its successor goes on: each line is
//! in each file once.
//!
//! Without the keeper: this program is the one that shares its descriptors with the process that is killed. It is a
//! `main` of its own, because a process that clones itself must have one thread only.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that is a program of its own"
)]

use everup::{Slot, Stream, WorkerId};
use everup_api::AppSpec;
use everup_daemon::logs::{AppLogs, Logs, MEMORY};
use everup_keeper::{Contents, Memory};
use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

const KILLS: u64 = 100;
const WRITERS: u32 = 3;
const LIMIT: Duration = Duration::from_secs(30);

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if let Some(at) = args.iter().position(|arg| arg == "--write") {
        return write_lines(&args[at + 1], Path::new(&args[at + 2]), &args[at + 3]);
    }
    // `cargo test NAME` is about other tests.
    if args
        .iter()
        .skip(1)
        .any(|arg| arg == "--list" || !arg.starts_with('-'))
    {
        return;
    }
    let plain = AppSpec {
        name: "a".into(),
        cwd: "/".into(),
        ..AppSpec::default()
    };
    let both = AppSpec {
        log_file: Some("true".into()),
        ..plain.clone()
    };
    let dated = AppSpec {
        log_date_format: Some("HH:mm:ss.SSS".into()),
        ..plain.clone()
    };
    let json = AppSpec {
        log_type: Some("json".into()),
        ..both.clone()
    };
    survive("raw", &plain, &["a-out.log"], 4_000);
    survive("both", &both, &["a-out.log", "a.log"], 4_000);
    survive("dated", &dated, &["a-out.log"], 9_000);
    survive("json", &json, &["a-out.log", "a.log"], 9_000);
}

fn survive(what: &str, spec: &AppSpec, files: &[&str], longest: usize) {
    let home = tempfile::tempdir().unwrap();
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
    let ours = numbers();
    let mut child = start(home.path(), spec, &ours, Some(longest));
    until("the writers run", || home.path().join("running").exists());
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    for _ in 0..KILLS {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        // wait: a kill at any instant
        std::thread::sleep(Duration::from_micros(random % 25_000));
        kill(child);
        child = start(home.path(), spec, &ours, None);
    }
    fs::write(home.path().join("stop"), "").unwrap();
    let paths: Vec<PathBuf> = files
        .iter()
        .map(|name| home.path().join("logs").join(name))
        .collect();
    for path in &paths {
        until("all have ended", || {
            let text = fs::read(path).unwrap_or_default();
            String::from_utf8_lossy(&text).matches(" end").count() >= WRITERS as usize
        });
    }
    kill(child);
    for path in &paths {
        let count = check(path);
        println!(
            "{what}: {count} lines through {KILLS} kills in {}",
            path.display()
        );
        assert!(count > KILLS, "the writers did not write");
    }
    for fd in numbers().difference(&ours) {
        drop(own(*fd));
    }
    while rustix::process::wait(rustix::process::WaitOptions::NOHANG).is_ok_and(|reaped| reaped.is_some()) {}
}

/// Lines are `NAME NUMBER xxx`: for each name all numbers in order. How many there are.
fn check(path: &Path) -> u64 {
    let text = fs::read_to_string(path).unwrap();
    let mut next = vec![0_u64; WRITERS as usize];
    for line in text.lines() {
        let line = match serde_json::from_str::<serde_json::Value>(line) {
            Ok(object) => object["message"].as_str().unwrap().to_owned(),
            Err(_) => line.split_once(": ").map_or(line, |(_, line)| line).to_owned(),
        };
        let mut words = line.split(' ');
        let name: usize = words.next().unwrap().strip_prefix('w').unwrap().parse().unwrap();
        let number: u64 = words.next().unwrap().parse().unwrap();
        assert_eq!(number, next[name], "w{name} in {}: {line:.40}", path.display());
        let rest = words.next().unwrap();
        let length: usize = words.next().unwrap_or("0").parse().unwrap();
        assert!(rest == "end" || rest.len() == length, "a torn line: {line:.60}");
        next[name] += 1;
    }
    next.iter().sum()
}

/// A worker: numbered lines of all lengths, until it is told to stop.
fn write_lines(name: &str, home: &Path, longest: &str) {
    let longest: usize = longest.parse().unwrap();
    let mut out = std::io::stdout();
    let (mut number, mut random) = (0_u64, u64::from(std::process::id()) | 1);
    while !home.join("stop").exists() {
        for _ in 0..20 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let length = match random % 8 {
                0 => usize::try_from(random >> 8).unwrap() % longest,
                _ => usize::try_from(random >> 8).unwrap() % 90,
            };
            let line = format!(
                "{name} {number} {} {}\n",
                "x".repeat(length.max(1)),
                length.max(1)
            );
            out.write_all(line.as_bytes()).unwrap();
            number += 1;
        }
        // wait: not all of the disk in no time
        std::thread::sleep(Duration::from_micros(random % 2_000));
    }
    out.write_all(format!("{name} {number} end\n").as_bytes())
        .unwrap();
}

/// A process that shares our descriptors and takes the output; it starts the workers if it is the first.
fn start(home: &Path, spec: &AppSpec, ours: &BTreeSet<i32>, longest: Option<usize>) -> i32 {
    // SAFETY: this process has one thread; the child goes on with a copy of its memory.
    #[expect(unsafe_code, reason = "there is no other way to share a table of descriptors")]
    let pid = unsafe { libc::syscall(libc::SYS_clone, libc::CLONE_FILES | libc::SIGCHLD, 0, 0, 0, 0) };
    if pid == 0 {
        let (home, spec, ours) = (home.to_owned(), spec.clone(), ours.clone());
        let thread = std::thread::spawn(move || serve(&home, spec, &ours, longest));
        thread.join().ok();
        std::process::abort();
    }
    i32::try_from(pid).unwrap()
}

fn serve(home: &Path, spec: AppSpec, ours: &BTreeSet<i32>, longest: Option<usize>) {
    let before = numbers();
    let found = everup_keeper::find().unwrap();
    let left = found.iter().find(|(name, _)| name == MEMORY);
    let (memory, left) = match left {
        Some((_, fd)) => Memory::open(own(*fd)).unwrap(),
        None => (Memory::create(MEMORY).unwrap(), Contents::default()),
    };
    let logs = Logs::start(&home.join("logs"), memory, &left).unwrap();
    let claimed: BTreeSet<i32> = logs.claimed().into_iter().collect();
    for fd in before.difference(&claimed) {
        if longest.is_none() && !ours.contains(fd) {
            drop(own(*fd));
        }
    }
    if let Some(longest) = longest {
        let outputs = logs.app(AppLogs {
            spec,
            ids: Arc::new(|slot| slot.0),
            owner: None,
            mode: 0o600,
        });
        for writer in 0..WRITERS {
            let out = outputs
                .open(WorkerId(writer + 1), Slot(writer), Stream::Out)
                .unwrap();
            let worker = Command::new(std::env::current_exe().unwrap())
                .args(["--write", &format!("w{writer}")])
                .arg(home)
                .arg(longest.to_string())
                .stdin(Stdio::null())
                .stdout(out)
                .spawn()
                .unwrap();
            // Its end is seen in the file, and whoever is its parent then has it.
            std::mem::forget(worker);
        }
        fs::write(home.join("running"), "").unwrap();
    }
    loop {
        std::thread::park();
    }
}

/// What is open in our table.
fn numbers() -> BTreeSet<i32> {
    let folder = fs::File::open("/proc/self/fd").unwrap();
    let own = folder.as_raw_fd();
    let entries = fs::read_dir("/proc/self/fd").unwrap();
    let all: Vec<i32> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    drop(folder);
    // The directory itself is not open any more.
    all.into_iter()
        .filter(|number| *number > 2 && *number != own)
        .filter(|number| fs::read_link(format!("/proc/self/fd/{number}")).is_ok())
        .collect()
}

fn own(fd: i32) -> OwnedFd {
    everup::possess(fd).unwrap()
}

fn kill(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty()).unwrap();
}

fn until(what: &str, mut true_now: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !true_now() {
        assert!(begun.elapsed() < LIMIT, "not in time: {what}");
        // wait: for a state, looked at again and again
        std::thread::sleep(Duration::from_millis(5));
    }
}
