//! What scripts that were written for pm2 read: its words for states, its list, its JSON.
//!
//! Pure: apps in, text and JSON out. Each difference has its reason in `docs/pm2-compat.md`.

pub(crate) mod describe;
pub(crate) mod element;
pub(crate) mod grid;
pub(crate) mod inspect;
pub(crate) mod table;

use everup_api::WorkerState;
use everup_api::v1::{App, AppState, Instance};

/// pm2's word for what an instance does.
pub(crate) fn status(app: &App, instance: &Instance) -> &'static str {
    let leaving = matches!(
        instance.state,
        Some(WorkerState::Draining | WorkerState::Stopping)
    );
    match (instance.pid, app.state) {
        (Some(_), AppState::Stopping) => "stopping",
        (Some(_), _) if leaving => "stopping",
        // pm2 says `online` as soon as the process is there, unless it waits for the message.
        (Some(_), _)
            if instance.state == Some(WorkerState::Starting) && app.spec.wait_ready == Some(true) =>
        {
            "launching"
        }
        (Some(_), _) => "online",
        (None, AppState::Stopping) => "stopping",
        (None, AppState::Failed) => "errored",
        (None, AppState::Backoff) => "waiting restart",
        (None, AppState::Running | AppState::Waiting) if instance.last_exit.is_none() => "launching",
        (None, AppState::Running | AppState::Waiting) => "waiting restart",
        (None, AppState::Stopped | AppState::Scheduled | _) => "stopped",
    }
}

/// pm2's `exec_mode`.
pub(crate) fn mode(app: &App) -> &'static str {
    if app.clustered {
        "cluster_mode"
    } else {
        "fork_mode"
    }
}

/// `3s`, `2m`, `5h`, `4D`: the unit changes at two of it.
pub(crate) fn since(millis: u64) -> String {
    const UNITS: [(u64, &str); 5] = [
        (31_536_000, "Y"),
        (2_592_000, "M"),
        (86_400, "D"),
        (3_600, "h"),
        (60, "m"),
    ];
    let seconds = millis / 1000;
    let unit = UNITS.iter().find(|(unit, _)| seconds / unit > 1);
    unit.map_or_else(
        || format!("{seconds}s"),
        |(unit, name)| format!("{}{name}", seconds / unit),
    )
}

/// `52.6mb`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [(u32, &str); 4] = [(40, "tb"), (30, "gb"), (20, "mb"), (10, "kb")];
    match UNITS.iter().find(|(shift, _)| bytes >> shift > 0) {
        Some((shift, name)) => {
            let tenths = (u128::from(bytes) * 10 + (1 << (shift - 1))) >> shift;
            format!("{}.{}{name}", tenths / 10, tenths % 10)
        }
        None => format!("{bytes}b"),
    }
}

/// Percent with one decimal at most, as JavaScript writes numbers.
pub(crate) fn percent(cpu: Option<f64>) -> String {
    let text = format!("{:.1}", cpu.unwrap_or(0.0));
    text.strip_suffix(".0").unwrap_or(&text).to_owned()
}

/// Apps and their instances in one list, by id: pm2's processes.
pub(crate) fn processes(apps: &[App]) -> Vec<(&App, &Instance)> {
    let mut all: Vec<(&App, &Instance)> = apps
        .iter()
        .flat_map(|app| app.instances.iter().map(move |instance| (app, instance)))
        .collect();
    all.sort_by_key(|(_, instance)| instance.id);
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::samples::app;

    #[test]
    fn words_for_states() {
        let mut web = app("web");
        let at = |web: &App, index: usize| status(web, &web.instances[index]);
        assert_eq!(at(&web, 0), "online");
        web.instances[0].state = Some(WorkerState::Starting);
        assert_eq!(at(&web, 0), "online");
        web.spec.wait_ready = Some(true);
        assert_eq!(at(&web, 0), "launching");
        web.instances[0].state = Some(WorkerState::Draining);
        assert_eq!(at(&web, 0), "stopping");
        web.instances[0].pid = None;
        for (state, expected) in [
            (AppState::Running, "waiting restart"),
            (AppState::Backoff, "waiting restart"),
            (AppState::Stopping, "stopping"),
            (AppState::Stopped, "stopped"),
            (AppState::Failed, "errored"),
            (AppState::Scheduled, "stopped"),
        ] {
            web.state = state;
            assert_eq!(at(&web, 0), expected, "{state:?}");
        }
        web.state = AppState::Running;
        web.instances[0].last_exit = None;
        assert_eq!(at(&web, 0), "launching");
    }

    #[test]
    fn amounts() {
        for (millis, expected) in [
            (0, "0s"),
            (119_999, "119s"),
            (120_000, "2m"),
            (7_199_000, "119m"),
            (7_200_000, "2h"),
            (172_800_000, "2D"),
        ] {
            assert_eq!(since(millis), expected);
        }
        for (bytes, expected) in [
            (0, "0b"),
            (135_168, "132.0kb"),
            (55_160_832, "52.6mb"),
            (1 << 30, "1.0gb"),
        ] {
            assert_eq!(size(bytes), expected);
        }
        assert_eq!(percent(None), "0");
        assert_eq!(percent(Some(7.74)), "7.7");
        assert_eq!(percent(Some(12.0)), "12");
    }
}
