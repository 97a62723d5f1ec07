//! How apps of the daemon end, and what is told of it.

use anyhow::{Context, Result, ensure};
use e2e::run::wait_until;
use e2e::{Daemon, LIMIT};
use std::fs;

/// A server whose handler takes its time, and that talks to whoever has started it until its end.
const HANDLER: &str = "const http = require('http');\n\
    http.createServer((q, r) => r.end('x')).listen(0, () => console.log('up'));\n\
    setInterval(() => process.send && process.send({ type: 'metric', data: 1 }), 20);\n\
    for (const name of ['SIGTERM', 'SIGINT']) process.on(name, () => {\n\
      console.log('begins ' + name);\n\
      setTimeout(() => { console.log('done'); process.exit(0); }, 300);\n\
    });\n";

#[test]
fn a_handler_runs_to_its_end() -> Result<()> {
    let daemon = Daemon::new()?;
    fs::write(daemon.home().join("app.js"), HANDLER)?;
    let log = daemon.home().join("logs/app-out.log");
    daemon.ok(["start", "app.js", "--wait"])?;
    daemon.ok(["stop", "app"])?;
    let written = || fs::read_to_string(&log).map_err(|error| error.to_string());
    wait_until("what the handler wrote", LIMIT, || match written()? {
        text if text == "up\nbegins SIGINT\ndone\n" => Ok(()),
        text => Err(text),
    })?;
    let exit = daemon.app("app")?["instances"][0]["last_exit"].clone();
    ensure!(exit["code"] == 0, "{exit}");
    // And by a restart.
    daemon.ok(["start", "app", "--wait"])?;
    daemon.ok(["restart", "app"])?;
    wait_until("what it wrote when it was restarted", LIMIT, || {
        match written()? {
            text if text.matches("done\n").count() == 2 => Ok(()),
            text => Err(text),
        }
    })
}

#[test]
fn a_reload_tells_of_itself_and_of_no_earlier_one() -> Result<()> {
    let daemon = Daemon::new()?;
    fs::write(
        daemon.home().join("app.js"),
        "setInterval(() => {}, 1000); process.send('ready');",
    )?;
    daemon.ok(["start", "app.js", "--wait"])?;
    for _ in 0..2 {
        let before = daemon.ready("app", 1)?;
        let done = daemon.json(["reload", "app", "--json"])?;
        let receipt = &done["apps"][0]["receipt"]["workers"][0];
        let pid = |key: &str| receipt[key].as_u64().context("a pid");
        ensure!(
            pid("old_pid")? == u64::from(before[0]),
            "{receipt} does not tell of {before:?}"
        );
        ensure!(
            pid("new_pid")? == u64::from(daemon.ready("app", 1)?[0]),
            "{receipt}"
        );
        // Its generations begin anew.
        daemon.ok(["stop", "app"])?;
        daemon.ok(["start", "app", "--wait"])?;
    }
    Ok(())
}

#[test]
fn what_the_daemon_writes_is_no_change_of_an_app() -> Result<()> {
    let daemon = Daemon::new()?;
    // The app is in the directory that is above the logs.
    fs::write(
        daemon.home().join("app.js"),
        "setInterval(() => console.log('x'), 50);",
    )?;
    daemon.ok(["start", "app.js", "--watch"])?;
    daemon.ready("app", 1)?;
    let log = daemon.home().join("logs/app-out.log");
    wait_until("many lines", LIMIT, || match fs::read_to_string(&log) {
        Ok(text) if text.lines().count() > 60 => Ok(()),
        other => Err(format!("{other:?}")),
    })?;
    let app = daemon.app("app")?;
    ensure!(app["generation"] == 1, "{app}");
    Ok(())
}
