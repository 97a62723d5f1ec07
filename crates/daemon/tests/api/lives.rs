//! Apps from their start to their end.

use crate::harness::{Daemon, only, shell, sleeper, until};
use everup_api::ErrorCode;
use everup_api::v1::{AppState, Done, Environment, Plan, StepAction};
use serde_json::json;

#[test]
fn ids_are_not_given_again_until_nobody_has_one() {
    let daemon = Daemon::start();
    daemon.start_app(sleeper("a", 2)).unwrap();
    daemon.start_app(sleeper("b", 1)).unwrap();
    let ids = |name: &str| -> Vec<u32> {
        daemon
            .app(name)
            .unwrap()
            .instances
            .iter()
            .map(|one| one.id)
            .collect()
    };
    assert_eq!((ids("a"), ids("b")), (vec![0, 1], vec![2]));
    daemon.done("delete", &json!({"targets": ["b"]}));
    daemon.start_app(sleeper("b", 1)).unwrap();
    assert_eq!(ids("b"), [3]);
    daemon.done("scale", &json!({"target": "a", "workers": "1"}));
    daemon.done("scale", &json!({"target": "a", "workers": "2"}));
    assert_eq!(ids("a"), [0, 4]);
    // Start, stop, start and restart keep them.
    for call in ["stop", "start", "restart"] {
        daemon.done(call, &json!({"targets": ["a"]}));
    }
    assert_eq!(ids("a"), [0, 4]);
    daemon.done("delete", &json!({"targets": ["all"]}));
    daemon.start_app(sleeper("c", 1)).unwrap();
    assert_eq!(ids("c"), [0]);
}

#[test]
fn what_cannot_be_started_is_not_there() {
    let daemon = Daemon::start();
    let missing = json!({"name": "x", "script": "/no/such/program", "cwd": "/"});
    assert_eq!(
        daemon.start_app(missing.clone()).unwrap_err().code,
        ErrorCode::BadInput
    );
    let folder = json!({"name": "y", "script": "/etc", "cwd": "/"});
    let error = daemon.start_app(folder).unwrap_err();
    assert_eq!(error.code, ErrorCode::BadInput);
    assert!(error.message.contains("could not be started"), "{error}");
    assert_eq!(daemon.list(), []);
    // One that is there stays as it was.
    daemon.start_app(sleeper("x", 1)).unwrap();
    let pids = daemon.pids("x");
    assert!(daemon.start_app(missing).is_err());
    assert_eq!(
        (daemon.pids("x"), daemon.app("x").unwrap().spec.script.as_str()),
        (pids, "/bin/sleep")
    );
}

#[test]
fn restart_replaces_the_processes_and_reload_too() {
    let daemon = Daemon::start();
    daemon.start_app(sleeper("web", 2)).unwrap();
    until("ready", || {
        daemon
            .app("web")
            .unwrap()
            .instances
            .iter()
            .all(|one| one.state == Some(everup_api::WorkerState::Ready))
    });
    let mut last = daemon.pids("web");
    for (call, said) in [
        ("restart", "restarted"),
        ("reload", "reloaded"),
        ("restart", "restarted"),
    ] {
        let done = daemon.done(call, &json!({"targets": ["web"]}));
        assert_eq!(only(done).unwrap(), said);
        let now = daemon.pids("web");
        assert!(
            now.len() == 2 && now.iter().all(|pid| !last.contains(pid)),
            "{call}: {last:?} → {now:?}"
        );
        last = now;
    }
    // One instance of several.
    let done = daemon.done("restart", &json!({"targets": ["1"]}));
    assert_eq!(done.apps[0].ids, [1]);
    until("one is another", || {
        let now = daemon.pids("web");
        now.len() == 2 && now[0] == last[0] && now[1] != last[1]
    });
    let error = daemon
        .post::<Done>("stop", &json!({"targets": ["1"]}))
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::Unsupported);
    assert!(error.hint.unwrap().contains("everup scale web 1"));
}

#[test]
fn an_app_that_keeps_dying_has_failed_and_why_says_so() {
    let daemon = Daemon::start();
    let mut app = shell("bad", "exit 3");
    app["max_restarts"] = json!("2");
    let error = daemon
        .post::<Done>("start", &json!({"apps": [app], "wait": true}))
        .map(only)
        .unwrap()
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::AppFailed, "{error}");
    let app = daemon.app("bad").unwrap();
    assert_eq!(app.state, AppState::Failed);
    assert_eq!(app.instances[0].last_exit.as_ref().unwrap().code, Some(3));
    assert!(app.because.unwrap().contains("code 3"));
    let why: serde_json::Value = daemon
        .client()
        .get("why", &[("target", "bad"), ("limit", "1")])
        .unwrap();
    assert_eq!(why[0]["exits"].as_array().unwrap().len(), 1);
    assert_eq!(why[0]["exits"][0]["status"]["code"], 3);
    daemon.done("stop", &json!({"targets": ["bad"]}));
    assert_eq!(daemon.app("bad").unwrap().state, AppState::Stopped);
}

#[test]
fn variables_are_inherited_once_and_renewed_if_asked() {
    let daemon = Daemon::start();
    let start = json!({"apps": [sleeper("web", 1)], "inherited": {"API_TOKEN": "old", "PLAIN": "1"}});
    daemon.done("start", &start);
    let variable = |name: &str| {
        let environment = std::fs::read(format!("/proc/{}/environ", daemon.pids("web")[0])).unwrap();
        let text = String::from_utf8(environment).unwrap();
        text.split('\0')
            .find_map(|one| one.strip_prefix(&format!("{name}=")).map(str::to_owned))
    };
    assert_eq!(variable("API_TOKEN").as_deref(), Some("old"));
    assert_eq!(variable("CARGO_PKG_NAME"), None, "ours is not passed on");
    let new = json!({"targets": ["web"], "inherited": {"API_TOKEN": "new"}});
    daemon.done("restart", &new);
    assert_eq!(variable("API_TOKEN").as_deref(), Some("old"));
    daemon.done(
        "restart",
        &json!({"targets": ["web"], "inherited": {"API_TOKEN": "new"}, "update_env": true}),
    );
    assert_eq!(
        (variable("API_TOKEN").as_deref(), variable("PLAIN")),
        (Some("new"), None)
    );
    let shown: Environment = daemon.client().get("env", &[("target", "web")]).unwrap();
    assert_eq!(shown.inherited["API_TOKEN"], "[redacted]");
    let shown: Environment = daemon
        .client()
        .get("env", &[("target", "web"), ("reveal", "1")])
        .unwrap();
    assert_eq!(shown.inherited["API_TOKEN"], "new");
    // Nothing of it is on disk, until somebody says so.
    let state = std::fs::read_to_string(daemon.home.join("state.json")).unwrap();
    assert!(state.contains("web") && !state.contains("API_TOKEN"), "{state}");
    daemon.done("save", &json!({}));
    assert!(
        std::fs::read_to_string(daemon.home.join("saved.json"))
            .unwrap()
            .contains("API_TOKEN")
    );
}

#[test]
fn a_file_is_applied() {
    let daemon = Daemon::start();
    let apply = |apps: serde_json::Value| json!({"origin": "/srv/everup.toml", "apps": apps});
    let first = apply(json!([sleeper("a", 1), sleeper("b", 1)]));
    daemon.done("apply", &first);
    let pids = (daemon.pids("a"), daemon.pids("b"));
    let actions = |body: &serde_json::Value| -> Vec<StepAction> {
        let plan: Plan = daemon.post("plan", body).unwrap();
        plan.steps.iter().map(|step| step.action).collect()
    };
    assert_eq!(actions(&first), [StepAction::Nothing, StepAction::Nothing]);
    let mut a = sleeper("a", 1);
    a["env"] = json!({"X": "1"});
    let second = apply(json!([a, sleeper("c", 1)]));
    assert_eq!(
        actions(&second),
        [StepAction::Reload, StepAction::Start, StepAction::Delete]
    );
    let done = daemon.done("apply", &second);
    let said: Vec<(&str, &str)> = done
        .apps
        .iter()
        .map(|app| (app.app.as_str(), app.done.as_str()))
        .collect();
    assert_eq!(
        said,
        [("a", "reloaded"), ("c", "started"), ("b", "deleted")],
        "{done:?}"
    );
    assert_ne!(daemon.pids("a"), pids.0);
    let third = apply(json!([second["apps"][0], sleeper("c", 3)]));
    assert_eq!(actions(&third), [StepAction::Nothing, StepAction::Scale]);
    let (kept, c) = (daemon.pids("a"), daemon.pids("c"));
    daemon.done("apply", &third);
    assert_eq!((daemon.pids("a"), daemon.pids("c").len()), (kept, 3));
    assert!(daemon.pids("c").contains(&c[0]));
}

#[test]
fn what_was_saved_comes_back_and_kill_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::at(folder.path());
    daemon.done(
        "start",
        &json!({"apps": [sleeper("a", 2), sleeper("b", 1)], "inherited": {"X": "1"}}),
    );
    daemon.done("stop", &json!({"targets": ["b"]}));
    daemon.done("save", &json!({}));
    daemon.start_app(sleeper("c", 1)).unwrap();
    daemon.kill();
    until("nothing is left", || daemon.processes().is_empty());
    let daemon = Daemon::at(folder.path());
    assert_eq!(daemon.list(), [], "of the same boot, `kill` is meant");
    let done = daemon.done("resurrect", &json!({}));
    assert!(done.apps.iter().all(|app| app.error.is_none()), "{done:?}");
    let states: Vec<_> = daemon
        .list()
        .iter()
        .map(|app| (app.spec.name.clone(), app.state))
        .collect();
    assert_eq!(
        states,
        [("a".into(), AppState::Running), ("b".into(), AppState::Stopped)]
    );
    assert_eq!(daemon.pids("a").len(), 2);
}

#[test]
fn a_damaged_state_is_replaced_by_the_one_before_and_it_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path();
    let mut daemon = Daemon::at(home);
    daemon.start_app(sleeper("a", 1)).unwrap();
    daemon.start_app(sleeper("b", 1)).unwrap();
    let (state, old) = (home.join("state.json"), home.join("state.json.old"));
    let (new, before) = (std::fs::read(&state).unwrap(), std::fs::read(&old).unwrap());
    daemon.kill();
    // As after a power cut: the last one is torn. (Another boot: it may start what ran.)
    std::fs::write(&state, &new[..new.len() / 2]).unwrap();
    std::fs::write(&old, before).unwrap();
    let daemon = Daemon::at(home);
    until("what ran before runs again", || {
        daemon.app("a").is_some_and(|app| app.state == AppState::Running)
    });
    let done = daemon.done("restart", &json!({"targets": ["a"]}));
    assert!(
        done.notices
            .iter()
            .any(|notice| notice.contains("the state before that is used")),
        "{done:?}"
    );
}
