//! Whether workers are well: readiness and liveness probes, and what they say by `sd_notify`.
//!
//! Where there is a liveness probe, a worker is ready when it has given its sign *and* passed the probe once: nobody gets
//! connections who would answer them badly. From then on the probe is repeated, and enough failures in a row are the
//! cause of its replacement.

use super::{Action, App, Notice, Phase};
use crate::cause::Cause;
use crate::health::{Checks, Health, HealthPlan, Input as Fact, ProbeId, Probed, Verdict, Why};
use crate::id::WorkerId;
use crate::notify::Notification;
use crate::time::Time;
use crate::worker::{ReadyBasis, Step};
use std::time::Duration;

/// Between two probes of a worker that is not ready yet.
const EAGER: Duration = Duration::from_millis(500);

impl App {
    /// A worker was forked.
    pub(super) fn watch_from_birth(&mut self, now: Time, id: WorkerId) {
        let timeout = self.config.ready_probe_timeout;
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        if worker.awaits_probe() {
            let checks = Some(Checks::readiness(EAGER, timeout));
            worker.health = Some(Health::new(
                now,
                HealthPlan {
                    checks,
                    watchdog: None,
                },
            ));
        }
    }

    /// A worker gave a sign of readiness. It counts at once, or when it has passed its probe.
    pub(super) fn signed(&mut self, now: Time, id: WorkerId, basis: ReadyBasis, out: &mut Vec<Action>) {
        self.with_worker(now, id, out, |worker, steps| worker.ready(now, basis, steps));
        self.begin_checks(now, id, out);
    }

    /// Probes a worker that has given its sign, and has to pass.
    pub(super) fn begin_checks(&mut self, now: Time, id: WorkerId, out: &mut Vec<Action>) {
        let Some(worker) = self.workers.get_mut(&id).filter(|worker| worker.awaits_health()) else {
            return;
        };
        if let (Some(checks), false) = (self.config.checks, worker.checked) {
            worker.checked = true;
            let checks = Some(Checks {
                interval: checks.interval.min(EAGER),
                initial_delay: Duration::ZERO,
                ..checks
            });
            let plan = HealthPlan {
                checks,
                watchdog: None,
            };
            let health = Health::new(now, plan).after(worker.health.as_ref());
            worker.health = Some(health);
            self.look_at_health(now, id, Fact::Tick, out);
        }
    }

    /// A worker is ready: from now on it is watched.
    pub(super) fn watch_from_now(&mut self, now: Time, id: WorkerId) {
        let checks = self.config.checks;
        let checks = checks.map(|checks| Checks {
            initial_delay: checks.interval,
            ..checks
        });
        let watchdog = self.config.watchdog;
        if let Some(worker) = self.workers.get_mut(&id) {
            let watched = checks.is_some() || watchdog.is_some();
            let plan = HealthPlan { checks, watchdog };
            let before = worker.health.take();
            worker.health = watched.then(|| Health::new(now, plan).after(before.as_ref()));
        }
    }

    /// A probe was answered.
    pub(super) fn probed(
        &mut self,
        now: Time,
        id: WorkerId,
        probe: ProbeId,
        found: Probed,
        out: &mut Vec<Action>,
    ) {
        if let Probed::Unknown(why) = &found {
            let what = format!("its probe could not be made: {why}");
            out.push(Action::Notice(Notice::Error {
                worker: Some(id),
                what,
            }));
        }
        self.look_at_health(now, id, Fact::Probed(probe, found), out);
    }

    fn look_at_health(&mut self, now: Time, id: WorkerId, fact: Fact, out: &mut Vec<Action>) {
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        let ready = worker.ready_since().is_some();
        let readiness = worker.awaits_probe() && !worker.checked;
        let Some(health) = worker.health.as_mut() else {
            return;
        };
        match health.handle(now, fact) {
            Verdict::Nothing => {}
            Verdict::Probe(probe, limit) => out.push(Action::Probe {
                worker: id,
                probe,
                limit,
                readiness,
            }),
            Verdict::Healthy if ready => {}
            Verdict::Healthy if readiness => self.signed(now, id, ReadyBasis::Probe, out),
            Verdict::Healthy => {
                self.with_worker(now, id, out, |worker, steps| worker.passed(now, steps));
            }
            Verdict::Unhealthy(why) => {
                let cause = match why {
                    Why::Probes { .. } => Cause::Probe,
                    _ => Cause::Watchdog,
                };
                let why = why.to_string();
                out.push(Action::Notice(Notice::Error {
                    worker: Some(id),
                    what: why.clone(),
                }));
                self.unhealthy(now, id, cause, &why, out);
            }
        }
    }

    /// A worker said something by `sd_notify`; its sender was verified.
    pub(super) fn notified(&mut self, now: Time, id: WorkerId, said: Notification, out: &mut Vec<Action>) {
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        // Whoever speaks will say when it is ready.
        worker.asked();
        if let Some(status) = said.status {
            worker.status = Some(status).filter(|status| !status.is_empty());
        }
        if let Some(by) = said.extend {
            worker.extend(now, by);
        }
        if said.ready {
            self.signed(now, id, ReadyBasis::Notify, out);
        }
        if let (Some(every), Some(worker)) = (said.watchdog_usec, self.workers.get_mut(&id)) {
            let plan = HealthPlan::default();
            worker.health.get_or_insert_with(|| Health::new(now, plan));
            self.look_at_health(now, id, Fact::WatchdogEvery(every), out);
        }
        if let Some(watchdog) = said.watchdog {
            self.look_at_health(now, id, Fact::Watchdog(watchdog), out);
        }
        if said.stopping && self.phase == Phase::Running {
            self.out_of_rotation(now, id, out);
            let limit = self.config.drain_timeout + self.config.kill_timeout;
            self.with_worker(now, id, out, |worker, _: &mut Vec<Step>| {
                worker.stops_itself(now, limit);
            });
        }
    }

    /// Probes and watchdogs that are due.
    pub(super) fn look_at_everybody(&mut self, now: Time, out: &mut Vec<Action>) {
        let due = |health: &Health| health.next_deadline().is_some_and(|at| at <= now);
        let ids: Vec<WorkerId> = self
            .workers
            .values()
            .filter(|worker| worker.in_service() && worker.health.as_ref().is_some_and(due))
            .map(|worker| worker.id)
            .collect();
        for id in ids {
            self.look_at_health(now, id, Fact::Tick, out);
        }
    }

    pub(super) fn health_deadline(&self) -> Option<Time> {
        self.workers
            .values()
            .filter(|worker| worker.in_service())
            .filter_map(|worker| worker.health.as_ref()?.next_deadline())
            .min()
    }
}
