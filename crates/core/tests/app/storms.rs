//! Must show 3 of issue 3: histories of random death, slow start, late answers, refusals, reloads, scaling and stop, in
//! virtual time, from seeds. `EVERUP_SOAK=1` runs 100,000 of them; a failure names its seed, and
//! `EVERUP_SEED=n` runs that one alone.
//!
//! Beside what the simulation itself asserts (a connection in one place, nothing given to the dead, no spinning):
//! nobody is lost track of; a slot has at most one worker and one successor; there are never more than allowed; the
//! capacity floor of a reload is kept; a restart comes no earlier than its delay, and not at all when the budget is
//! spent; every reload has one receipt; whatever happened, the cluster comes to rest, complete and of one generation.

use super::sim::{Sim, config};
use everup_core::app::{Accepted, Config, Input, Notice, Outcome, Role};
use everup_core::cause::Cause;
use everup_core::exit::ExitStatus;
use everup_core::health::{Checks, Probed};
use everup_core::id::{Slot, WorkerId};
use everup_core::reload::Rollout;
use everup_core::restart::Death;
use everup_core::schedule::Policy;
use everup_core::time::Time;
use everup_core::wire::Event;
use everup_core::worker::State;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Enough to choose.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % end.max(1)
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn few(&mut self, end: u64) -> u32 {
        u32::try_from(self.below(end)).expect("it is few")
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> Option<T> {
        let index = self.few(all.len() as u64);
        all.get(index as usize).copied()
    }
}

/// One history.
struct History {
    random: Random,
    sim: Sim,
    /// Nothing happens to old workers but reloads: the floor must be kept.
    calm: bool,
    floor: usize,
    /// The largest surge that was asked for.
    surge: usize,
    asked: BTreeSet<u32>,
    /// No worker may be started in the slot before.
    not_before: BTreeMap<Slot, Time>,
    seen: usize,
}

impl History {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        random.below(1);
        let calm = random.chance(30);
        let workers = 1 + random.few(5);
        let mut config = Config {
            policy: if random.chance(50) {
                Policy::RoundRobin
            } else {
                Policy::LeastConnections
            },
            ready_limit: random.chance(50).then_some(Duration::from_secs(3)),
            spares: u32::from(!calm && random.chance(30)) * 2,
            stuck_timeout: (!calm && random.chance(50)).then_some(Duration::from_secs(2)),
            max_age: (!calm && random.chance(20)).then_some(Duration::from_secs(20)),
            memory_limit: Some(100 << 20),
            drain_timeout: Duration::from_millis(1 + random.below(5000)),
            max_draining: 1 + random.few(3),
            seed,
            ..config(workers)
        };
        if !calm && random.chance(20) {
            config.checks = Some(Checks::default());
        }
        let mut history = Self {
            sim: Sim::new(config),
            random,
            calm,
            floor: 0,
            surge: 1,
            asked: BTreeSet::new(),
            not_before: BTreeMap::new(),
            seen: 0,
        };
        if calm {
            history.boot_all();
            history.floor = history.sim.serving().len();
        }
        history
    }

    fn run(mut self) {
        for _ in 0..self.random.below(60) {
            self.step();
            self.check();
            if self.sim.outcome.is_some() {
                break;
            }
        }
        if self.sim.outcome.is_none() {
            self.comes_to_rest();
        }
        self.ends();
    }

    fn boot_all(&mut self) {
        for worker in self.sim.ids() {
            self.boot(worker);
        }
    }

    fn boot(&mut self, worker: WorkerId) {
        let fresh = self
            .sim
            .alive
            .get(&worker)
            .is_some_and(|p| p.channel && !p.said.contains(&"hand-over"));
        if fresh {
            self.sim.boot(worker);
        }
        self.answer_probes(true);
    }

    fn answer_probes(&mut self, well: bool) {
        for (worker, probe) in std::mem::take(&mut self.sim.probes) {
            let found = match well {
                true => Probed::Ok,
                false => Probed::Failed("status 500".into()),
            };
            self.sim.feed(Input::Probed { worker, probe, found });
        }
    }

    fn pick(&mut self) -> Option<WorkerId> {
        let ids = self.sim.ids();
        self.random.of(&ids)
    }

    fn step(&mut self) {
        match self.random.below(100) {
            0..20 => {
                if let Some(worker) = self.pick() {
                    self.boot(worker);
                }
            }
            20..30 => self.sim.connect(self.random.few(8) as usize),
            30..45 => {
                if let Some(worker) = self.pick() {
                    let accepted = self.random.chance(85);
                    self.sim.answer(worker, accepted);
                }
            }
            45..65 => {
                let ms = match self.random.below(3) {
                    0 => self.random.below(50),
                    1 => self.random.below(1500),
                    _ => self.random.below(8000),
                };
                // In calm times nobody is given reason to be impatient.
                if self.calm {
                    self.boot_all();
                    self.answer_everything();
                }
                self.sim.wait(Duration::from_millis(ms));
            }
            65..75 => self.obey(),
            75..81 => self.reload(),
            81..83 => self.sim.feed(Input::AbortReload),
            83..86 => self.fail_an_incoming(),
            _ if self.calm => {}
            86..92 => self.kill_somebody(),
            92..94 => self.hurt_somebody(),
            94..96 => {
                let workers = self.random.few(6);
                self.not_before.clear();
                self.sim.feed(Input::Scale { workers });
            }
            96 => self.answer_probes(false),
            97 => {
                if let Some(worker) = self.pick() {
                    self.sim.say(worker, Event::Leaving);
                }
            }
            98 => {
                let what = self.pick().and_then(|worker| self.sim.alive.get_mut(&worker));
                if let Some(process) = what {
                    process.stubborn = true;
                }
            }
            _ => {
                if let Some(worker) = self.pick() {
                    self.sim.feed(Input::Garbled {
                        worker,
                        what: "nonsense".into(),
                    });
                }
            }
        }
    }

    fn answer_everything(&mut self) {
        for worker in self.sim.ids() {
            while self
                .sim
                .alive
                .get(&worker)
                .is_some_and(|p| !p.in_flight.is_empty())
            {
                self.sim.answer(worker, true);
            }
        }
    }

    /// Who was told to go, goes; a stubborn one only by SIGKILL.
    fn obey(&mut self) {
        for worker in self.sim.ids() {
            let process = &self.sim.alive[&worker];
            let told = |what| process.said.contains(&what);
            let goes = told("SIGKILL") || !process.stubborn && (told("SIGTERM") || told("disconnect"));
            if goes && self.random.chance(70) {
                while self
                    .sim
                    .alive
                    .get(&worker)
                    .is_some_and(|p| !p.in_flight.is_empty())
                {
                    self.sim.answer(worker, true);
                }
                self.sim.die(worker, ExitStatus::Code(0));
            }
        }
    }

    /// Who leaves of its own accord ends in the end.
    fn let_go(&mut self) {
        let status = self.sim.app.status(self.sim.now);
        for worker in status.workers.iter().filter(|w| w.state == State::Draining) {
            self.sim.die(worker.id, ExitStatus::Code(0));
        }
    }

    fn reload(&mut self) {
        let slots = self.sim.app.status(self.sim.now).workers.len().max(1) as u64;
        let surge = self.random.few(slots.min(3) + 1);
        let gaps = if self.calm { 0 } else { self.random.few(2) };
        let rollout = Rollout::default()
            .surge(if self.calm { surge.max(1) } else { surge })
            .max_unavailable(gaps)
            .canary(Duration::from_millis(self.random.below(3) * 700))
            .ready_limit(Duration::from_secs(5));
        self.surge = self.surge.max(rollout.surge as usize);
        self.not_before.clear();
        match self.sim.reload(Some(rollout)) {
            Accepted::Begun { generation } | Accepted::Queued { generation } => self.asked.insert(generation),
            _ => false,
        };
    }

    fn fail_an_incoming(&mut self) {
        let status = self.sim.app.status(self.sim.now);
        let incoming = status.workers.iter().filter(|w| w.role == Role::Incoming);
        let incoming: Vec<WorkerId> = incoming.map(|w| w.id).collect();
        if let Some(worker) = self.random.of(&incoming) {
            self.sim.die(worker, ExitStatus::Code(1));
        }
    }

    fn kill_somebody(&mut self) {
        if let Some(worker) = self.pick() {
            let status = match self.random.below(3) {
                0 => ExitStatus::Code(1),
                1 => ExitStatus::Code(0),
                _ => ExitStatus::Signal {
                    signal: 9,
                    core: false,
                },
            };
            self.sim.die(worker, status);
        }
    }

    fn hurt_somebody(&mut self) {
        let Some(worker) = self.pick() else { return };
        match self.random.below(5) {
            0 => self.sim.feed(Input::Measured {
                worker,
                // Every other time so much that it does not wait for its turn.
                bytes: (101 + 9 * u64::from(self.random.chance(50))) << 20,
            }),
            1 => self.sim.feed(Input::Unhealthy {
                worker,
                cause: Cause::Probe,
            }),
            2 => self.sim.feed(Input::Unhealthy {
                worker,
                cause: Cause::Watchdog,
            }),
            3 => self.sim.feed(Input::Disconnect { worker }),
            _ => self.sim.feed(Input::Cut { worker }),
        }
    }

    fn check(&mut self) {
        self.check_delays();
        if self.sim.outcome.is_some() {
            return;
        }
        let status = self.sim.app.status(self.sim.now);
        let known: Vec<WorkerId> = status.workers.iter().map(|w| w.id).collect();
        assert_eq!(known, self.sim.ids(), "somebody is lost track of");
        let mut holders: BTreeMap<Slot, u32> = BTreeMap::new();
        let mut incoming: BTreeMap<Slot, u32> = BTreeMap::new();
        for worker in &status.workers {
            match worker.role {
                Role::Active | Role::Spare => *holders.entry(worker.slot).or_default() += 1,
                Role::Incoming => *incoming.entry(worker.slot).or_default() += 1,
                _ => {}
            }
        }
        assert!(
            holders.values().all(|n| *n == 1),
            "two workers in a slot: {status:?}"
        );
        assert!(
            incoming.values().all(|n| *n == 1),
            "two successors for a slot: {status:?}"
        );
        assert!(
            holders.len() <= (status.target + status.spares) as usize,
            "{status:?}"
        );
        let most = if self.calm { self.surge } else { self.surge + 3 };
        assert!(incoming.len() <= most, "more than the surge: {status:?}");
        if self.calm {
            let active = status
                .workers
                .iter()
                .filter(|w| w.role == Role::Active && w.state == State::Online)
                .count();
            assert!(
                active >= self.floor,
                "{active} of {} serve: {status:?}",
                self.floor
            );
        }
        let all_gone = self.sim.alive.is_empty() && status.target > 0;
        assert!(
            !all_gone || self.sim.app.next_deadline(self.sim.now).is_some() || holders.is_empty(),
            "nobody is there, and nobody will come"
        );
    }

    /// What was announced for a slot holds, unless an operator came between.
    fn check_delays(&mut self) {
        let notices = &self.sim.notices[self.seen..];
        self.seen = self.sim.notices.len();
        for notice in notices {
            match notice {
                Notice::Respawn { slot, delay, death } => {
                    if let Death::Early { in_a_row } = death {
                        let full = match in_a_row {
                            0 | 1 => Duration::ZERO,
                            n => Duration::from_millis(100 << (n - 2).min(10)).min(Duration::from_secs(15)),
                        };
                        assert!(
                            *delay >= full.mul_f64(0.79),
                            "{delay:?} after {in_a_row} early deaths"
                        );
                    }
                    // The death was at most this step ago.
                    self.not_before.insert(*slot, self.sim.now);
                }
                Notice::Reloading { .. } | Notice::Reloaded(_) | Notice::Scaled { .. } => {
                    self.not_before.clear()
                }
                _ => {}
            }
        }
    }

    /// Everybody behaves from now on: it must become whole.
    fn comes_to_rest(&mut self) {
        for process in self.sim.alive.values_mut() {
            process.stubborn = false;
        }
        for _ in 0..600 {
            self.boot_all();
            self.answer_everything();
            self.obey();
            self.let_go();
            self.sim.wait(Duration::from_millis(250));
            self.answer_probes(true);
            if self.sim.outcome.is_some() {
                return;
            }
        }
        let status = self.sim.app.status(self.sim.now);
        let left: Vec<_> = status
            .workers
            .iter()
            .filter(|w| w.role == Role::Draining)
            .collect();
        assert!(left.len() <= 1, "somebody never goes: {left:?}");
        assert!(
            status
                .reload
                .is_none_or(|reload| reload.since < Duration::from_secs(60)),
            "{status:?}"
        );
        assert!(status.storm.is_none(), "{status:?}");
        let serving = self.sim.serving().len();
        let slots = status.workers.iter().filter(|w| w.role == Role::Active).count();
        assert_eq!(serving, slots, "{status:?}");
        for generation in &self.asked {
            let receipts = self.sim.receipts();
            let told = receipts
                .iter()
                .filter(|receipt| receipt.generation == *generation)
                .count();
            assert_eq!(told, 1, "receipts of generation {generation}");
        }
    }

    fn ends(mut self) {
        if self.sim.outcome.is_none() {
            self.sim.feed(Input::Stop);
        }
        for _ in 0..60 {
            self.sim.wait(Duration::from_millis(500));
            self.obey();
            if self.sim.outcome.is_some() && self.sim.alive.is_empty() {
                break;
            }
        }
        assert!(
            self.sim.outcome.is_some(),
            "it does not end: {:?}",
            self.sim.alive
        );
        if let Some(Outcome::Failed { .. }) = self.sim.outcome {
            assert!(self.sim.alive.is_empty(), "given up while somebody lives");
        }
        let forks = self.sim.count(|notice| matches!(notice, Notice::Fork { .. }));
        let exits = self.sim.count(|notice| matches!(notice, Notice::Exit { .. }));
        assert_eq!(forks, exits, "each worker's end is told once");
    }
}

#[test]
fn storms_of_everything() {
    let seed = std::env::var_os("EVERUP_SEED").and_then(|text| text.to_str()?.parse().ok());
    if let Some(seed) = seed {
        return History::new(seed).run();
    }
    let soak = std::env::var_os("EVERUP_SOAK").is_some();
    let runs = if soak { 100_000 } else { 800 };
    for seed in 1..=runs {
        let result = std::panic::catch_unwind(|| History::new(seed).run());
        assert!(result.is_ok(), "it failed with EVERUP_SEED={seed}");
    }
}
