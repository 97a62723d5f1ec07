//! Descriptions of apps, as engines get them.

use super::*;
use std::path::PathBuf;

fn app(script: &str, cwd: &std::path::Path) -> AppSpec {
    AppSpec {
        name: "web".into(),
        script: script.into(),
        cwd: cwd.into(),
        ..AppSpec::default()
    }
}

fn inherited(pairs: &[(&str, &str)]) -> Arc<BTreeMap<String, String>> {
    Arc::new(
        pairs
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect(),
    )
}

fn planner() -> Planner {
    Planner {
        home: "/nowhere/everup".into(),
    }
}

#[test]
fn what_workers_get_is_what_was_inherited_and_what_the_app_says() {
    let folder = tempfile::tempdir().unwrap();
    let mut app = app("sleep", folder.path());
    app.args = vec!["100".into()];
    app.env.insert("MODE".into(), "app".into());
    let inherited = inherited(&[("PATH", "/usr/bin:/bin"), ("MODE", "shell"), ("HOME", "/home/x")]);
    let spec = planner().prepare(&app, &inherited).unwrap().spec;
    assert!(spec.clear_env && !spec.init && spec.ends_when_done);
    let value = |name: &str| {
        let found = spec.env.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.to_str().unwrap().to_owned())
    };
    assert_eq!(value("MODE").as_deref(), Some("app"));
    assert_eq!(value("HOME").as_deref(), Some("/home/x"));
    assert_eq!(value("PWD").as_deref(), folder.path().to_str());
    assert_eq!(value("CARGO_MANIFEST_DIR"), None);
    assert_eq!(spec.program, PathBuf::from("/usr/bin/sleep"));
}

#[test]
fn the_program_is_looked_for_in_the_path_of_the_starter() {
    let folder = tempfile::tempdir().unwrap();
    let error = planner()
        .prepare(&app("sleep", folder.path()), &inherited(&[("PATH", "/nowhere")]))
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::BadInput, "{error}");
}

#[test]
fn errors_are_those_of_run() {
    let folder = tempfile::tempdir().unwrap();
    let mut app = app("sleep", folder.path());
    app.kill_timeout = Some("soon".into());
    let path = inherited(&[("PATH", "/usr/bin:/bin")]);
    let error = planner().prepare(&app, &path).unwrap_err();
    assert_eq!(error.code, ErrorCode::InvalidValue);
    assert_eq!(
        error.message,
        "invalid value `soon` for --kill-timeout: not a duration"
    );
    assert!(error.hint.is_some());
    app.kill_timeout = None;
    app.policy = Some("random".into());
    let error = planner().prepare(&app, &path).unwrap_err();
    assert_eq!(error.message, "invalid value `random` for `policy`");
    assert!(error.hint.unwrap().contains("least-connections"));
}

#[test]
fn variables_that_are_filtered() {
    let all = inherited(&[
        ("PATH", "/bin"),
        ("AWS_KEY", "1"),
        ("AWS_REGION", "2"),
        ("LANG", "C"),
    ]);
    let names = |filter: &FilterEnv| {
        let left = filtered(Some(filter), &all);
        left.keys().cloned().collect::<Vec<_>>()
    };
    assert_eq!(
        names(&FilterEnv::Containing(vec!["AWS".into()])),
        ["LANG", "PATH"]
    );
    assert_eq!(names(&FilterEnv::All(true)), ["PATH"]);
    assert_eq!(names(&FilterEnv::All(false)).len(), 4);
}

#[test]
fn words_survive_being_split() {
    for text in ["--x=1", "a b", "it's", ""] {
        assert_eq!(crate::words::split(&quoted(text)).unwrap(), [text]);
    }
}

#[test]
fn a_node_app_is_asked_as_pm2_asks_and_others_as_usual() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("app.js"), "").unwrap();
    let path = inherited(&[("PATH", "/usr/local/bin:/usr/bin:/bin")]);
    let stop = |app: &AppSpec| planner().prepare(app, &path).unwrap().spec.stop;
    let node = app("app.js", folder.path());
    assert_eq!(
        (stop(&node).at_stop, stop(&node).ask),
        (Some(Ask::Signal(2)), Ask::Disconnect)
    );
    let chosen = AppSpec {
        kill_signal: Some("SIGTERM".into()),
        ..node.clone()
    };
    assert_eq!(
        (stop(&chosen).at_stop, stop(&chosen).ask),
        (None, Ask::Signal(15))
    );
    let alone = AppSpec {
        exec_mode: Some(ExecMode::Fork),
        ..node
    };
    assert_eq!((stop(&alone).at_stop, stop(&alone).ask), (None, Ask::Signal(2)));
    assert_eq!(stop(&app("sleep", folder.path())).at_stop, None);
}
