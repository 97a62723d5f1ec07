//! Facts to findings. Pure: nothing is looked at here.

use super::facts::{Daemon, Facts, Home, Limits, Unit};
use serde::Serialize;

/// How much it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Level {
    /// As it should be.
    Good,
    /// It works, and there is something to know.
    Warning,
    /// Something does not work.
    Bad,
}

/// What was found about one thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// `home`, `daemon`, `limits`, …
    pub(crate) about: &'static str,
    pub(crate) level: Level,
    pub(crate) text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hint: Option<String>,
}

impl Finding {
    fn new(level: Level, about: &'static str, text: impl Into<String>) -> Self {
        Self {
            about,
            level,
            text: text.into(),
            hint: None,
        }
    }

    fn good(about: &'static str, text: impl Into<String>) -> Self {
        Self::new(Level::Good, about, text)
    }

    fn warning(about: &'static str, text: impl Into<String>) -> Self {
        Self::new(Level::Warning, about, text)
    }

    fn bad(about: &'static str, text: impl Into<String>) -> Self {
        Self::new(Level::Bad, about, text)
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// A path of a UNIX socket is no longer than this.
const SOCKET_PATH: usize = 107;
/// Fewer descriptors than this are few for a daemon with a handful of apps.
const DESCRIPTORS: u64 = 4096;
/// Less room than this is soon none.
const ROOM: u64 = 100 << 20;
const INODES: u64 = 1000;
/// The queue of connections that Node and most servers ask for.
const BACKLOG: u64 = 511;
/// Since then, a process that is not our child can be asked how it ended.
const EXIT_INFO: (u32, u32) = (6, 15);

/// All findings, in the order in which they are told.
pub(crate) fn findings(facts: &Facts) -> Vec<Finding> {
    let mut found = home(&facts.home);
    found.extend(daemon(&facts.daemon));
    found.extend(leftovers(facts));
    found.push(unit(facts.unit.as_ref(), facts.init_system));
    found.push(limits(&facts.limits));
    found.extend(kernel(facts));
    found.push(backlog(facts.somaxconn));
    found.push(cgroup(facts));
    found.push(node(facts));
    found.extend(ports(facts));
    found
}

fn home(home: &Home) -> Vec<Finding> {
    let path = home.path.display();
    let socket = home.path.as_os_str().len() + "/everup.sock".len();
    if socket > SOCKET_PATH {
        let text = format!("{path}: the socket's path would have {socket} bytes, and may have {SOCKET_PATH}");
        return vec![Finding::bad("home", text).hint("set EVERUP_HOME to a shorter path")];
    }
    let Some(there) = &home.there else {
        return vec![match home.can_be_made {
            true => Finding::good(
                "home",
                format!("{path} is not there yet: the first start makes it"),
            ),
            false => Finding::bad("home", format!("{path} is not there, and cannot be made"))
                .hint("set EVERUP_HOME to a directory that can be written"),
        }];
    };
    let mut found = Vec::new();
    if !there.directory {
        return vec![Finding::bad("home", format!("{path} is no directory")).hint("move it out of the way")];
    }
    if !there.ours {
        let text = format!("{path} belongs to uid {}", there.uid);
        found.push(
            Finding::bad("home", text).hint("run everup as its owner, or name another with EVERUP_HOME"),
        );
    } else if there.mode & 0o077 != 0 {
        let text = format!("{path} is open to others (mode {:03o})", there.mode);
        found.push(Finding::warning("home", text).hint(format!("chmod 700 {path}")));
    }
    if !there.writable {
        found.push(
            Finding::bad("home", format!("{path} cannot be written"))
                .hint("its file system may be read-only: set EVERUP_HOME to another place"),
        );
    }
    if there.free_bytes < ROOM || there.free_inodes.is_some_and(|inodes| inodes < INODES) {
        let text = format!("{path}: {} MiB are free", there.free_bytes >> 20);
        found.push(
            Finding::bad("disk", text)
                .hint("state and logs cannot be written on a full disk: everup flush, or make room"),
        );
    }
    if found.is_empty() {
        let text = format!("{path}, {} MiB free", there.free_bytes >> 20);
        found.push(Finding::good("home", text));
    }
    found
}

fn daemon(daemon: &Daemon) -> Vec<Finding> {
    if let Some(pong) = &daemon.answers {
        let text = format!(
            "everup {} answers: daemon {}, keeper {}",
            pong.version, pong.pid, pong.keeper_pid
        );
        let mut found = vec![Finding::good("daemon", text)];
        if pong.version != daemon.our_version {
            let text = format!(
                "this program is everup {}, the daemon is {}",
                daemon.our_version, pong.version
            );
            found.push(Finding::warning("daemon", text).hint("everup upgrade: no app is interrupted"));
        }
        return found;
    }
    vec![match (daemon.lock_held, daemon.socket) {
        (Some(pid), _) => Finding::bad(
            "daemon",
            format!("process {pid} holds the lock, and no daemon answers"),
        )
        .hint("it may just be starting; else read daemon.log"),
        (None, true) => Finding::warning(
            "daemon",
            "no daemon runs, and its socket is still there: it was killed, or the machine lost power",
        )
        .hint("the next start replaces it and starts the apps again"),
        (None, false) => Finding::good("daemon", "no daemon runs"),
    }]
}

fn leftovers(facts: &Facts) -> Vec<Finding> {
    if facts.orphans.is_empty() {
        return Vec::new();
    }
    let named: Vec<String> = facts
        .orphans
        .iter()
        .take(5)
        .map(|(pid, command)| format!("{pid} ({command})"))
        .collect();
    let more = match facts.orphans.len() {
        0..=5 => String::new(),
        all => format!(" and {} more", all - 5),
    };
    let pids: Vec<String> = facts.orphans.iter().map(|(pid, _)| pid.to_string()).collect();
    vec![
        Finding::bad(
            "leftovers",
            format!(
                "processes of workers whose everup is gone: {}{more}",
                named.join(", ")
            ),
        )
        .hint(format!("kill {}", pids.join(" "))),
    ]
}

fn unit(unit: Option<&Unit>, init_system: bool) -> Finding {
    let Some(unit) = unit else {
        return match init_system {
            true => Finding::warning("boot", "nothing starts everup when the machine boots")
                .hint("everup startup"),
            false => Finding::good("boot", "there is no systemd here"),
        };
    };
    let path = unit.path.display();
    let again = match unit.of_user {
        true => "everup startup --user-unit",
        false => "everup startup",
    };
    let wrong = |text: String| Finding::bad("boot", text).hint(again);
    let value = |key: &str| {
        unit.text
            .lines()
            .find_map(|line| line.strip_prefix(key))
            .map(|v| v.trim_matches('"'))
    };
    let line = value("ExecStart=")
        .unwrap_or_default()
        .trim_start_matches(['-', '"']);
    if !line.starts_with(&*unit.expected.program.to_string_lossy()) {
        return wrong(format!(
            "{path} starts `{line}`, and this is {}",
            unit.expected.program.display()
        ));
    }
    let home = format!("EVERUP_HOME={}", unit.expected.home.display());
    if !unit.text.contains(&home) {
        return wrong(format!(
            "{path} is for another EVERUP_HOME than {}",
            unit.expected.home.display()
        ));
    }
    if !unit
        .text
        .contains(&format!("form {}.", super::super::startup::service::FORM))
    {
        return Finding::warning("boot", format!("{path} was written by another version of everup"))
            .hint(again);
    }
    if !unit.enabled {
        return wrong(format!("{path} is not enabled"));
    }
    if unit.of_user && !unit.linger {
        let text = format!("{path} ends when {} logs out", unit.expected.user);
        return Finding::bad("boot", text).hint("loginctl enable-linger");
    }
    if let Some(folder) = unit.missing_path.first() {
        let text = format!(
            "{path} looks for programs in {}, which is not there",
            folder.display()
        );
        return Finding::warning("boot", text).hint(again);
    }
    Finding::good("boot", format!("{path} starts everup when the machine boots"))
}

fn limits(limits: &Limits) -> Finding {
    let Limits { soft, hard } = *limits;
    let shown = |limit: Option<u64>| limit.map_or("unlimited".to_owned(), |limit| limit.to_string());
    let text = format!("descriptors: {} (at most {})", shown(soft), shown(hard));
    if hard.is_some_and(|hard| hard < DESCRIPTORS) {
        return Finding::warning("limits", text)
            .hint("each worker takes a few, and each connection one: raise LimitNOFILE= of the unit, or `ulimit -Hn`");
    }
    Finding::good("limits", text)
}

fn kernel(facts: &Facts) -> Vec<Finding> {
    let release = &facts.kernel;
    let mut found: Vec<Finding> = facts
        .features
        .iter()
        .filter(|feature| !feature.there)
        .map(|feature| {
            Finding::bad("kernel", format!("{} is not there", feature.name)).hint(format!(
                "{}; a sandbox may forbid it, else a newer kernel is needed",
                feature.needed_for
            ))
        })
        .collect();
    if version(release).is_some_and(|version| version < EXIT_INFO) {
        found.push(
            Finding::warning("kernel", format!("Linux {release} has no PIDFD_GET_INFO")).hint(
                "how a worker ended while keeper and daemon were both gone cannot be known before Linux 6.15",
            ),
        );
    }
    if found.is_empty() {
        found.push(Finding::good(
            "kernel",
            format!("Linux {release} has all that is used"),
        ));
    }
    found
}

/// `6.18.5-amd64`: the first two numbers.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn backlog(somaxconn: Option<u64>) -> Finding {
    match somaxconn {
        Some(length) if length < BACKLOG => Finding::warning(
            "network",
            format!("at most {length} connections wait for a busy server"),
        )
        .hint("sysctl net.core.somaxconn=4096"),
        Some(length) => Finding::good(
            "network",
            format!("up to {length} connections may wait (somaxconn)"),
        ),
        None => Finding::warning("network", "net.core.somaxconn cannot be read"),
    }
}

fn cgroup(facts: &Facts) -> Finding {
    match (facts.cgroup.unified, facts.cgroup.writable) {
        (true, true) => Finding::good(
            "cgroup",
            "control groups can be made: --memory-max, --cpus, --pids-max work",
        ),
        (true, false) => Finding::warning(
            "cgroup",
            "our control group is not ours to divide: no --memory-max, --cpus, --pids-max",
        )
        .hint("a unit with Delegate=yes has one (everup startup)"),
        (false, _) => Finding::warning(
            "cgroup",
            "there are no control groups of version 2: no --memory-max, --cpus, --pids-max",
        ),
    }
}

fn node(facts: &Facts) -> Finding {
    match &facts.node {
        Some((path, version)) => Finding::good("node", format!("{} {version}", path.display())),
        None => {
            Finding::warning("node", "node is not in PATH").hint("apps in JavaScript need it; others do not")
        }
    }
}

fn ports(facts: &Facts) -> Vec<Finding> {
    let told = facts.taken_ports.iter().map(|taken| {
        Finding::bad(
            "ports",
            format!(
                "{} wants {}, which process {} has: {}",
                taken.app, taken.address, taken.pid, taken.command
            ),
        )
        .hint(format!("stop that process, or change the port of {}", taken.app))
    });
    told.collect()
}
