//! Restart policy, reload and reserve, from their options.

use super::{optional, value};
use crate::args::supervision::{RestartArg, SupervisionArgs};
use crate::duration;
use crate::error::{CliError, ValueError};
use crate::size;
use everup::{Budget, RestartPolicy, Rollout, Spec, When};

/// What the options say, beyond texts.
#[derive(Debug)]
pub(super) struct Supervision {
    restart: RestartPolicy,
    rollout: Rollout,
    spares: u32,
    max_age: Option<std::time::Duration>,
    memory_limit: Option<u64>,
    drain_timeout: std::time::Duration,
    max_draining: u32,
}

impl Supervision {
    pub(super) fn parse(args: &SupervisionArgs, workers: u32) -> Result<Self, CliError> {
        let time = duration::parse;
        let mut budget = Budget::default()
            .early(value("--max-restarts", &args.max_restarts, positive)?)
            .min_uptime(value("--min-uptime", &args.min_uptime, time)?)
            .pause(optional("--restart-delay", args.restart_delay.as_deref(), time)?.unwrap_or_default());
        let delay = args.exp_backoff_restart_delay.as_deref();
        if let Some(delay) = optional("--exp-backoff-restart-delay", delay, time)? {
            budget = budget.delay(delay);
        }
        let mut restart = RestartPolicy::default();
        restart.when = match args.restart {
            _ if args.no_autorestart => When::Never,
            RestartArg::Always => When::Always,
            RestartArg::OnFailure => When::OnFailure,
            RestartArg::Never => When::Never,
        };
        for code in &args.stop_exit_codes {
            restart
                .stop_codes
                .push(value("--stop-exit-codes", code, exit_code)?);
        }
        restart.budget = budget;
        let share = |text: &str| share(text, workers);
        let rollout = Rollout::default()
            .surge(value("--surge", &args.surge, share)?)
            .max_unavailable(value("--max-unavailable", &args.max_unavailable, share)?)
            .canary(value("--canary", &args.canary, time)?);
        Ok(Self {
            restart,
            rollout,
            spares: value("--spare", &args.spare, few)?,
            max_age: optional("--max-age", args.max_age.as_deref(), time)?.filter(|age| !age.is_zero()),
            memory_limit: optional(
                "--max-memory-restart",
                args.max_memory_restart.as_deref(),
                size::parse,
            )?
            .filter(|limit| *limit > 0),
            drain_timeout: value("--drain-timeout", &args.drain_timeout, time)?,
            max_draining: value("--max-draining", &args.max_draining, positive)?,
        })
    }

    pub(super) fn apply(self, spec: &mut Spec) -> Result<(), CliError> {
        let hands_over = spec.channel != everup::Channel::None && spec.policy.hands_over();
        if self.spares > 0 && !hands_over {
            return Err(CliError::SpareNeedsHandOver);
        }
        spec.restart = self.restart;
        spec.rollout = self.rollout;
        spec.spares = self.spares;
        spec.max_age = self.max_age;
        spec.memory_limit = self.memory_limit;
        spec.stop.drain_timeout = self.drain_timeout;
        spec.stop.max_draining = self.max_draining;
        spec.ends_when_done = true;
        Ok(())
    }
}

fn positive(text: &str) -> Result<u32, ValueError> {
    few(text).ok().filter(|n| *n > 0).ok_or(ValueError::Positive)
}

/// More would be an accident.
const MOST: u32 = 1024;

fn few(text: &str) -> Result<u32, ValueError> {
    let number = text.parse().ok().filter(|n| *n <= MOST);
    number.ok_or(ValueError::Count { most: MOST })
}

fn exit_code(text: &str) -> Result<i32, ValueError> {
    let code = text.trim().parse().ok().filter(|code| (0..=255).contains(code));
    code.ok_or(ValueError::ExitCode)
}

/// A number of workers, or a share of them, rounded up.
fn share(text: &str, workers: u32) -> Result<u32, ValueError> {
    match text.strip_suffix('%') {
        None => few(text),
        Some(percent) => {
            let percent: u32 = percent
                .parse()
                .ok()
                .filter(|p| *p <= 100)
                .ok_or(ValueError::Percent)?;
            Ok((workers * percent).div_ceil(100))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_rounded_up() {
        let of = |text| share(text, 3).unwrap();
        assert_eq!(
            [of("1"), of("0"), of("100%"), of("34%"), of("33%"), of("0%")],
            [1, 0, 3, 2, 1, 0]
        );
        for wrong in ["", "%", "101%", "-1", "1.5", "x", "2000"] {
            assert!(share(wrong, 3).is_err(), "{wrong}");
        }
    }

    #[test]
    fn exit_codes() {
        assert_eq!(exit_code(" 3").unwrap(), 3);
        assert!(exit_code("256").is_err() && exit_code("-1").is_err() && exit_code("").is_err());
    }
}
