//! The health of a worker, in virtual time.

use everup_core::health::{ANSWER_GRACE, Checks, Health, HealthPlan, Input, ProbeId, Probed, Verdict, Why};
use everup_core::notify::Watchdog;
use everup_core::time::Time;
use proptest::prelude::*;
use std::time::Duration;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn at(millis: u64) -> Time {
    Time(ms(millis))
}

fn checks() -> Checks {
    Checks {
        initial_delay: ms(1000),
        ..Checks::default()
    }
}

fn probing(checks: Checks) -> Health {
    let plan = HealthPlan {
        checks: Some(checks),
        watchdog: None,
    };
    Health::new(Time::ZERO, plan)
}

fn watched(limit: u64) -> Health {
    let plan = HealthPlan {
        checks: None,
        watchdog: Some(ms(limit)),
    };
    Health::new(Time::ZERO, plan)
}

fn asked(health: &mut Health, now: u64) -> ProbeId {
    match health.handle(at(now), Input::Tick) {
        Verdict::Probe(id, limit) => {
            assert_eq!(limit, ms(2000));
            id
        }
        other => panic!("no probe at {now} ms: {other:?}"),
    }
}

fn failed(why: &str) -> Probed {
    Probed::Failed(why.into())
}

#[test]
fn probes_come_one_at_a_time_an_interval_apart() {
    let mut health = probing(checks());
    assert_eq!(health.next_deadline(), Some(at(1000)));
    assert_eq!(health.handle(at(999), Input::Tick), Verdict::Nothing);
    let first = asked(&mut health, 1000);
    assert_eq!(health.handle(at(1001), Input::Tick), Verdict::Nothing);
    assert_eq!(
        health.handle(at(1500), Input::Probed(first, Probed::Ok)),
        Verdict::Healthy
    );
    assert_eq!(health.next_deadline(), Some(at(11_000)));
    let second = asked(&mut health, 11_000);
    assert_ne!(first, second);
    // It was healthy already.
    assert_eq!(
        health.handle(at(11_500), Input::Probed(second, Probed::Ok)),
        Verdict::Nothing
    );
}

#[test]
fn three_failures_in_a_row_and_only_then() {
    let mut health = probing(checks());
    for (nth, found) in [failed("a"), failed("b"), Probed::Ok, failed("c"), failed("d")]
        .into_iter()
        .enumerate()
    {
        let now = 1000 + 10_000 * nth as u64;
        let id = asked(&mut health, now);
        let verdict = health.handle(at(now + 1), Input::Probed(id, found.clone()));
        assert_eq!(verdict == Verdict::Healthy, found == Probed::Ok);
    }
    let id = asked(&mut health, 51_000);
    let why = Why::Probes {
        failures: 3,
        last: "status 500".into(),
    };
    assert_eq!(
        why.to_string(),
        "3 probes in a row failed, the last one: status 500"
    );
    let verdict = health.handle(at(51_001), Input::Probed(id, failed("status 500")));
    assert_eq!(verdict, Verdict::Unhealthy(why));
    assert_eq!(health.next_deadline(), None);
    assert_eq!(health.handle(at(99_000), Input::Tick), Verdict::Nothing);
}

#[test]
fn no_answer_is_a_failure_and_a_late_answer_is_none() {
    let mut health = probing(Checks {
        failures: 2,
        ..checks()
    });
    let first = asked(&mut health, 1000);
    let given_up = 3000 + u64::try_from(ANSWER_GRACE.as_millis()).unwrap();
    assert_eq!(health.next_deadline(), Some(at(given_up)));
    assert_eq!(health.handle(at(given_up), Input::Tick), Verdict::Nothing);
    assert_eq!(health.failures(), 1);
    assert_eq!(
        health.handle(at(given_up + 1), Input::Probed(first, Probed::Ok)),
        Verdict::Nothing
    );
    let second = asked(&mut health, 11_000);
    assert_eq!(
        health.handle(at(11_001), Input::Probed(first, Probed::Ok)),
        Verdict::Nothing
    );
    let verdict = health.handle(at(20_000), Input::Tick);
    let Verdict::Unhealthy(Why::Probes { failures: 2, last }) = verdict else {
        panic!("{verdict:?} after {second:?}");
    };
    assert_eq!(last, "no answer within 2s");
}

#[test]
fn what_could_not_be_asked_counts_neither_way() {
    let mut health = probing(Checks {
        failures: 1,
        ..checks()
    });
    for nth in 0..10 {
        let id = asked(&mut health, 1000 + 10_000 * nth);
        let unable = Probed::Unknown("too many open files".into());
        assert_eq!(
            health.handle(at(1001 + 10_000 * nth), Input::Probed(id, unable)),
            Verdict::Nothing
        );
    }
    assert_eq!((health.failures(), health.healthy()), (0, false));
}

#[test]
fn a_starting_worker_is_asked_until_it_answers() {
    let mut health = probing(Checks::readiness(ms(100), ms(2000)));
    for nth in 0..50 {
        let id = asked(&mut health, nth * 100);
        assert_eq!(
            health.handle(at(nth * 100 + 1), Input::Probed(id, failed("connection refused"))),
            Verdict::Nothing
        );
    }
    let id = asked(&mut health, 5000);
    assert_eq!(
        health.handle(at(5001), Input::Probed(id, Probed::Ok)),
        Verdict::Healthy
    );
}

#[test]
fn a_worker_that_recovers_is_said_to_be_healthy_again() {
    let mut health = probing(Checks {
        successes: 2,
        ..checks()
    });
    let mut verdicts = Vec::new();
    for (nth, good) in [true, true, true, false, true, true].into_iter().enumerate() {
        let now = 1000 + 10_000 * nth as u64;
        let id = asked(&mut health, now);
        let found = if good { Probed::Ok } else { failed("x") };
        verdicts.push(health.handle(at(now + 1), Input::Probed(id, found)) == Verdict::Healthy);
    }
    assert_eq!(verdicts, [false, true, false, false, false, true]);
}

#[test]
fn the_watchdog_wants_pings() {
    let mut health = watched(1000);
    assert_eq!(health.next_deadline(), Some(at(1000)));
    assert_eq!(
        health.handle(at(900), Input::Watchdog(Watchdog::Ping)),
        Verdict::Nothing
    );
    assert_eq!(health.handle(at(1000), Input::Tick), Verdict::Nothing);
    let verdict = health.handle(at(1900), Input::Tick);
    assert_eq!(verdict, Verdict::Unhealthy(Why::Silent(ms(1000))));
    assert_eq!(
        health.handle(at(1901), Input::Watchdog(Watchdog::Trigger)),
        Verdict::Nothing
    );
}

#[test]
fn the_worker_may_change_or_trigger_its_watchdog() {
    let mut health = watched(1000);
    assert_eq!(
        health.handle(at(500), Input::WatchdogEvery(ms(5000))),
        Verdict::Nothing
    );
    assert_eq!(health.next_deadline(), Some(at(5500)));
    for none in [Duration::ZERO, Duration::from_micros(u64::MAX)] {
        assert_eq!(
            health.handle(at(600), Input::WatchdogEvery(none)),
            Verdict::Nothing
        );
        assert_eq!(health.next_deadline(), None);
    }
    let verdict = health.handle(at(700), Input::Watchdog(Watchdog::Trigger));
    assert_eq!(verdict, Verdict::Unhealthy(Why::Triggered));
}

#[derive(Debug, Clone)]
enum Step {
    /// To the next deadline, if that is within this many milliseconds.
    Wait(u64),
    Answer(u8),
    Stale(u64),
    Ping,
    Every(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..4000u64).prop_map(Step::Wait),
        6 => (0..3u8).prop_map(Step::Answer),
        1 => (0..40u64).prop_map(Step::Stale),
        3 => Just(Step::Ping),
        1 => (0..5000u64).prop_map(Step::Every),
    ]
}

/// What the machine may say, by what it was told.
#[derive(Debug, Default)]
struct Model {
    pending: Option<(ProbeId, Time)>,
    last_begun: Option<Time>,
    failed: u32,
    over: bool,
    dog: Option<(Duration, Time)>,
}

impl Model {
    fn judge(&mut self, now: Time, checks: Checks, verdict: &Verdict, answer: Option<&Probed>) {
        assert!(
            !self.over || *verdict == Verdict::Nothing,
            "said after the end: {verdict:?}"
        );
        match answer {
            Some(Probed::Ok) => self.failed = 0,
            Some(Probed::Failed(_)) => self.failed += 1,
            Some(Probed::Unknown(_)) | None => {}
        }
        match verdict {
            Verdict::Nothing => assert!(self.over || checks.failures == 0 || self.failed < checks.failures),
            Verdict::Probe(id, _) => {
                assert!(self.pending.is_none(), "two at once");
                assert!(
                    self.last_begun.is_none_or(|last| now - last >= checks.interval),
                    "too early"
                );
                self.pending = Some((*id, now));
                self.last_begun = Some(now);
            }
            Verdict::Healthy => assert_eq!(answer, Some(&Probed::Ok)),
            Verdict::Unhealthy(Why::Probes { failures, .. }) => {
                assert_eq!((*failures, self.failed), (checks.failures, checks.failures));
                self.over = true;
            }
            Verdict::Unhealthy(_) => {
                let (limit, heard) = self.dog.expect("it has a watchdog");
                assert!(now - heard >= limit, "it has pinged in time");
                self.over = true;
            }
        }
    }
}

proptest! {
    #[test]
    fn verdicts_follow_from_what_was_told(
        steps in prop::collection::vec(step(), 1..200),
        interval in 1..3000u64,
        timeout in 1..3000u64,
        failures in 0..4u32,
        successes in 0..3u32,
        watchdog in prop::option::of(1..5000u64),
    ) {
        let checks = Checks { interval: ms(interval), timeout: ms(timeout), failures, successes, initial_delay: ms(5) };
        let plan = HealthPlan { checks: Some(checks), watchdog: watchdog.map(ms) };
        let mut health = Health::new(Time::ZERO, plan);
        let mut now = Time::ZERO;
        let mut model = Model { dog: watchdog.map(|limit| (ms(limit), now)), ..Model::default() };
        for step in steps {
            match step {
                Step::Wait(limit) => {
                    let end = now + ms(limit);
                    let mut ticks = 0;
                    while let Some(due) = health.next_deadline().filter(|due| *due <= end) {
                        now = now.max(due);
                        let given_up = model.pending.take_if(|(_, begun)| {
                            *begun + checks.timeout + ANSWER_GRACE <= now
                        });
                        let late = given_up.map(|_| Probed::Failed(String::new()));
                        let dog_first = model.dog.is_some_and(|(limit, heard)| heard + limit <= now);
                        let verdict = health.handle(now, Input::Tick);
                        model.judge(now, checks, &verdict, late.as_ref().filter(|_| !dog_first));
                        ticks += 1;
                        prop_assert!(ticks < 10_000, "it spins");
                    }
                    now = end;
                }
                Step::Answer(kind) => {
                    let found = match kind {
                        0 => Probed::Ok,
                        1 => Probed::Failed("no".into()),
                        _ => Probed::Unknown("who knows".into()),
                    };
                    if let Some((id, _)) = model.pending.take() {
                        let verdict = health.handle(now, Input::Probed(id, found.clone()));
                        let counts = !model.over;
                        model.judge(now, checks, &verdict, Some(&found).filter(|_| counts));
                    }
                }
                Step::Stale(id) => {
                    if model.pending.is_none_or(|(pending, _)| pending.0 != id) {
                        let verdict = health.handle(now, Input::Probed(ProbeId(id), Probed::Failed("old".into())));
                        prop_assert_eq!(verdict, Verdict::Nothing);
                    }
                }
                Step::Ping => {
                    let verdict = health.handle(now, Input::Watchdog(Watchdog::Ping));
                    prop_assert_eq!(verdict, Verdict::Nothing);
                    model.dog = model.dog.map(|(limit, _)| (limit, now));
                }
                Step::Every(limit) => {
                    let verdict = health.handle(now, Input::WatchdogEvery(ms(limit)));
                    prop_assert_eq!(verdict, Verdict::Nothing);
                    model.dog = (limit > 0).then_some((ms(limit), now));
                }
            }
            prop_assert!(health.next_deadline().is_none_or(|due| !model.over && due > Time::ZERO));
        }
    }
}
