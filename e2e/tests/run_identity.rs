//! Must show 7: limits and identity of workers, seen from inside the worker; and that such workers serve, stop and die
//! like any others. Most of it takes root; without it only the refusals are tested.

use anyhow::{Context, Result, ensure};
use e2e::http::get;
use e2e::{Ended, Everup, LIMIT, Run, binary, fixture, process, repository};
use rustix::process::Signal;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// A folder that everybody may read, with these files in it.
fn open_folder(files: &[PathBuf]) -> Result<TempDir> {
    let folder = tempfile::tempdir()?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
    for file in files {
        let copy = folder.path().join(file.file_name().context("a file's name")?);
        fs::copy(file, &copy)?;
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o755))?;
    }
    Ok(folder)
}

/// Interpreters that every user may execute: root's own may be among others.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

fn root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        e2e::say("not root: workers of other users are not tested");
    }
    root
}

/// `everup run` with a fixture that everybody may read.
fn start(program: &str, args: &[&str]) -> Result<(Run, TempDir)> {
    let folder = open_folder(&[fixture(program)])?;
    let run = Everup::run()?
        .env("PATH", PATH)
        .args(args)
        .arg(folder.path().join(program))
        .cwd(folder.path())
        .start()?;
    Ok((run, folder))
}

/// What the worker in a slot said of itself.
struct Facts(Vec<String>);

impl Facts {
    fn of(run: &Run, slot: usize) -> Result<Self> {
        let mark = format!(":{slot} | ");
        let lines = run.until("a worker's facts", LIMIT, |seen| {
            let own = seen.out.iter().filter_map(|line| line.split_once(&mark));
            let lines: Vec<String> = own.map(|(_, said)| said.to_owned()).collect();
            lines.iter().any(|line| line == "said: all").then_some(lines)
        })?;
        Ok(Self(lines))
    }

    /// The words after `name:`.
    fn get(&self, name: &str) -> Result<String> {
        let start = format!("{name}:");
        let value = self.0.iter().find_map(|line| line.strip_prefix(&start));
        let words = value.with_context(|| format!("no {name} in {:?}", self.0))?;
        Ok(words.split_whitespace().collect::<Vec<_>>().join(" "))
    }

    /// `soft hard` of a line of `/proc/PID/limits`.
    fn limit(&self, name: &str) -> Result<String> {
        let value = self.0.iter().find_map(|line| line.strip_prefix(name));
        let words = value.with_context(|| format!("no {name} in {:?}", self.0))?;
        Ok(words.split_whitespace().take(2).collect::<Vec<_>>().join(" "))
    }

    fn check(&self, expected: &[(&str, &str)]) -> Result<()> {
        for (name, value) in expected {
            let found = self.get(name)?;
            ensure!(found == *value, "{name} is {found:?} and not {value:?}");
        }
        Ok(())
    }
}

/// The entry of a user in the database, as its fields.
fn entry(user: &str) -> Result<Vec<String>> {
    let line = output("getent", &["passwd", user])?;
    Ok(line.split(':').map(Into::into).collect())
}

fn output(program: &str, args: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .args(args)
        .output()
        .context(program.to_owned())?;
    ensure!(output.status.success(), "{program} {args:?}: {}", output.status);
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// The CPUs that this process may use.
fn cpus() -> Result<Vec<u32>> {
    let set = rustix::thread::sched_getaffinity(None)?;
    Ok((0..1024).filter(|cpu| set.is_set(*cpu as usize)).collect())
}

const ALL: [&str; 22] = [
    "-i",
    "2",
    "--uid",
    "daemon",
    "--umask",
    "027",
    "--nice",
    "7",
    "--rlimit",
    "nofile=2048:4096",
    "--rlimit",
    "core=0:unlimited",
    "--rlimit",
    "memlock=1M",
    "--cpu-affinity",
    "auto",
    "--oom-score-adj",
    "300",
    "--no-new-privs",
    "--keep-cap",
    "net_bind_service",
    "--kill-timeout=10s",
];

/// With all options at once: what each worker of this program says of itself.
fn all_at_once(program: &str, descriptors: &str) -> Result<()> {
    if !root() {
        return Ok(());
    }
    let (run, _folder) = start(program, &ALL)?;
    let workers = run.ready(2)?;
    let daemon = entry("daemon")?;
    let groups = output("id", &["-G", "daemon"])?;
    let four = |id: &str| [id; 4].join(" ");
    let cpus = cpus()?;
    for worker in &workers {
        let slot = worker.slot as usize;
        let facts = Facts::of(&run, slot)?;
        facts.check(&[
            ("Uid", &four(&daemon[2])),
            ("Gid", &four(&daemon[3])),
            ("Groups", &groups),
            ("HOME", &daemon[5]),
            ("USER", "daemon"),
            ("LOGNAME", "daemon"),
            ("SHELL", &daemon[6]),
            ("umask", "0027"),
            ("nice", "7"),
            ("oom", "300"),
            ("NoNewPrivs", "1"),
            ("CapInh", "0000000000000400"),
            ("CapPrm", "0000000000000400"),
            ("CapEff", "0000000000000400"),
            ("CapAmb", "0000000000000400"),
            ("Cpus_allowed_list", &cpus[slot % cpus.len()].to_string()),
        ])?;
        for (name, expected) in [
            ("Max open files", descriptors),
            ("Max core file size", "0 unlimited"),
            ("Max locked memory", "1048576 1048576"),
        ] {
            let found = facts.limit(name)?;
            ensure!(found == expected, "{name} is {found}");
        }
    }
    // It is watched over like any other: replaced, stopped, and nothing is left.
    process::signal(workers[1].pid, Signal::KILL)?;
    run.event("respawn", 1)?;
    run.ready(2)?;
    let ended = run.stop()?;
    ensure!(ended.code() == Some(0), "{}", ended.all());
    run.gone(Duration::from_secs(1))
}

#[test]
fn node_workers_have_all_that_was_asked_for() -> Result<()> {
    // Node itself raises its soft limit to the hard one.
    all_at_once("identity.js", "4096 4096")
}

#[test]
fn plain_programs_have_all_that_was_asked_for() -> Result<()> {
    all_at_once("identity.sh", "2048 4096")
}

/// Its channel and its pipes are inherited, so being nobody is no hindrance.
#[test]
fn node_workers_of_another_user_serve() -> Result<()> {
    if !root() {
        return Ok(());
    }
    let (run, _folder) = start("identity.js", &["-i", "2", "--uid", "nobody"])?;
    run.ready(2)?;
    let address = run.address()?;
    for _ in 0..10 {
        ensure!(get(address, "/", LIMIT)?.status == 200);
    }
    let facts = Facts::of(&run, 0)?;
    facts.check(&[
        ("CapPrm", "0000000000000000"),
        ("CapAmb", "0000000000000000"),
        ("NoNewPrivs", "0"),
    ])?;
    ensure!(run.stop()?.code() == Some(0));
    run.gone(Duration::from_secs(1))
}

#[test]
fn passed_sockets_serve_in_another_users_hands() -> Result<()> {
    if !root() {
        return Ok(());
    }
    let server = repository("examples/python/server.py");
    let folder = open_folder(std::slice::from_ref(&server))?;
    let run = Everup::run()?
        .env("PATH", PATH)
        .args(["--uid", "nobody", "--listen", "tcp://127.0.0.1:0"])
        .arg(folder.path().join("server.py"))
        .cwd(folder.path())
        .start()?;
    run.ready(1)?;
    let bound = run.event("bound", 1)?;
    let address = bound.address().context("an address")?;
    ensure!(get(address, "/", LIMIT)?.status == 200);
    ensure!(run.stop()?.code() == Some(0));
    run.gone(Duration::from_secs(1))
}

/// All groups of the database, as a login has them: pm2 forgets them.
#[test]
fn further_groups_are_there() -> Result<()> {
    if !root() {
        return Ok(());
    }
    // Somebody who is in more than one, if this machine has such a user.
    let groups = output("getent", &["group"])?;
    let members = groups
        .lines()
        .filter_map(|line| line.rsplit(':').next()?.split(',').next());
    let mut known = members.filter(|user| !user.is_empty() && *user != "root" && entry(user).is_ok());
    let user = known.next_back().unwrap_or("nobody");
    let expected = output("id", &["-G", user])?;
    e2e::say(&format!("{user} is in the groups {expected}"));
    let (run, _folder) = start("identity.sh", &["--uid", user])?;
    let sorted = |text: &str| {
        let mut ids: Vec<u32> = text.split(' ').filter_map(|id| id.parse().ok()).collect();
        ids.sort_unstable();
        ids
    };
    let found = Facts::of(&run, 0)?.get("Groups")?;
    ensure!(sorted(&found) == sorted(&expected), "{found} and not {expected}");
    Ok(())
}

#[test]
fn numbers_that_nobody_has() -> Result<()> {
    if !root() {
        return Ok(());
    }
    let (run, _folder) = start("identity.sh", &["--uid", "54321", "--gid", "54322"])?;
    Facts::of(&run, 0)?.check(&[
        ("Uid", "54321 54321 54321 54321"),
        ("Gid", "54322 54322 54322 54322"),
        ("Groups", "54322"),
        ("HOME", "/"),
        ("USER", "unset"),
        ("LOGNAME", "unset"),
        ("SHELL", "/bin/sh"),
    ])
}

/// A group alone changes nothing else, and what the operator sets wins over what a login would.
#[test]
fn a_group_alone_and_a_home_of_ones_own() -> Result<()> {
    if !root() {
        return Ok(());
    }
    let (run, _folder) = start("identity.sh", &["--gid", "daemon", "--env", "USER=me"])?;
    let gid = &entry("daemon")?[3];
    let facts = Facts::of(&run, 0)?;
    let [uid, gid] = ["0", gid].map(|id| [id; 4].join(" "));
    facts.check(&[("Uid", &uid), ("Gid", &gid), ("USER", "me")])?;
    let (run, _folder) = start("identity.sh", &["--uid", "daemon", "--env", "HOME=/srv"])?;
    Facts::of(&run, 0)?.check(&[("HOME", "/srv"), ("USER", "daemon")])
}

#[test]
fn only_a_kept_capability_gets_a_low_port() -> Result<()> {
    if !root() {
        return Ok(());
    }
    let (run, _folder) = start(
        "low-port.py",
        &["--uid", "nobody", "--keep-cap", "net_bind_service"],
    )?;
    ensure!(run.out_line("low port:")?.ends_with("low port: bound"));
    // Containers often lift the restriction for everybody.
    let free: u32 = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start")?
        .trim()
        .parse()?;
    let (run, _folder) = start("low-port.py", &["--uid", "nobody"])?;
    let said = run.out_line("low port:")?;
    ensure!(free < 1024 || said.ends_with("low port: EACCES"), "{said}");
    Ok(())
}

/// The kernel forgets the parent-death signal when the user changes.
#[test]
fn workers_of_another_user_die_with_everup() -> Result<()> {
    if !root() {
        return Ok(());
    }
    for caps in [&[][..], &["--keep-cap", "net_bind_service"]] {
        let mut args = vec!["-i", "2", "--uid", "nobody"];
        args.extend(caps);
        let (run, _folder) = start("identity.js", &args)?;
        run.ready(2)?;
        run.signal(Signal::KILL)?;
        run.gone(LIMIT)?;
    }
    Ok(())
}

#[test]
fn chosen_cpus_are_for_all_workers() -> Result<()> {
    let last = cpus()?.last().context("a CPU")?.to_string();
    let (run, _folder) = start("identity.sh", &["-i", "2", "--cpu-affinity", &last])?;
    for slot in 0..2 {
        Facts::of(&run, slot)?.check(&[("Cpus_allowed_list", &last)])?;
    }
    Ok(())
}

/// What was refused: exit code, message and hint, and no worker was started.
fn refused(ended: &Ended) -> Result<(i64, String, String)> {
    ensure!(
        ended.events.iter().all(|event| event.name() != "fork"),
        "{}",
        ended.all()
    );
    let fatal = ended.events.iter().find(|event| event.name() == "fatal");
    let fatal = fatal.with_context(|| ended.all())?;
    let code = fatal.number("code").context("a code")?;
    ensure!(ended.code().map(i64::from) == Some(code), "{}", ended.all());
    Ok((code, fatal.text("message").into(), fatal.text("hint").into()))
}

const PREFIX: &str = "could not start workers with these limits: ";

#[test]
fn what_even_root_may_not() -> Result<()> {
    if !root() {
        return Ok(());
    }
    let secret = tempfile::tempdir()?;
    fs::set_permissions(secret.path(), fs::Permissions::from_mode(0o700))?;
    let script = secret.path().join("hello.js");
    fs::copy(fixture("hello.js"), &script)?;
    let nobody = format!("user {} (nobody)", entry("nobody")?[2]);
    let folder = secret.path().display();
    let hello = fixture("hello.js").display().to_string();
    let path = script.display().to_string();
    let cases: [(&[&str], i64, String, &str); 4] = [
        (
            &["--rlimit", "nofile=unlimited", &hello],
            2,
            "set the limit nofile to unlimited:unlimited: operation not permitted".into(),
            "/proc/sys/fs/nr_open",
        ),
        (
            &["--keep-cap", "net_bind_service", &hello],
            2,
            "keep capabilities for a worker that is root: it has them all".into(),
            "choose another user",
        ),
        (
            &["--uid", "nobody", &path],
            3,
            format!("let {nobody} read {path}: permission denied"),
            "every folder on the way counts",
        ),
        (
            &["--uid", "nobody", "--cwd", &folder.to_string(), "hello.js"],
            3,
            format!("let {nobody} enter {folder}: permission denied"),
            "every folder on the way counts",
        ),
    ];
    for (args, code, message, hint) in cases {
        let (said_code, said, said_hint) = refused(&Everup::run()?.args(args).finish()?)?;
        ensure!(said == format!("{PREFIX}{message}"), "{args:?}: {said}");
        ensure!(
            said_code == code && said_hint.contains(hint),
            "{args:?}: {said_code} {said_hint}"
        );
    }
    Ok(())
}

#[test]
fn what_takes_privileges() -> Result<()> {
    let folder = open_folder(&[fixture("identity.sh"), binary::everup()?])?;
    let everup = || {
        let everup = Everup::program(folder.path().join("everup"))
            .args(["run", "--events", "json"])
            .cwd(folder.path());
        // As root we have to be somebody else for this.
        if rustix::process::geteuid().is_root() {
            everup.user(54_321, 54_321)
        } else {
            everup
        }
    };
    let cases: [(&[&str], &str, &str); 5] = [
        (
            &["--uid", "root"],
            "set the groups of user 0 (root): operation not permitted",
            "CAP_SETGID",
        ),
        (
            &["--nice", "-5"],
            "set the nice value to -5: permission denied",
            "CAP_SYS_NICE",
        ),
        (
            &["--oom-score-adj", "-1000"],
            "set the OOM score to -1000: permission denied",
            "CAP_SYS_RESOURCE",
        ),
        (
            &["--rlimit", "nofile=unlimited"],
            "set the limit nofile to unlimited:unlimited: operation not permitted",
            "the hard limit is ",
        ),
        (
            &["--keep-cap", "net_bind_service"],
            "keep the capabilities net_bind_service: operation not permitted",
            "everup can only pass on what it has itself",
        ),
    ];
    for (args, message, hint) in cases {
        let (code, said, said_hint) = refused(&everup().args(args).arg("identity.sh").finish()?)?;
        ensure!(said == format!("{PREFIX}{message}"), "{args:?}: {said}");
        ensure!(
            code == 2 && said_hint.contains(hint),
            "{args:?}: {code} {said_hint}"
        );
    }
    // What takes none works.
    let run = everup()
        .args([
            "--nice",
            "5",
            "--no-new-privs",
            "--rlimit",
            "core=0",
            "--umask",
            "077",
        ])
        .arg("identity.sh")
        .start()?;
    Facts::of(&run, 0)?.check(&[("nice", "5"), ("NoNewPrivs", "1"), ("umask", "0077")])
}

/// Either it is refused in words, or it works: that depends on the machine.
#[test]
fn limits_of_control_groups_hold_or_are_refused() -> Result<()> {
    let folder = open_folder(&[fixture("identity.sh")])?;
    let run = Everup::run()?
        .args(["--pids-max", "64"])
        .arg(folder.path().join("identity.sh"))
        .start()?;
    run.until("a refusal or a worker", LIMIT, |seen| {
        seen.events
            .iter()
            .any(|event| matches!(event.name(), "fatal" | "fork"))
            .then_some(())
    })?;
    if run.seen().count("fork") > 0 {
        Facts::of(&run, 0)?;
        ensure!(run.stop()?.code() == Some(0));
        return Ok(());
    }
    let (code, said, hint) = refused(&run.ended(LIMIT)?)?;
    e2e::say(&said);
    let known = ["limit a worker's pids: ", "divide the control group "];
    ensure!(
        code == 2
            && known
                .iter()
                .any(|words| said.starts_with(&format!("{PREFIX}{words}"))),
        "{code} {said}"
    );
    ensure!(!hint.is_empty());
    Ok(())
}
