//! Apps for tests of what is shown.

use everup_api::v1::{App, AppState, Instance, LastExit};
use everup_api::{AppSpec, Role, WorkerState};

/// Two workers of a Node app.
pub(crate) fn app(name: &str) -> App {
    let instance = |slot: u32| Instance {
        id: slot,
        slot,
        pid: Some(7637 + slot),
        worker: Some(slot + 1),
        generation: 2,
        role: Some(Role::Active),
        state: Some(WorkerState::Ready),
        started_at: Some(1_700_000_000_000),
        uptime_ms: 7_380_000,
        restarts: u64::from(slot == 0),
        connections: Some(u64::from(slot) + 3),
        memory: Some(55_160_832),
        cpu: Some(if slot == 0 { 7.74 } else { 0.0 }),
        last_exit: (slot == 0).then(|| LastExit {
            code: Some(1),
            at: 1_600_000_000_000,
            cause: "it exited with code 1".into(),
            ..LastExit::default()
        }),
        node_version: Some("v20.20.2".into()),
        out_file: Some(format!("/home/.everup/logs/{name}-out-{slot}.log").into()),
        error_file: Some(format!("/home/.everup/logs/{name}-error-{slot}.log").into()),
        ..Instance::default()
    };
    App {
        spec: AppSpec {
            name: name.into(),
            script: format!("{name}.js"),
            cwd: "/srv".into(),
            instances: Some("2".into()),
            ..AppSpec::default()
        },
        state: AppState::Running,
        generation: 2,
        target: 2,
        clustered: true,
        created_at: 1_600_000_000_000,
        user: "root".into(),
        version: Some("1.2.3".into()),
        interpreter: Some("/usr/bin/node".into()),
        script_path: Some(format!("/srv/{name}.js").into()),
        reload: None,
        last_reload: None,
        because: None,
        instances: vec![instance(0), instance(1)],
        others: vec![],
    }
}

/// One that does not run.
pub(crate) fn stopped(name: &str, id: u32) -> App {
    App {
        state: AppState::Stopped,
        clustered: false,
        version: None,
        instances: vec![Instance {
            id,
            ..Instance::default()
        }],
        target: 1,
        ..app(name)
    }
}

/// Very many workers; the last one is starting.
pub(crate) fn crowd(name: &str, workers: u32) -> App {
    let mut crowd = app(name);
    let one = crowd.instances[1].clone();
    crowd.instances = (0..workers)
        .map(|slot| Instance {
            id: slot + 10,
            slot,
            pid: Some(20_000 + slot),
            ..one.clone()
        })
        .collect();
    crowd.target = workers;
    if let Some(last) = crowd.instances.last_mut() {
        last.state = Some(WorkerState::Starting);
        last.uptime_ms = 340;
    }
    crowd
}
