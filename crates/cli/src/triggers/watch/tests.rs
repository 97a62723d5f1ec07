//! With real files. Each test waits for a trigger, with a limit; that something does not trigger is seen by what the
//! next trigger names.

use super::*;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::cell::Cell;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::sync::mpsc::{self, Receiver};

const LIMIT_OF_TEST: Duration = Duration::from_secs(20);

/// A directory that is watched.
struct Place {
    // Dropped in this order: the thread ends before its directory goes.
    handle: Handle,
    held: Cell<bool>,
    fired: Receiver<Trigger>,
    notices: Receiver<String>,
    base: PathBuf,
    directory: tempfile::TempDir,
}

/// How it is watched.
struct Setup<'a> {
    roots: &'a [&'a str],
    commanded: &'a [&'a str],
    globs: &'a [&'a str],
    own: &'a [&'a str],
    delay: u64,
    limit: usize,
}

impl Default for Setup<'_> {
    fn default() -> Self {
        Self {
            roots: &["."],
            commanded: &[],
            globs: &[],
            own: &[],
            delay: 50,
            limit: LIMIT,
        }
    }
}

impl Setup<'_> {
    fn plan(&self, base: &Path) -> WatchPlan {
        let path = |name: &&str| match *name {
            "." => base.to_owned(),
            name => base.join(name),
        };
        let globs: Vec<String> = self.globs.iter().map(ToString::to_string).collect();
        WatchPlan {
            base: base.into(),
            roots: self.roots.iter().map(path).collect(),
            commanded: self.commanded.iter().map(path).collect(),
            globs: Globs::parse(base, &globs).unwrap(),
            own: self.own.iter().map(path).collect(),
            delay: Duration::from_millis(self.delay),
            limit: self.limit,
        }
    }

    /// Makes the directory, fills it, and watches it.
    fn watch(&self, fill: impl FnOnce(&Path)) -> Place {
        self.watch_with(fill, |_| {})
    }

    fn watch_with(
        &self,
        fill: impl FnOnce(&Path),
        during: impl Fn(&Trigger) + Clone + Send + 'static,
    ) -> Place {
        let directory = tempfile::tempdir().unwrap();
        let base = directory.path().join("app");
        fs::create_dir(&base).unwrap();
        fill(&base);
        let (fire, fired) = mpsc::channel();
        let (notice, notices) = mpsc::channel();
        let calls = Calls {
            fire: move |trigger: Trigger| {
                during(&trigger);
                fire.send(trigger).ok();
            },
            notice: move |text| {
                notice.send(text).ok();
            },
        };
        let mut watch = Watch::open(self.plan(&base)).unwrap();
        // Changes follow so closely here that each would seem to be the echo of the one before.
        watch.settle.longest = Duration::ZERO;
        let handle = watch.start(calls).unwrap();
        Place {
            handle,
            held: Cell::new(false),
            fired,
            notices,
            base,
            directory,
        }
    }
}

impl Place {
    /// The files of the next trigger, sorted, and how many more.
    fn next(&self) -> (Vec<String>, usize) {
        let Trigger::Watch { files, more } = self.fired.recv_timeout(LIMIT_OF_TEST).unwrap() else {
            unreachable!()
        };
        let mut files: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
        files.sort();
        (files, more)
    }

    /// The next trigger is for these files and no others.
    fn expect(&self, files: &[&str]) {
        let files: Vec<String> = files.iter().map(ToString::to_string).collect();
        assert_eq!(self.next(), (files, 0));
    }

    fn write(&self, name: &str) {
        self.at_once(|| write(&self.base, name));
    }

    /// What is done here is one burst, however slow this machine is.
    fn at_once(&self, act: impl FnOnce()) {
        let outer = self.held.replace(true);
        self.handle.hold(true);
        act();
        self.handle.hold(outer);
        self.held.set(outer);
    }
}

fn write(base: &Path, name: &str) {
    let path = base.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, name).unwrap();
}

fn fill(names: &[&str]) -> impl FnOnce(&Path) {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    move |base| names.iter().for_each(|name| write(base, name))
}

#[test]
fn a_changed_file() {
    let place = Setup::default().watch(fill(&["app.js", "src/deep/a.js"]));
    place.write("src/deep/a.js");
    place.expect(&["src/deep/a.js"]);
    fs::remove_file(place.base.join("app.js")).unwrap();
    place.expect(&["app.js"]);
    // Reading is no change, and a mode is none.
    fs::read(place.base.join("src/deep/a.js")).unwrap();
    place.write("new.js");
    place.expect(&["new.js"]);
    let first = place.notices.recv_timeout(LIMIT_OF_TEST).unwrap();
    assert_eq!(first, "watching 3 directories");
}

#[test]
fn what_does_not_count() {
    let names = [
        "app.js",
        ".gitignore",
        "node_modules/x/y.js",
        ".git/HEAD",
        "dist/a.js",
        "data/x",
        "logs/a.txt",
    ];
    let setup = Setup {
        globs: &["data", "!keep.log"],
        own: &["app.pid", "logs"],
        ..Setup::default()
    };
    let place = setup.watch(|base| {
        fill(&names)(base);
        fs::write(base.join(".gitignore"), "dist\n*.tmp\n").unwrap();
    });
    place.at_once(|| {
        for name in [
            "node_modules/x/y.js",
            "node_modules/new/y.js",
            ".git/HEAD",
            "dist/a.js",
            "a.tmp",
            "data/x",
            "logs/a.txt",
            "app.pid",
            "err.log",
            ".app.js.swp",
            "src/__pycache__/a.pyc",
        ] {
            place.write(name);
        }
        place.write("keep.log");
        place.write(".env");
    });
    place.expect(&[".env", "keep.log"]);
}

#[test]
fn a_save_by_rename_is_one() {
    let place = Setup::default().watch(fill(&["app.js"]));
    // As vim does.
    place.at_once(|| {
        place.write("4913");
        fs::remove_file(place.base.join("4913")).unwrap();
        fs::rename(place.base.join("app.js"), place.base.join("app.js~")).unwrap();
        place.write("app.js");
        fs::remove_file(place.base.join("app.js~")).unwrap();
    });
    place.expect(&["app.js"]);
    // As many others do.
    place.at_once(|| {
        place.write(".app.js.new");
        fs::rename(place.base.join(".app.js.new"), place.base.join("app.js")).unwrap();
    });
    place.expect(&["app.js"]);
    place.write("b.js");
    place.expect(&["b.js"]);
}

#[test]
fn a_thousand_files_are_one() {
    let place = Setup::default().watch(|_| {});
    place.at_once(|| {
        for index in 0..1000 {
            place.write(&format!("d{}/{index}.js", index % 50));
        }
    });
    let (files, more) = place.next();
    assert_eq!((files.len(), more), (5, 995));
    place.write("one.js");
    place.expect(&["one.js"]);
}

#[test]
fn directories_come_and_go() {
    let place = Setup::default().watch(fill(&["old/a.js"]));
    place.write("new/deep/er/a.js");
    place.expect(&["new/deep/er/a.js"]);
    place.write("new/deep/er/b.js");
    place.expect(&["new/deep/er/b.js"]);
    // Renamed: told by its new name from then on.
    place.at_once(|| {
        fs::rename(place.base.join("new"), place.base.join("moved")).unwrap();
    });
    place.expect(&["moved/deep/er/a.js", "moved/deep/er/b.js", "new"]);
    place.write("moved/deep/c.js");
    place.expect(&["moved/deep/c.js"]);
    // Moved out: not watched any more.
    let outside = place.directory.path().join("outside");
    fs::rename(place.base.join("moved"), &outside).unwrap();
    place.expect(&["moved"]);
    fs::write(outside.join("deep/c.js"), "x").unwrap();
    fs::remove_dir_all(place.base.join("old")).unwrap();
    place.expect(&["old/a.js"]);
    place.write("old/a.js");
    place.expect(&["old/a.js"]);
}

#[test]
fn links_are_not_followed() {
    let place = Setup::default().watch(|base| {
        write(base, "src/a.js");
        write(&base.join(".."), "other/x.js");
        symlink(base, base.join("src/loop")).unwrap();
        symlink("../other", base.join("linked")).unwrap();
    });
    fs::write(place.directory.path().join("other/x.js"), "x").unwrap();
    place.write("src/a.js");
    place.expect(&["src/a.js"]);
    // A link that is turned is a change.
    place.at_once(|| {
        symlink("src", place.base.join("turned")).unwrap();
        fs::rename(place.base.join("turned"), place.base.join("linked")).unwrap();
    });
    place.expect(&["linked", "turned"]);
}

#[test]
fn a_root_that_is_a_link() {
    let setup = Setup {
        roots: &["current"],
        ..Setup::default()
    };
    let place = setup.watch(|base| {
        write(base, "r1/a.js");
        write(base, "r2/a.js");
        symlink("r1", base.join("current")).unwrap();
    });
    place.write("r1/a.js");
    place.expect(&["current/a.js"]);
    place.at_once(|| {
        symlink("r2", place.base.join("next")).unwrap();
        fs::rename(place.base.join("next"), place.base.join("current")).unwrap();
    });
    place.expect(&["current", "current/a.js"]);
    place.write("r1/a.js");
    place.write("r2/b.js");
    place.expect(&["current/b.js"]);
}

#[test]
fn a_root_that_is_a_file() {
    let setup = Setup {
        roots: &["etc/app.conf"],
        ..Setup::default()
    };
    let place = setup.watch(fill(&["etc/app.conf", "etc/other.conf"]));
    place.write("etc/other.conf");
    place.write("etc/app.conf");
    place.expect(&["etc/app.conf"]);
    place.write("etc/new");
    fs::rename(place.base.join("etc/new"), place.base.join("etc/app.conf")).unwrap();
    place.expect(&["etc/app.conf"]);
    place.write("etc/app.conf");
    place.expect(&["etc/app.conf"]);
}

#[test]
fn a_root_that_is_made_anew() {
    let setup = Setup {
        roots: &["dist"],
        ..Setup::default()
    };
    let place = setup.watch(|base| {
        fill(&["dist/a.js"])(base);
        // Named, so it counts.
        fs::write(base.join(".gitignore"), "dist\n").unwrap();
        fs::create_dir(base.join(".git")).unwrap();
    });
    place.at_once(|| {
        fs::remove_dir_all(place.base.join("dist")).unwrap();
        place.write("dist/a.js");
    });
    let (files, _) = place.next();
    assert!(files.contains(&"dist/a.js".into()), "{files:?}");
    place.write("dist/sub/b.js");
    place.expect(&["dist/sub/b.js"]);
}

#[test]
fn what_the_app_is_started_with_counts_although_git_ignores_it() {
    let setup = Setup {
        commanded: &["build/server/main.js", "node_modules/.bin/next"],
        ..Setup::default()
    };
    let place = setup.watch(|base| {
        fill(&[
            "build/server/main.js",
            "node_modules/.bin/next",
            "out/x.js",
            "src/a.ts",
        ])(base);
        fs::write(base.join(".gitignore"), "build\nout\n").unwrap();
    });
    place.write("node_modules/.bin/next");
    place.write("out/x.js");
    place.write("build/client/x.js");
    place.expect(&["build/client/x.js"]);
    place.write("src/a.ts");
    place.expect(&["src/a.ts"]);
}

#[test]
fn a_changed_gitignore_holds_at_once() {
    let place = Setup::default().watch(fill(&["gen/a.js", "src/a.js"]));
    place.write("gen/a.js");
    place.expect(&["gen/a.js"]);
    fs::write(place.base.join(".gitignore"), "gen\n").unwrap();
    place.expect(&[".gitignore"]);
    place.write("gen/a.js");
    place.write("src/a.js");
    place.expect(&["src/a.js"]);
}

#[test]
fn a_root_that_is_missing_when_all_is_watched_anew() {
    let setup = Setup {
        roots: &[".", "dist"],
        ..Setup::default()
    };
    let place = setup.watch(fill(&["dist/a.js", "src/a.js"]));
    fs::remove_dir_all(place.base.join("dist")).unwrap();
    place.at_once(|| fs::write(place.base.join(".gitignore"), "dist\n").unwrap());
    while !place.next().0.contains(&".gitignore".into()) {}
    let told: Vec<String> = place.notices.try_iter().collect();
    assert!(
        told.last().unwrap().ends_with("changes there are not noticed"),
        "{told:?}"
    );
    place.write("dist/a.js");
    assert!(place.next().0.contains(&"dist/a.js".into()));
    place.write("dist/a.js");
    place.expect(&["dist/a.js"]);
}

#[test]
fn changes_during_the_closure_are_one_trigger_after_it() {
    let (entered, inside) = mpsc::channel();
    let (leave, left) = mpsc::channel::<()>();
    let left = std::sync::Arc::new(std::sync::Mutex::new(left));
    let during = move |_: &Trigger| {
        entered.send(()).ok();
        left.lock().unwrap().recv().ok();
    };
    let place = Setup::default().watch_with(|_| {}, during);
    place.write("a.js");
    inside.recv_timeout(LIMIT_OF_TEST).unwrap();
    place.write("b.js");
    place.write("c.js");
    leave.send(()).unwrap();
    place.expect(&["a.js"]);
    inside.recv_timeout(LIMIT_OF_TEST).unwrap();
    leave.send(()).unwrap();
    place.expect(&["b.js", "c.js"]);
    drop(leave);
}

#[test]
fn paused_until_resumed() {
    let place = Setup::default().watch(|_| {});
    place.at_once(|| {
        place.write("a.js");
        // wait: a trigger that must not come
        let waited = place.fired.recv_timeout(Duration::from_millis(300));
        assert!(waited.is_err(), "{waited:?}");
        place.write("b.js");
    });
    place.expect(&["a.js", "b.js"]);
}

#[test]
fn too_many_directories() {
    let directory = tempfile::tempdir().unwrap();
    fill(&["a/x", "b/x", "c/x"])(directory.path());
    let setup = |limit| Setup {
        limit,
        ..Setup::default()
    };
    // The root, three below, and the one above.
    assert!(Watch::open(setup(5).plan(directory.path())).is_ok());
    let error = Watch::open(setup(4).plan(directory.path())).unwrap_err();
    assert_eq!(error.to_string(), "more than 4 directories to watch");
    assert!(error.hint().unwrap().contains("fs.inotify.max_user_watches"));
}

#[test]
fn too_many_directories_later() {
    let setup = Setup {
        limit: 3,
        ..Setup::default()
    };
    let place = setup.watch(|_| {});
    place.write("a/x");
    place.expect(&["a/x"]);
    place.write("b/x");
    let told: Vec<String> = std::iter::from_fn(|| place.notices.recv_timeout(LIMIT_OF_TEST).ok())
        .take(2)
        .collect();
    assert!(
        told[1].starts_with("more than 3 directories to watch (name what"),
        "{told:?}"
    );
    place.write("a/y");
    assert!(place.next().0.contains(&"a/y".into()));
}

#[test]
fn a_path_that_is_missing() {
    let directory = tempfile::tempdir().unwrap();
    let setup = Setup {
        roots: &["nope"],
        ..Setup::default()
    };
    let error = Watch::open(setup.plan(directory.path())).unwrap_err();
    assert_eq!(
        crate::error::CliError::from(error).message(),
        format!(
            "could not watch {}/nope: no such file or directory",
            directory.path().display()
        )
    );
}

#[test]
fn reading_and_logging_wake_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let base = directory.path().join("app");
    fill(&["app.js", "access"])(&base);
    let mut watch = Watch::open(Setup::default().plan(&base)).unwrap();
    let is_news = |watch: &Watch| {
        let news = watch.tree.news();
        let mut news = [PollFd::new(&news, PollFlags::IN)];
        poll(&mut news, Some(&Timespec::default())).unwrap() > 0
    };
    let mut log = fs::File::options()
        .append(true)
        .open(base.join("access"))
        .unwrap();
    for _ in 0..100 {
        log.write_all(b"line\n").unwrap();
        fs::read(base.join("app.js")).unwrap();
        fs::read_dir(&base).unwrap();
    }
    assert!(!is_news(&watch));
    drop(log);
    assert!(is_news(&watch));
    let mut files = Vec::new();
    watch.tree.read(&mut |file| files.push(file)).unwrap();
    assert_eq!(files, [base.join("access")]);
    assert!(!is_news(&watch));
}

#[test]
fn lost_events_are_one_change_and_all_is_watched_anew() {
    let directory = tempfile::tempdir().unwrap();
    let base = directory.path().join("app");
    fill(&["a.js"])(&base);
    let mut watch = Watch::open(Setup::default().plan(&base)).unwrap();
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let (one, other) = (base.join("a.js"), base.join("b.js"));
    for _ in 0..limit.trim().parse::<usize>().unwrap() / 4 + 1 {
        fs::rename(&one, &other).unwrap();
        fs::rename(&other, &one).unwrap();
    }
    write(&base, "lost/too.js");
    let mut read = |until: &Path| {
        let mut files = Vec::new();
        while !files.iter().any(|file| file == until) {
            watch.tree.read(&mut |file| files.push(file)).unwrap();
        }
    };
    read(&base);
    write(&base, "lost/too.js");
    read(&base.join("lost/too.js"));
    assert!(watch.tree.trouble().is_none());
}
