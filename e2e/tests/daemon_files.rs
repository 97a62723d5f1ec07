//! Files of apps through the binary: what `plan` says is what `apply` does, and what is gone from a file is gone.

use anyhow::{Context, Result, ensure};
use e2e::Daemon;
use serde_json::Value;
use std::fs;

/// What a plan says of each app, and which keys differ.
fn planned(daemon: &Daemon, arguments: &[&str]) -> Result<Vec<String>> {
    let words = ["plan", "--json"].iter().chain(arguments);
    let plan = daemon.json(words)?;
    let steps = plan["steps"].as_array().context("steps")?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut all: Vec<String> = steps
        .iter()
        .map(|step| {
            let changes = step["changes"].as_array().into_iter().flatten();
            let keys: Vec<String> = changes.map(|change| text(&change["key"])).collect();
            format!(
                "{} {} {}",
                text(&step["app"]),
                text(&step["action"]),
                keys.join(",")
            )
            .trim_end()
            .to_owned()
        })
        .collect();
    all.sort();
    Ok(all)
}

#[test]
fn apps_become_what_the_file_says() -> Result<()> {
    let daemon = Daemon::new()?;
    let file = daemon.home().join("everup.toml");
    let app = |name: &str, more: &str| format!("[app.{name}]\nscript = 'sleep'\nargs = ['1000']\n{more}\n");
    let first = [
        app("kept", "env = { A = '1', TOKEN = 's3cr3t' }"),
        app("gone", ""),
        app("more", "instances = 1"),
    ];
    fs::write(&file, first.concat())?;
    ensure!(planned(&daemon, &[])? == ["gone start", "kept start", "more start"]);
    daemon.ok(["apply"])?;
    for name in ["kept", "gone", "more"] {
        daemon.ready(name, 1)?;
    }
    ensure!(planned(&daemon, &[])? == ["gone nothing", "kept nothing", "more nothing"]);
    let before = daemon.pids("more")?;

    let second = [
        app("kept", "env = { B = '2', TOKEN = 'other' }"),
        app("more", "instances = 3"),
        app("new", ""),
    ];
    fs::write(&file, second.concat())?;
    let plan = planned(&daemon, &[])?;
    ensure!(
        plan == [
            "gone delete",
            "kept reload env.A,env.B,env.TOKEN",
            "more scale instances",
            "new start"
        ],
        "{plan:?}"
    );
    let shown = daemon.ok(["plan"])?;
    ensure!(!shown.contains("s3cr3t") && !shown.contains("other"), "{shown}");
    daemon.ok(["apply"])?;
    daemon.ready("kept", 1)?;
    let after = daemon.ready("more", 3)?;
    ensure!(after.first() == before.first(), "{before:?} {after:?}");
    ensure!(daemon.app("gone").is_err());
    let env = &daemon.app("kept")?["spec"]["env"];
    ensure!(env.get("A").is_none() && env["B"] == "2", "{env}");
    ensure!(
        planned(&daemon, &[])?
            .iter()
            .all(|step| step.ends_with(" nothing"))
    );
    Ok(())
}

#[test]
fn only_some_apps_of_a_file_are_touched() -> Result<()> {
    let daemon = Daemon::new()?;
    let text = "module.exports = ['a', 'b'].map((name) => ({ name, script: 'sleep', args: '1000', env_x: { X: name } }));";
    fs::write(daemon.home().join("ecosystem.config.js"), text)?;
    daemon.ok(["apply"])?;
    ensure!(planned(&daemon, &["--only", "a", "--env", "x"])? == ["a reload env.X"]);
    daemon.ok(["apply", "--only", "a", "--env", "x"])?;
    let plan = planned(&daemon, &["--env", "x"])?;
    ensure!(plan == ["a nothing", "b reload env.X"], "{plan:?}");
    Ok(())
}

#[test]
fn a_wrong_file_touches_nothing() -> Result<()> {
    let daemon = Daemon::new()?;
    fs::write(
        daemon.home().join("everup.toml"),
        "[app.a]\nscript = 'sleep'\ninstance = 2\n",
    )?;
    for verb in ["apply", "plan", "start"] {
        let said = daemon.say([verb, "everup.toml"])?;
        ensure!(said.code == Some(3), "{said:?}");
        ensure!(
            said.err.contains("everup.toml:3:1: there is no key `instance`"),
            "{said:?}"
        );
        ensure!(said.err.contains("hint: did you mean `instances`?"), "{said:?}");
    }
    Ok(())
}
