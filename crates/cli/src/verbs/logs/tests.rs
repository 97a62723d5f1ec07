//! The verb as a whole, on files, without a daemon.

use super::*;
use everup_api::AppSpec;
use everup_api::v1::{AppState, Instance};
use std::cell::RefCell;
use std::fs;
use std::rc::Rc;

/// What was written, to be looked at while the page is alive.
#[derive(Clone, Default)]
struct Shown(Rc<RefCell<Vec<u8>>>);

impl Write for Shown {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shown {
    fn text(&self) -> String {
        String::from_utf8(std::mem::take(&mut *self.0.borrow_mut())).unwrap()
    }
}

fn app(name: &str, id: u32, directory: &Path) -> App {
    App {
        spec: AppSpec {
            name: name.into(),
            ..AppSpec::default()
        },
        state: AppState::Running,
        generation: 1,
        target: 1,
        clustered: false,
        created_at: 0,
        user: String::new(),
        version: None,
        interpreter: None,
        script_path: None,
        reload: None,
        last_reload: None,
        because: None,
        instances: vec![Instance {
            id,
            out_file: Some(directory.join(format!("{name}-out.log"))),
            error_file: Some(directory.join(format!("{name}-error.log"))),
            ..Instance::default()
        }],
        others: Vec::new(),
    }
}

fn args() -> LogsArgs {
    LogsArgs {
        target: "all".into(),
        lines: 2,
        ..LogsArgs::default()
    }
}

struct Stage {
    home: tempfile::TempDir,
    log: PathBuf,
}

impl Stage {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let log = home.path().join("daemon.log");
        fs::write(&log, "daemon\n").unwrap();
        fs::write(home.path().join("web-out.log"), "1\n2\n3\n").unwrap();
        Self { home, log }
    }

    fn page<'a>(&'a self, args: &'a LogsArgs, pm2: bool) -> (Page<'a>, Shown, Shown) {
        let request = Request {
            args,
            pm2,
            colour: false,
            daemon_log: &self.log,
        };
        let (out, err) = (Shown::default(), Shown::default());
        (
            Page::new(request, Box::new(out.clone()), Box::new(err.clone())),
            out,
            err,
        )
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }
}

#[test]
fn the_last_lines() {
    let stage = Stage::new();
    // Nothing is said of a file in which there is nothing.
    fs::write(stage.path("web-error.log"), "").unwrap();
    let args = args();
    let (mut page, out, _) = stage.page(&args, false);
    page.last(&[app("web", 0, stage.home.path())]).unwrap();
    let path = stage.path("web-out.log");
    assert_eq!(
        out.text(),
        format!("{} last 2 lines:\n0|web  | 2\n0|web  | 3\n\n", path.display())
    );
}

#[test]
fn as_pm2_shows_them() {
    let stage = Stage::new();
    let args = args();
    let (mut page, out, _) = stage.page(&args, true);
    page.last(&[app("web", 0, stage.home.path())]).unwrap();
    let (daemon, web) = (stage.log.display(), stage.path("web-out.log"));
    assert_eq!(
        out.text(),
        format!(
            "[TAILING] Tailing last 2 lines for [all] processes (change the value with --lines option)\n\
             {daemon} last 2 lines:\nPM2        | daemon\n\n\
             {} last 2 lines:\n0|web      | 2\n0|web      | 3\n\n",
            web.display()
        )
    );
}

#[test]
fn raw_streams_stay_apart() {
    let stage = Stage::new();
    fs::write(stage.path("web-error.log"), "oops").unwrap();
    let args = LogsArgs {
        raw: true,
        nostream: true,
        ..args()
    };
    let (mut page, out, err) = stage.page(&args, false);
    page.last(&[app("web", 0, stage.home.path())]).unwrap();
    assert_eq!((out.text(), err.text()), ("2\n3\n".into(), "oops\n".into()));
}

#[test]
fn new_lines_and_new_apps_are_followed() {
    let stage = Stage::new();
    let args = LogsArgs { lines: 0, ..args() };
    let (mut page, out, _) = stage.page(&args, false);
    let apps = vec![app("web", 0, stage.home.path())];
    page.last(&apps).unwrap();
    assert_eq!(out.text(), "");
    let (web, old) = (stage.path("web-out.log"), stage.path("old"));
    let write = |path: &Path, text: &str| {
        let mut file = fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)
            .unwrap();
        file.write_all(text.as_bytes()).unwrap();
    };
    let mut turn = 0;
    let shown = out.clone();
    let mut seen = Vec::new();
    page.follow(&mut || None, |_| {
        seen.push(shown.text());
        turn += 1;
        match turn {
            1 => write(&web, "4\n5"),
            2 => {
                write(&web, "5\n");
                fs::rename(&web, &old).unwrap();
                write(&web, "6\n");
            }
            3 => write(&stage.path("web-error.log"), "7\n"),
            _ => return News::Closed,
        }
        News::All
    })
    .unwrap();
    assert_eq!(
        seen,
        ["", "0|web  | 4\n", "0|web  | 55\n0|web  | 6\n", "0|web  | 7\n"]
    );
    let more = page.new_sources(&[app("web", 0, stage.home.path()), app("two", 1, stage.home.path())]);
    assert_eq!(more.len(), 2);
}

#[test]
fn only_the_daemon() {
    let stage = Stage::new();
    let args = LogsArgs {
        target: "everup".into(),
        ..args()
    };
    let (mut page, out, _) = stage.page(&args, false);
    page.last(&[app("web", 0, stage.home.path())]).unwrap();
    assert!(out.text().ends_with("everup  | daemon\n\n"));
}
