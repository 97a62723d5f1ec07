//! What there is on this machine. Looks, and judges nothing; what cannot be seen is absent.

use super::super::home::home;
use super::super::startup::{self, service::Service};
use super::super::told::Told;
use crate::port_owner;
use everup_api::v1::{self, AppState, List, Pong};
use rustix::fs::{Access, access, statvfs};
use rustix::process::{PidfdFlags, Resource, getrlimit, pidfd_open};
use serde::Serialize;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// See the fields.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) home: Home,
    pub(crate) daemon: Daemon,
    /// Processes with the mark of a worker and without an everup above them.
    pub(crate) orphans: Vec<(u32, String)>,
    pub(crate) unit: Option<Unit>,
    /// Whether there is one that we can write for.
    pub(crate) init_system: bool,
    pub(crate) limits: Limits,
    pub(crate) kernel: String,
    pub(crate) features: Vec<Feature>,
    pub(crate) somaxconn: Option<u64>,
    pub(crate) cgroup: Cgroup,
    pub(crate) node: Option<(PathBuf, String)>,
    pub(crate) taken_ports: Vec<Taken>,
}

#[derive(Debug)]
pub(crate) struct Home {
    pub(crate) path: PathBuf,
    pub(crate) there: Option<There>,
    pub(crate) can_be_made: bool,
}

#[derive(Debug)]
pub(crate) struct There {
    pub(crate) directory: bool,
    pub(crate) ours: bool,
    pub(crate) uid: u32,
    pub(crate) mode: u32,
    pub(crate) writable: bool,
    pub(crate) free_bytes: u64,
    /// `None` where the file system does not count them.
    pub(crate) free_inodes: Option<u64>,
}

#[derive(Debug)]
pub(crate) struct Daemon {
    pub(crate) our_version: &'static str,
    pub(crate) answers: Option<Pong>,
    /// Whether there is one.
    pub(crate) socket: bool,
    /// By this process.
    pub(crate) lock_held: Option<u32>,
}

#[derive(Debug)]
pub(crate) struct Unit {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
    pub(crate) of_user: bool,
    pub(crate) enabled: bool,
    pub(crate) linger: bool,
    /// Folders of its PATH.
    pub(crate) missing_path: Vec<PathBuf>,
    pub(crate) expected: Service,
}

/// Of descriptors; `None` is unlimited.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) soft: Option<u64>,
    pub(crate) hard: Option<u64>,
}

#[derive(Debug)]
pub(crate) struct Feature {
    pub(crate) name: &'static str,
    pub(crate) needed_for: &'static str,
    pub(crate) there: bool,
}

#[derive(Debug)]
pub(crate) struct Cgroup {
    pub(crate) unified: bool,
    pub(crate) writable: bool,
}

/// A port that an app wants and another process has.
#[derive(Debug, Serialize)]
pub(crate) struct Taken {
    pub(crate) app: String,
    pub(crate) address: String,
    pub(crate) pid: u32,
    pub(crate) command: String,
}

/// How long a daemon may take to say that it is there.
const ANSWER: Duration = Duration::from_secs(3);

impl Facts {
    pub(crate) fn gather() -> Result<Self, Told> {
        let home = home()?;
        let daemon = daemon(&home);
        let list = apps(&home, daemon.answers.is_some());
        let rlimit = getrlimit(Resource::Nofile);
        Ok(Self {
            home: look_at_home(home),
            daemon,
            orphans: orphans(Path::new("/proc")),
            unit: unit(true).or_else(|| unit(false)),
            init_system: Path::new("/run/systemd/system").is_dir(),
            limits: Limits {
                soft: rlimit.current,
                hard: rlimit.maximum,
            },
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            features: features(),
            somaxconn: number("/proc/sys/net/core/somaxconn"),
            cgroup: cgroup(),
            node: node(),
            taken_ports: list.map(|list| taken_ports(&list)).unwrap_or_default(),
        })
    }
}

fn look_at_home(path: PathBuf) -> Home {
    let there = fs::metadata(&path).ok().map(|metadata| {
        let room = statvfs(&path).ok();
        There {
            directory: metadata.is_dir(),
            ours: metadata.uid() == rustix::process::geteuid().as_raw(),
            uid: metadata.uid(),
            mode: metadata.mode() & 0o7777,
            writable: access(&path, Access::WRITE_OK | Access::EXEC_OK).is_ok(),
            free_bytes: room
                .as_ref()
                .map_or(u64::MAX, |room| room.f_bavail.saturating_mul(room.f_frsize)),
            free_inodes: room.filter(|room| room.f_files > 0).map(|room| room.f_favail),
        }
    });
    let above = path.ancestors().skip(1).find(|folder| folder.exists());
    let can_be_made = above.is_some_and(|folder| access(folder, Access::WRITE_OK | Access::EXEC_OK).is_ok());
    Home {
        path,
        there,
        can_be_made,
    }
}

fn client(home: &Path) -> Option<v1::Client> {
    v1::Client::connect(&home.join(v1::SOCKET), Some(ANSWER)).ok()
}

fn daemon(home: &Path) -> Daemon {
    let socket = home.join(v1::SOCKET);
    Daemon {
        our_version: env!("CARGO_PKG_VERSION"),
        answers: client(home).and_then(|mut client| client.ping().ok()),
        socket: fs::symlink_metadata(&socket).is_ok(),
        lock_held: holder(&home.join("keeper.lock")),
    }
}

/// Who has locked the file. By the kernel's table: to try the lock would be to hold it for a moment.
fn holder(file: &Path) -> Option<u32> {
    let inode = fs::metadata(file).ok()?.ino();
    let table = fs::read_to_string("/proc/locks").ok()?;
    table.lines().find_map(|line| lock(line, inode))
}

/// `1: FLOCK  ADVISORY  WRITE 4711 08:01:12345 0 EOF`
fn lock(line: &str, inode: u64) -> Option<u32> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [_, "FLOCK", _, _, pid, file, ..] = fields[..] else {
        return None;
    };
    let same = file.rsplit(':').next()?.parse() == Ok(inode);
    same.then(|| pid.parse().ok()).flatten()
}

fn apps(home: &Path, running: bool) -> Option<List> {
    if !running {
        return None;
    }
    client(home)?.get("list", &[]).ok()
}

/// Addresses of apps that do not run, and are somebody else's now. Those that run hold theirs themselves.
fn taken_ports(list: &List) -> Vec<Taken> {
    let idle = list
        .apps
        .iter()
        .filter(|app| matches!(app.state, AppState::Stopped | AppState::Failed));
    let addresses = idle.flat_map(|app| {
        let port = app
            .spec
            .env
            .get("PORT")
            .filter(|port| port.parse::<u16>().is_ok());
        let own = port.map(|port| format!("tcp://0.0.0.0:{port}"));
        app.spec
            .listen
            .iter()
            .cloned()
            .chain(own)
            .map(|address| (app.spec.name.clone(), address))
    });
    let taken = addresses.filter_map(|(app, address)| {
        let owner = port_owner::find(&address)?;
        Some(Taken {
            app,
            address,
            pid: owner.pid,
            command: owner.command,
        })
    });
    taken.collect()
}

/// Every process with the mark whose parents, as far as they have it too, have lost theirs. Any program can be a
/// primary; one that is no worker and is not the one that takes orphans is one.
fn orphans(proc: &Path) -> Vec<(u32, String)> {
    let pids: Vec<u32> = fs::read_dir(proc)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    let found = pids
        .iter()
        .copied()
        .filter(|pid| marked(proc, *pid) && alone(proc, *pid));
    found.map(|pid| (pid, command(proc, pid))).collect()
}

fn alone(proc: &Path, pid: u32) -> bool {
    let mut above = pid;
    // What is read while it changes may have a loop in it.
    for _ in 0..100 {
        if is_everup(proc, above) {
            return false;
        }
        let Some(next) = parent(proc, above) else {
            return false;
        };
        if next <= 1 || !marked(proc, next) {
            return next <= 1 || takes_orphans(proc, next);
        }
        above = next;
    }
    false
}

/// A user's own systemd.
fn takes_orphans(proc: &Path, pid: u32) -> bool {
    let name = fs::read_to_string(proc.join(pid.to_string()).join("comm"));
    name.is_ok_and(|name| name.trim() == "systemd")
}

fn parent(proc: &Path, pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(proc.join(pid.to_string()).join("stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

fn is_everup(proc: &Path, pid: u32) -> bool {
    let of = fs::read_link(proc.join(pid.to_string()).join("exe")).ok();
    let ours = std::env::current_exe().ok();
    let named = |path: &PathBuf| {
        path.file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("everup"))
    };
    of.is_some() && (of == ours || of.as_ref().is_some_and(named))
}

fn marked(proc: &Path, pid: u32) -> bool {
    let environment = fs::read(proc.join(pid.to_string()).join("environ")).unwrap_or_default();
    environment
        .split(|byte| *byte == 0)
        .any(|variable| variable.starts_with(b"EVERUP_WORKER="))
}

fn command(proc: &Path, pid: u32) -> String {
    let line = fs::read(proc.join(pid.to_string()).join("cmdline")).unwrap_or_default();
    let words = String::from_utf8_lossy(&line);
    let shown: String = words
        .trim_end_matches('\0')
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(60)
        .collect();
    shown
}

fn unit(of_user: bool) -> Option<Unit> {
    let (path, expected) = startup::expected(of_user)?;
    let text = fs::read_to_string(&path).ok()?;
    let wants = if of_user {
        "default.target.wants"
    } else {
        "multi-user.target.wants"
    };
    let enabled = path.parent()?.join(wants).join(path.file_name()?);
    let linger = Path::new("/var/lib/systemd/linger").join(&expected.user);
    let folders = text.lines().find_map(|line| {
        line.strip_prefix("Environment=")?
            .trim_matches('"')
            .strip_prefix("PATH=")
    });
    let missing = folders
        .into_iter()
        .flat_map(std::env::split_paths)
        .filter(|folder| !standard(folder) && !folder.is_dir());
    Some(Unit {
        of_user,
        enabled: fs::symlink_metadata(enabled).is_ok(),
        linger: linger.exists(),
        missing_path: missing.collect(),
        expected,
        path,
        text,
    })
}

/// Not each of them is on each machine.
fn standard(folder: &Path) -> bool {
    ["/usr/local", "/usr", "/bin", "/sbin", "/snap"]
        .iter()
        .any(|top| folder.starts_with(top))
}

fn features() -> Vec<Feature> {
    let own = pidfd_open(rustix::process::getpid(), PidfdFlags::empty());
    let memory = rustix::fs::memfd_create("everup:doctor", rustix::fs::MemfdFlags::CLOEXEC);
    vec![
        Feature {
            name: "pidfd_open",
            needed_for: "processes are watched and signalled by it",
            there: own.is_ok(),
        },
        Feature {
            name: "memfd_create",
            needed_for: "state outlives the daemon in such files",
            there: memory.is_ok(),
        },
        Feature {
            name: "/proc",
            needed_for: "processes and descriptors are found there",
            there: Path::new("/proc/self/fd").is_dir(),
        },
    ]
}

fn number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn cgroup() -> Cgroup {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let path = own.lines().find_map(|line| line.strip_prefix("0::/"));
    let folder = path.map(|path| Path::new("/sys/fs/cgroup").join(path));
    let controllers = folder
        .as_ref()
        .and_then(|folder| fs::read_to_string(folder.join("cgroup.controllers")).ok());
    Cgroup {
        unified: controllers.is_some_and(|names| names.contains("memory")),
        writable: folder.is_some_and(|folder| access(&folder, Access::WRITE_OK).is_ok()),
    }
}

fn node() -> Option<(PathBuf, String)> {
    let path = std::env::var_os("PATH")?;
    let program = std::env::split_paths(&path)
        .map(|folder| folder.join("node"))
        .find(|file| file.is_file())?;
    let output = Command::new(&program).arg("--version").output().ok()?;
    Some((program, String::from_utf8_lossy(&output.stdout).trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_found_in_the_table() {
        assert_eq!(
            lock("1: FLOCK  ADVISORY  WRITE 4711 08:01:12345 0 EOF", 12345),
            Some(4711)
        );
        assert_eq!(
            lock("1: POSIX  ADVISORY  WRITE 4711 08:01:12345 0 EOF", 12345),
            None
        );
        assert_eq!(
            lock("1: FLOCK  ADVISORY  WRITE 4711 08:01:12346 0 EOF", 12345),
            None
        );
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(holder(file.path()), None);
        rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).unwrap();
        assert_eq!(holder(file.path()), Some(std::process::id()));
    }

    #[test]
    fn a_marked_process_without_an_everup_above_it_is_an_orphan() {
        let proc = tempfile::tempdir().unwrap();
        let process = |pid: u32, parent: u32, exe: &str, mark: bool| {
            let folder = proc.path().join(pid.to_string());
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join("stat"), format!("{pid} (a) b) S {parent} 1 1")).unwrap();
            fs::write(
                folder.join("environ"),
                if mark { "A=1\0EVERUP_WORKER=x\0" } else { "A=1\0" },
            )
            .unwrap();
            fs::write(folder.join("cmdline"), "node\0app.js\0").unwrap();
            std::os::unix::fs::symlink(exe, folder.join("exe")).unwrap();
        };
        process(1, 0, "/sbin/init", false);
        process(10, 1, "/usr/bin/everup", false);
        process(11, 10, "/usr/bin/node", true);
        process(12, 11, "/usr/bin/node", true);
        process(20, 1, "/usr/bin/node", true);
        process(21, 1, "/usr/bin/node", false);
        process(22, 20, "/usr/bin/node", true);
        process(30, 1, "/srv/primary-of-its-own", false);
        process(31, 30, "/srv/worker", true);
        let mut found: Vec<u32> = orphans(proc.path()).into_iter().map(|(pid, _)| pid).collect();
        found.sort_unstable();
        assert_eq!(found, [20, 22]);
    }
}
