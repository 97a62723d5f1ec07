//! Expressions, what is decided at which time, and the thread.

use super::*;
use std::sync::mpsc;
use std::time::Instant;

fn at(text: &str) -> Timestamp {
    text.parse::<Zoned>().unwrap().timestamp()
}

fn utc(text: &str) -> Timestamp {
    format!("{text}Z").parse().unwrap()
}

fn parse(text: &str) -> Result<Expression, CronError> {
    Expression::parse(text, TimeZone::UTC, utc("2026-01-30T00:00:00"))
}

fn next_of(text: &str) -> String {
    let next = parse(text).unwrap().next(utc("2026-01-30T00:00:00"));
    next.unwrap().strftime("%m-%d %H:%M:%S").to_string()
}

fn berlin(text: &str, from: &str, count: usize) -> Vec<String> {
    let mut time = at(&format!("{from}[Europe/Berlin]"));
    let expression = Expression::parse(text, zone("Europe/Berlin").unwrap(), time).unwrap();
    let mut next = || {
        let next = expression.next(time).unwrap();
        time = next.timestamp();
        next.strftime("%m-%d %H:%M %:z").to_string()
    };
    (0..count).map(|_| next()).collect()
}

#[test]
fn the_dialect_of_pm2() {
    for (text, next) in [
        ("0 * * * *", "01-30 01:00:00"),
        ("*/15 * * * * *", "01-30 00:00:15"),
        ("0 3 * * *", "01-30 03:00:00"),
        ("0 9 * * MON#1", "02-02 09:00:00"),
        ("0 0 L * *", "01-31 00:00:00"),
        ("0 12 * * mon-fri", "01-30 12:00:00"),
        ("0/10 * * * *", "01-30 00:10:00"),
        ("/10 * * * *", "01-30 00:10:00"),
        ("@daily", "01-31 00:00:00"),
        (" @hourly ", "01-30 01:00:00"),
        ("0 0 13 * FRI", "02-06 00:00:00"),
        ("0 0 14 * +FRI", "08-14 00:00:00"),
        ("0 0 * * FRIL", "02-27 00:00:00"),
        ("0 0 15W * *", "02-16 00:00:00"),
        ("10-50/20 1,2 * * *", "01-30 01:10:00"),
        ("0 0 * * 7", "02-01 00:00:00"),
        ("0 0 0 1 3 * 2028", "03-01 00:00:00"),
    ] {
        assert_eq!(next_of(text), next, "{text}");
    }
}

#[test]
fn refusals_name_the_field() {
    for (text, message) in [
        ("", "it is empty"),
        ("  ", "it is empty"),
        ("x", "it has 1 of the 5 to 7 fields"),
        ("* * * *", "it has 4 of the 5 to 7 fields"),
        ("* * * * * * * *", "it has 8 of the 5 to 7 fields"),
        ("61 * * * *", "`61` is no minute (field 1)"),
        ("0 24 * * *", "`24` is no hour (field 2)"),
        ("0 61 * * * *", "`61` is no minute (field 2)"),
        ("0 0 1-99 * *", "`1-99` is no day of the month (field 3)"),
        ("0 0 * * BLA", "`BLA` is no day of the week (field 5)"),
        ("0 0 0 * * * 9999", "`9999` is no year (field 7)"),
        ("@sometimes", "`@sometimes` is not known"),
        ("0 0 30 2 *", "there is no such time"),
        ("0 0 0 1 1 * 2020", "there is no such time"),
    ] {
        assert_eq!(parse(text).unwrap_err().to_string(), message, "{text}");
    }
}

#[test]
fn an_impossible_time_is_found_quickly() {
    let start = Instant::now();
    assert_eq!(parse("0 0 31 4 *").unwrap_err(), CronError::Never);
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
}

#[test]
fn summer_and_winter() {
    // 02:30 does not exist on that day.
    let spring = berlin("30 2 * * *", "2026-03-28T12:00:00+01:00", 2);
    assert_eq!(spring, ["03-29 03:00 +02:00", "03-30 02:30 +02:00"]);
    // 02:30 comes twice on that day.
    let autumn = berlin("30 2 * * *", "2026-10-24T12:00:00+02:00", 2);
    assert_eq!(autumn, ["10-25 02:30 +02:00", "10-26 02:30 +01:00"]);
    // An interval goes on through both.
    let through = berlin("*/30 * * * *", "2026-10-25T02:15:00+02:00", 4);
    assert_eq!(
        through,
        [
            "10-25 02:30 +02:00",
            "10-25 02:00 +01:00",
            "10-25 02:30 +01:00",
            "10-25 03:00 +01:00"
        ]
    );
}

#[test]
fn zones() {
    assert!(zone("UTC").is_ok());
    assert_eq!(
        zone("Europe/Berlim").unwrap_err().to_string(),
        "no time zone has this name"
    );
    let now = utc("2026-07-01T00:00:00");
    let tokyo = Expression::parse("0 3 * * *", zone("Asia/Tokyo").unwrap(), now).unwrap();
    assert_eq!(tokyo.next(now).unwrap().timestamp(), utc("2026-07-01T18:00:00"));
}

fn clock(text: &str, now: &str) -> Clock {
    let now = utc(now);
    Clock::new(Expression::parse(text, TimeZone::UTC, now).unwrap(), now)
}

fn wait(seconds: u64) -> Step {
    Step::Wait(Duration::from_secs(seconds))
}

#[test]
fn waits_at_most_a_minute_and_fires_once() {
    let mut clock = clock("0 * * * *", "2026-01-30T00:58:30");
    assert_eq!(clock.step(utc("2026-01-30T00:58:30")), wait(60));
    assert_eq!(clock.step(utc("2026-01-30T00:59:30")), wait(30));
    assert_eq!(
        clock.step(utc("2026-01-30T00:59:59.75")),
        Step::Wait(Duration::from_millis(250))
    );
    assert_eq!(clock.step(utc("2026-01-30T01:00:00")), Step::Fire);
    assert_eq!(clock.step(utc("2026-01-30T01:00:00")), wait(60));
}

#[test]
fn does_not_fire_at_its_start() {
    let mut clock = clock("0 * * * *", "2026-01-30T01:00:00");
    assert_eq!(clock.step(utc("2026-01-30T01:00:00.5")), wait(60));
}

#[test]
fn what_was_slept_through_fires_once() {
    let mut clock = clock("*/10 * * * *", "2026-01-30T00:01:00");
    // Ten times have passed.
    assert_eq!(clock.step(utc("2026-01-30T01:45:00")), Step::Fire);
    assert_eq!(clock.step(utc("2026-01-30T01:49:30")), wait(30));
}

#[test]
fn what_is_long_ago_is_missed() {
    let mut clock = clock("0 3 * * *", "2026-01-30T02:00:00");
    let missed = Step::Missed("2026-01-30T03:00:00+00:00[UTC]".parse().unwrap());
    assert_eq!(clock.step(utc("2026-01-31T02:59:30")), missed);
    assert_eq!(clock.step(utc("2026-01-31T02:59:30")), wait(30));
    assert_eq!(clock.step(utc("2026-01-31T03:00:00")), Step::Fire);
}

#[test]
fn a_clock_that_goes_back_a_little_fires_nothing_twice() {
    let mut clock = clock("0 * * * *", "2026-01-30T00:59:00");
    assert_eq!(clock.step(utc("2026-01-30T01:00:00")), Step::Fire);
    assert_eq!(clock.step(utc("2026-01-30T00:59:58")), wait(60));
    assert_eq!(clock.step(utc("2026-01-30T01:00:00")), wait(60));
}

#[test]
fn a_clock_that_was_wrong_is_believed_when_it_is_right() {
    let mut clock = clock("0 * * * *", "2036-01-30T00:59:00");
    assert_eq!(clock.step(utc("2026-05-05T05:59:50")), wait(10));
    assert_eq!(clock.step(utc("2026-05-05T06:00:00")), Step::Fire);
}

#[test]
fn the_last_year_ends_it() {
    let mut clock = clock("0 0 0 1 1 * 2027", "2026-12-31T23:59:59");
    assert_eq!(clock.step(utc("2027-01-01T00:00:00")), Step::Fire);
    assert_eq!(clock.step(utc("2027-01-01T00:00:00")), Step::Over);
}

#[test]
fn the_thread_fires_tells_and_ends() {
    let (fired, fires) = mpsc::channel();
    let (noticed, notices) = mpsc::channel();
    let expression = Expression::parse("* * * * * *", local(), Timestamp::now()).unwrap();
    let calls = Calls {
        fire: move |trigger| fired.send(trigger).unwrap(),
        notice: move |notice| noticed.send(notice).unwrap(),
    };
    let limit = Duration::from_secs(10);
    let handle = start(expression, Purpose::Restart, calls).unwrap();
    let first = notices.recv_timeout(limit).unwrap();
    assert!(first.starts_with("next reload by `* * * * * *`: 2"), "{first}");
    let cron = Trigger::Cron {
        expression: "* * * * * *".into(),
    };
    assert_eq!(fires.recv_timeout(limit).unwrap(), cron);
    assert_eq!(fires.recv_timeout(limit).unwrap(), cron);
    drop(handle);
    // The thread has gone, and its ends of the channels with it.
    while notices.recv().is_ok() {}
    while fires.recv().is_ok() {}
}

#[test]
fn the_thread_ends_while_it_waits_long() {
    let expression = Expression::parse("@yearly", local(), Timestamp::now()).unwrap();
    let calls = Calls {
        fire: |_| unreachable!(),
        notice: |_| {},
    };
    let start_of_stop = {
        let _handle = start(expression, Purpose::Start, calls).unwrap();
        Instant::now()
    };
    assert!(start_of_stop.elapsed() < Duration::from_secs(5));
}
