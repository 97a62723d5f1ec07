//! Keys of configuration files that reach each worker by itself.

use anyhow::{Context, Result, ensure};
use e2e::run::wait_until;
use e2e::{Daemon, LIMIT};
use std::fs;

#[test]
fn each_worker_has_its_number_and_the_secret() -> Result<()> {
    let daemon = Daemon::new()?;
    let home = daemon.home();
    fs::write(home.join("key"), "s3cret")?;
    let script = "const fs = require('fs'); const text = fs.readFileSync(process.env.KEY, 'utf8');\n\
         fs.writeFileSync(`seen-${process.env.PORT}`, `${text} ${process.env.KEY}`);\n\
         setInterval(() => {}, 1000);";
    fs::write(home.join("app.js"), script)?;
    let file = "[app.web]\nscript = 'app.js'\ninstances = 3\nincrement_var = 'PORT'\n\
         secret_files = { KEY = 'key' }\nenv = { PORT = '4000' }\n";
    fs::write(home.join("everup.toml"), file)?;
    daemon.ok(["start", "everup.toml"])?;
    for port in 4000..4003 {
        let seen = home.join(format!("seen-{port}"));
        let text = wait_until(
            &format!("what worker {port} saw"),
            LIMIT,
            || match fs::read_to_string(&seen) {
                Ok(text) if !text.is_empty() => Ok(text),
                other => Err(format!("{other:?}")),
            },
        )?;
        let path = text.strip_prefix("s3cret ").with_context(|| text.clone())?;
        ensure!(path.starts_with("/dev/fd/"), "{path}");
    }
    // Neither the content nor the file is in what others can see.
    let listed = daemon.ok(["env", "0"])?;
    ensure!(!listed.contains("s3cret"), "{listed}");
    Ok(())
}

#[test]
fn a_secret_that_is_not_there_is_an_error() -> Result<()> {
    let daemon = Daemon::new()?;
    fs::write(daemon.home().join("app.js"), "setInterval(() => {}, 1000);")?;
    let file = "[app.web]\nscript = 'app.js'\nsecret_files = { KEY = 'nowhere' }\n";
    fs::write(daemon.home().join("everup.toml"), file)?;
    let said = daemon.say(["start", "everup.toml"])?;
    ensure!(said.code != Some(0), "{}", said.out);
    ensure!(
        said.err.contains("read the secret file") && said.err.contains("nowhere"),
        "{}",
        said.err
    );
    let list = daemon.json(["list", "--json"])?;
    ensure!(list["apps"].as_array().is_some_and(Vec::is_empty), "{list}");
    Ok(())
}

#[test]
fn a_line_reaches_the_standard_input() -> Result<()> {
    let daemon = Daemon::new()?;
    let script = "process.stdin.on('data', (data) => console.log(`heard ${data}`));";
    fs::write(daemon.home().join("app.js"), script)?;
    daemon.ok(["start", "app.js"])?;
    daemon.ok(["send", "0", "hello there"])?;
    let log = daemon.home().join("logs/app-out.log");
    let heard = |text: &str| {
        wait_until(text, LIMIT, || match fs::read_to_string(&log) {
            Ok(log) if log.contains(text) => Ok(()),
            other => Err(format!("{other:?}")),
        })
    };
    heard("heard hello there\n")?;
    // It is still there under the next daemon.
    let before = daemon.pong()?;
    e2e::process::signal(before.pid, rustix::process::Signal::KILL)?;
    daemon.until_pong("a successor", |pong| pong.incarnation > before.incarnation)?;
    daemon.ok(["send", "app", "once more"])?;
    heard("heard once more\n")
}
