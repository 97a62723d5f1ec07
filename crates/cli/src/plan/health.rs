//! The options about readiness and health, understood.

use super::{optional, shown, value};
use crate::args::health::HealthArgs;
use crate::duration::{self, DurationError};
use crate::error::CliError;
use crate::resolve::Program;
use crate::words::{self, WordsError};
use everup::{HealthSpec, ProbePlan, ReadySign, Spec};
use std::ffi::OsString;
use std::time::Duration;

/// What the options say.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Health {
    /// Any of them; none: what can be known of the app.
    pub(crate) ready: Vec<ReadySign>,
    pub(crate) health: Option<HealthSpec>,
    pub(crate) watchdog: Option<Duration>,
    /// How long a hand-over may stay unanswered.
    pub(crate) stuck: Option<Duration>,
}

/// What is wrong with the value of one of these options.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HealthError {
    #[error("not a sign of readiness")]
    Sign { path: bool },
    #[error("not a probe")]
    Probe { value: String },
    #[error("a whole address, where a path is enough")]
    Url { path: String },
    #[error("no path")]
    NoPath,
    #[error("a path has neither blanks nor anything but ASCII")]
    Path,
    #[error("`{0}` is not a host name")]
    Host(String),
    #[error("no command")]
    NoCommand,
    #[error(transparent)]
    Words(#[from] WordsError),
    #[error(transparent)]
    Duration(#[from] DurationError),
    #[error("no time at all")]
    Zero,
    #[error("not a count from 1 to 1000")]
    Failures,
}

impl HealthError {
    pub(crate) fn hint(&self) -> String {
        match self {
            Self::Sign { path: true } => "write http=/PATH".into(),
            Self::Sign { path: false } => {
                "give one of these: listening, message, notify, tcp, http=/PATH, uptime=TIME".into()
            }
            Self::Probe { value } if value.starts_with('/') => format!("write http={value}"),
            Self::Probe { .. } => "give one of these: http=/PATH, tcp, exec=\"COMMAND\"".into(),
            Self::Url { path } => format!("everup asks each worker by itself: write http={path}"),
            Self::NoPath | Self::Host(_) => {
                "write http=/healthz, or http=HOST/healthz if the app wants a certain Host header".into()
            }
            Self::Path => "write other characters as in an address: %20 for a blank".into(),
            Self::NoCommand => "write exec=\"COMMAND ARGS\"; exit code 0 is healthy".into(),
            Self::Words(_) => WordsError::HINT.into(),
            Self::Duration(_) => DurationError::HINT.into(),
            Self::Zero => "give at least 1ms; to have no probes, leave --health out".into(),
            Self::Failures => "3 is a good one; to have no probes, leave --health out".into(),
        }
    }
}

impl Health {
    pub(super) fn parse(args: &HealthArgs) -> Result<Self, CliError> {
        let off = |limit: Duration| Some(limit).filter(|limit| !limit.is_zero());
        let watchdog = optional("--watchdog", args.watchdog.as_deref(), duration::parse)?;
        Ok(Self {
            ready: signs(args)?,
            health: spec(args)?,
            watchdog: watchdog.and_then(off),
            stuck: off(value("--stuck-timeout", &args.stuck_timeout, duration::parse)?),
        })
    }

    /// Whether a sign of readiness was asked for.
    pub(super) fn has_sign(&self) -> bool {
        !self.ready.is_empty()
    }

    pub(super) fn apply(self, spec: &mut Spec) {
        spec.ready = self.ready;
        spec.health = self.health;
        spec.watchdog = self.watchdog;
        // A debugger stops workers for as long as it likes.
        let debugged = spec
            .args
            .iter()
            .any(|arg| arg.to_string_lossy().starts_with("--inspect"));
        spec.stuck_timeout = self.stuck.filter(|_| !debugged);
    }

    /// Refuses what can never be seen of this program.
    pub(super) fn check(&self, program: &Program, listens: bool) -> Result<(), CliError> {
        if program.channel {
            return Ok(());
        }
        for sign in &self.ready {
            match sign {
                ReadySign::Listening | ReadySign::Message => {
                    let sign = if *sign == ReadySign::Message {
                        "message"
                    } else {
                        "listening"
                    };
                    let program = shown(program);
                    return Err(CliError::NeverReady { sign, program });
                }
                ReadySign::Tcp | ReadySign::Http { .. } if !listens => {
                    return Err(unreachable("--ready", program));
                }
                _ => {}
            }
        }
        match self.health.as_ref().map(|health| &health.probe) {
            Some(ProbePlan::Tcp | ProbePlan::Http { .. }) if !listens => {
                Err(unreachable("--health", program))
            }
            _ => Ok(()),
        }
    }
}

fn unreachable(option: &'static str, program: &Program) -> CliError {
    let program = shown(program);
    CliError::Unreachable { option, program }
}

fn signs(args: &HealthArgs) -> Result<Vec<ReadySign>, CliError> {
    let mut signs = Vec::new();
    for text in &args.ready {
        signs.push(value("--ready", text, sign)?);
    }
    if args.wait_ready {
        signs.push(ReadySign::Message);
    }
    Ok(signs)
}

fn sign(text: &str) -> Result<ReadySign, HealthError> {
    match text.split_once('=') {
        None if text == "listening" => Ok(ReadySign::Listening),
        None if text == "message" => Ok(ReadySign::Message),
        None if text == "notify" => Ok(ReadySign::Notify),
        None if text == "tcp" => Ok(ReadySign::Tcp),
        Some(("http", text)) => http(text).map(|(host, path)| ReadySign::Http { path, host }),
        Some(("uptime", text)) => Ok(ReadySign::Uptime(duration::parse(text)?)),
        None | Some(_) => Err(url(text).unwrap_or(HealthError::Sign {
            path: text.starts_with('/'),
        })),
    }
}

fn spec(args: &HealthArgs) -> Result<Option<HealthSpec>, CliError> {
    let Some(probe) = optional("--health", args.health.as_deref(), probe)? else {
        return Ok(None);
    };
    let mut spec = HealthSpec::new(probe);
    if let Some(interval) = optional("--health-interval", args.health_interval.as_deref(), some_time)? {
        spec.interval = interval;
    }
    if let Some(timeout) = optional("--health-timeout", args.health_timeout.as_deref(), some_time)? {
        spec.timeout = timeout;
    }
    if let Some(failures) = optional("--health-failures", args.health_failures.as_deref(), failures)? {
        spec.failures = failures;
    }
    Ok(Some(spec))
}

fn probe(text: &str) -> Result<ProbePlan, HealthError> {
    match text.split_once('=') {
        None if text == "tcp" => Ok(ProbePlan::Tcp),
        Some(("http", text)) => http(text).map(|(host, path)| ProbePlan::Http { path, host }),
        Some(("exec", text)) => {
            let argv: Vec<OsString> = words::split(text)?.into_iter().map(Into::into).collect();
            if argv.first().is_none_or(|command| command.is_empty()) {
                return Err(HealthError::NoCommand);
            }
            Ok(ProbePlan::Exec { argv })
        }
        None | Some(_) => Err(url(text).unwrap_or(HealthError::Probe { value: text.into() })),
    }
}

/// `/PATH` or `HOST/PATH`; the host first.
fn http(text: &str) -> Result<(String, String), HealthError> {
    if let Some(error) = url(text) {
        return Err(error);
    }
    let at = text.find('/').ok_or(HealthError::NoPath)?;
    let (host, path) = text.split_at(at);
    if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(HealthError::Path);
    }
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    if !host.bytes().all(good) {
        return Err(HealthError::Host(host.into()));
    }
    let host = if host.is_empty() { "localhost" } else { host };
    Ok((host.into(), path.into()))
}

/// `http://HOST:PORT/PATH`: a port is all workers', so it cannot be meant.
fn url(text: &str) -> Option<HealthError> {
    let (scheme, rest) = text.split_once("://")?;
    let path = rest.find('/').map_or("/", |at| &rest[at..]);
    matches!(scheme, "http" | "https").then(|| HealthError::Url { path: path.into() })
}

fn some_time(text: &str) -> Result<Duration, HealthError> {
    match duration::parse(text)? {
        Duration::ZERO => Err(HealthError::Zero),
        time => Ok(time),
    }
}

fn failures(text: &str) -> Result<u32, HealthError> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let count = text.parse().ok().filter(|_| digits);
    count
        .filter(|count| (1..=1000).contains(count))
        .ok_or(HealthError::Failures)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Verb};
    use crate::exit::Exit;
    use crate::plan::Plan;
    use clap::Parser;

    fn plan(words: &[&str]) -> Result<Health, CliError> {
        let words = ["everup", "run"].iter().chain(words);
        match Cli::try_parse_from(words).unwrap().verb {
            Verb::Run(args) => Plan::parse(*args).map(|plan| Health {
                ready: plan.spec.ready,
                health: plan.spec.health,
                watchdog: plan.spec.watchdog,
                stuck: plan.spec.stuck_timeout,
            }),
            _ => unreachable!(),
        }
    }

    fn good(words: &[&str]) -> Health {
        let words = [words, &["--interpreter", "none", "--listen", ":0", "/bin/sh"]].concat();
        plan(&words).unwrap()
    }

    fn refused(words: &[&str]) -> (String, String) {
        let error = plan(&[words, &["x.js"]].concat()).unwrap_err();
        assert_eq!(error.exit(), Exit::Usage);
        (error.message(), error.hint().unwrap_or_default())
    }

    #[test]
    fn the_defaults() {
        let expected = Health {
            ready: Vec::new(),
            health: None,
            watchdog: None,
            stuck: Some(Duration::from_secs(30)),
        };
        assert_eq!(good(&[]), expected);
        assert_eq!(good(&["--stuck-timeout", "0"]).stuck, None);
        assert_eq!(good(&["--watchdog", "0"]).watchdog, None);
        assert_eq!(
            good(&["--watchdog", "20s"]).watchdog,
            Some(Duration::from_secs(20))
        );
    }

    #[test]
    fn signs_of_readiness() {
        let http = |host: &str, path: &str| ReadySign::Http {
            path: path.into(),
            host: host.into(),
        };
        for (text, sign) in [
            ("notify", ReadySign::Notify),
            ("tcp", ReadySign::Tcp),
            ("http=/up?x=1", http("localhost", "/up?x=1")),
            ("http=app.test:80/", http("app.test:80", "/")),
            ("uptime=3s", ReadySign::Uptime(Duration::from_secs(3))),
        ] {
            assert_eq!(good(&["--ready", text]).ready, [sign], "{text}");
        }
        assert_eq!(sign("listening"), Ok(ReadySign::Listening));
        assert_eq!(sign("message"), Ok(ReadySign::Message));
        let both = good(&["--ready", "notify", "--ready", "uptime=1m"]);
        assert_eq!(both.ready.len(), 2);
    }

    #[test]
    fn probes() {
        let health = good(&["--health", "http=/healthz"]).health.unwrap();
        let path = "/healthz".into();
        let host = "localhost".into();
        assert_eq!(health, HealthSpec::new(ProbePlan::Http { path, host }));
        let seconds = (
            health.interval.as_secs(),
            health.timeout.as_secs(),
            health.failures,
        );
        assert_eq!(seconds, (10, 2, 3));
        let exec = ["--health", "exec=check 'a b' --x=1", "--health-interval", "500ms"];
        let health = good(&[&exec[..], &["--health-timeout", "100", "--health-failures", "1"]].concat());
        let health = health.health.unwrap();
        let argv = ["check", "a b", "--x=1"].map(OsString::from).to_vec();
        assert_eq!(health.probe, ProbePlan::Exec { argv });
        let millis = (
            health.interval.as_millis(),
            health.timeout.as_millis(),
            health.failures,
        );
        assert_eq!(millis, (500, 100, 1));
        assert_eq!(good(&["--health", "tcp"]).health.unwrap().probe, ProbePlan::Tcp);
    }

    #[test]
    fn exact_messages() {
        let signs = "give one of these: listening, message, notify, tcp, http=/PATH, uptime=TIME";
        let probes = "give one of these: http=/PATH, tcp, exec=\"COMMAND\"";
        let host = "write http=/healthz, or http=HOST/healthz if the app wants a certain Host header";
        let zero = "give at least 1ms; to have no probes, leave --health out";
        let count = "3 is a good one; to have no probes, leave --health out";
        let time = "write milliseconds (1500) or a number with a unit: 500ms, 5s, 1m, 1h";
        for (option, value, why, hint) in [
            ("--ready", "soon", "not a sign of readiness", signs),
            ("--ready", "notify=1", "not a sign of readiness", signs),
            ("--ready", "/up", "not a sign of readiness", "write http=/PATH"),
            ("--ready", "uptime=x", "not a duration", time),
            ("--ready", "http=", "no path", host),
            ("--health", "/up", "not a probe", "write http=/up"),
            ("--health", "udp", "not a probe", probes),
            ("--health", "http=up", "no path", host),
            ("--health", "http=a b/up", "`a b` is not a host name", host),
            (
                "--health",
                "http=/a b",
                "a path has neither blanks nor anything but ASCII",
                "write other characters as in an address: %20 for a blank",
            ),
            (
                "--health",
                "http://localhost:3000/up",
                "a whole address, where a path is enough",
                "everup asks each worker by itself: write http=/up",
            ),
            (
                "--health",
                "exec=",
                "no command",
                "write exec=\"COMMAND ARGS\"; exit code 0 is healthy",
            ),
            (
                "--health",
                "exec='a",
                "a ' quote is not closed",
                "quotes and backslashes work as in a shell",
            ),
            ("--health-interval", "0", "no time at all", zero),
            ("--health-timeout", "-1", "not a duration", time),
            ("--health-failures", "0", "not a count from 1 to 1000", count),
            ("--health-failures", "-1", "not a count from 1 to 1000", count),
            ("--watchdog", "often", "not a duration", time),
            ("--stuck-timeout", "-5", "not a duration", time),
        ] {
            let first = if option.starts_with("--health-") {
                &["--health", "tcp"][..]
            } else {
                &[]
            };
            let message = format!("invalid value `{value}` for {option}: {why}");
            assert_eq!(
                refused(&[first, &[option, value]].concat()),
                (message, hint.into())
            );
        }
    }

    #[test]
    fn what_can_never_be_seen_is_refused() {
        let program = ["--interpreter", "none", "/bin/sh"];
        let refused = |words: &[&str]| {
            let error = plan(&[words, &program].concat()).unwrap_err();
            (error.message(), error.hint().unwrap_or_default(), error.exit())
        };
        for words in [&["--ready", "message"][..], &["--wait-ready"], &["--wait_ready"]] {
            let (message, hint, exit) = refused(words);
            assert_eq!(
                message,
                "--ready message needs Node's channel, and `/bin/sh` has none"
            );
            assert_eq!(
                (hint.as_str(), exit),
                ("use --ready notify or --ready uptime=TIME", Exit::Usage)
            );
        }
        for words in [&["--ready", "tcp"][..], &["--health", "http=/"]] {
            let (message, hint, exit) = refused(words);
            let option = words[0];
            assert_eq!(
                message,
                format!(
                    "{option} cannot reach one worker of `/bin/sh` and no other: it shares no socket with everup"
                )
            );
            let expected =
                "pass it one with --listen, or use --ready notify, --health exec=\"COMMAND\", --watchdog";
            assert_eq!((hint.as_str(), exit), (expected, Exit::Usage));
        }
        let fine = [&["--ready", "notify", "--health", "exec=true"][..], &program].concat();
        assert!(plan(&fine).is_ok());
    }

    #[test]
    fn details_without_a_probe_are_a_mistake() {
        let parsed = Cli::try_parse_from(["everup", "run", "x.js", "--health-interval", "1s"]);
        assert!(parsed.unwrap_err().to_string().contains("--health <PROBE>"));
    }
}
