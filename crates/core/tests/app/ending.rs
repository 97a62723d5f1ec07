//! Everybody disconnects; channels for messages only.

use super::sim::{Sim, config};
use everup_core::app::{Config, Input, Notice, Outcome};
use everup_core::exit::ExitStatus;
use everup_core::id::WorkerId;
use everup_core::restart::RestartPolicy;
use everup_core::worker::{Ask, ReadyBasis, State};
use std::time::Duration;

const ONE: WorkerId = WorkerId(1);
const TWO: WorkerId = WorkerId(2);

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[test]
fn all_disconnect_in_their_own_time() {
    let mut sim = Sim::new(config(2));
    sim.boot_all();
    sim.feed(Input::DisconnectAll);
    for worker in [1, 2] {
        assert_eq!(sim.said(worker).last(), Some(&"disconnect"));
    }
    assert!(sim.sockets.is_empty(), "nobody is let in any more");
    sim.wait(seconds(3600));
    assert_eq!(sim.said(1).last(), Some(&"disconnect"), "it may take its time");
    sim.die(ONE, ExitStatus::Code(1));
    assert_eq!((sim.ids(), sim.outcome), (vec![TWO], None), "nobody is started");
    sim.die(TWO, ExitStatus::Code(0));
    assert_eq!(sim.outcome, Some(Outcome::Stopped));
}

#[test]
fn a_stop_hurries_those_who_disconnect() {
    let mut sim = Sim::new(config(1));
    sim.boot_all();
    sim.feed(Input::DisconnectAll);
    sim.feed(Input::Stop);
    sim.wait(seconds(6));
    assert_eq!(sim.said(1).last(), Some(&"SIGKILL"));
    sim.die(ONE, ExitStatus::Unknown);
    assert_eq!(sim.outcome, Some(Outcome::Killed { workers: 1 }));
}

#[test]
fn without_workers_it_is_over_at_once() {
    let mut sim = Sim::new(config(0));
    sim.feed(Input::DisconnectAll);
    assert_eq!(sim.outcome, Some(Outcome::Stopped));
}

fn ipc() -> Config {
    Config {
        ipc: true,
        restart: RestartPolicy::default(),
        ready_limit: Some(seconds(5)),
        ..config(1)
    }
}

/// It says neither that it boots nor that it listens.
#[test]
fn with_messages_only_uptime_makes_ready() {
    let mut sim = Sim::new(ipc());
    sim.wait(seconds(2));
    let by_uptime = |notice: &Notice| {
        matches!(
            notice,
            Notice::Ready {
                basis: ReadyBasis::Uptime,
                ..
            }
        )
    };
    assert_eq!(sim.count(by_uptime), 1);
    sim.wait(seconds(60));
    assert_eq!(sim.said(1), &[] as &[&str], "nothing is held against it");
}

/// It may close its channel and live on.
#[test]
fn with_messages_only_a_closed_channel_is_no_end() {
    let mut sim = Sim::new(ipc());
    sim.wait(seconds(2));
    sim.feed(Input::ChannelClosed { worker: ONE });
    sim.wait(seconds(3600));
    assert_eq!(sim.said(1), &[] as &[&str]);
    sim.feed(Input::Stop);
    sim.wait(seconds(1));
    assert_eq!(sim.said(1), ["SIGTERM"]);
}

#[test]
fn a_look_at_one_worker_is_what_the_status_says() {
    let mut sim = Sim::new(Config {
        ask: Ask::Disconnect,
        ..config(2)
    });
    sim.boot_all();
    sim.feed(Input::Disconnect { worker: TWO });
    let look = sim.app.look(sim.now, TWO).expect("it lives");
    assert_eq!(
        (look.id, look.state, look.voluntary),
        (TWO, State::Draining, true)
    );
    sim.die(TWO, ExitStatus::Code(0));
    assert!(sim.app.look(sim.now, TWO).is_none());
}
