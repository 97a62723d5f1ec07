//! What the options about times and files mean.

use super::{optional, value};
use crate::args::triggers::TriggerArgs;
use crate::duration;
use crate::error::CliError;
use crate::triggers::cron::{self, Expression};
use crate::triggers::watch::{Globs, WatchPlan};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What makes the app reload, or the job start.
#[derive(Debug, Clone, Default)]
pub(crate) struct Triggers {
    /// Reload at these times.
    pub(crate) cron: Option<Expression>,
    /// Start at these times, and not before: the app is a job. Neither `cron` nor `watch` is there then.
    pub(crate) schedule: Option<Expression>,
    /// Reload when files change.
    pub(crate) watch: Option<WatchPlan>,
}

impl Triggers {
    /// Checks what needs no look at the app.
    pub(super) fn parse(args: &TriggerArgs) -> Result<TriggerValues, CliError> {
        let zone = optional("--timezone", args.timezone.as_deref(), cron::zone)?;
        let zone = zone.unwrap_or_else(cron::local);
        let cron = args.cron_restart.as_deref().filter(|text| text.trim() != "0");
        Ok(TriggerValues {
            cron: expression("--cron-restart", cron, &zone)?,
            schedule: expression("--schedule", args.schedule.as_deref(), &zone)?,
            delay: value("--watch-delay", &args.watch_delay, duration::parse)?,
        })
    }
}

fn expression(
    option: &'static str,
    text: Option<&str>,
    zone: &TimeZone,
) -> Result<Option<Expression>, CliError> {
    optional(option, text, |text| {
        Expression::parse(text, zone.clone(), Timestamp::now())
    })
}

/// The options that mean something without a look at the system.
#[derive(Debug)]
pub(super) struct TriggerValues {
    cron: Option<Expression>,
    schedule: Option<Expression>,
    delay: Duration,
}

impl TriggerValues {
    /// `base` is the app's directory, `command` its arguments, `own` are files of ours.
    pub(super) fn plan(
        self,
        args: &TriggerArgs,
        base: &Path,
        command: &[OsString],
        own: &[PathBuf],
    ) -> Result<Triggers, CliError> {
        Ok(Triggers {
            cron: self.cron,
            schedule: self.schedule,
            watch: match args.watch[..] {
                [] => None,
                _ => Some(watch(self.delay, args, base, command, own)?),
            },
        })
    }
}

fn watch(
    delay: Duration,
    args: &TriggerArgs,
    base: &Path,
    command: &[OsString],
    own: &[PathBuf],
) -> Result<WatchPlan, CliError> {
    let globs = Globs::parse(base, &args.ignore_watch).map_err(|(value, source)| CliError::Value {
        option: "--ignore-watch",
        value,
        source: source.into(),
    })?;
    let mut roots: Vec<PathBuf> = Vec::new();
    for path in &args.watch {
        let root = clean(&base.join(path));
        if !roots.contains(&root) {
            roots.push(root);
        }
    }
    let mut plan = WatchPlan {
        base: base.into(),
        roots,
        commanded: commanded(base, command),
        globs,
        own: Vec::new(),
        delay,
        limit: WatchPlan::LIMIT,
    };
    own.iter().for_each(|path| plan.exclude(path));
    Ok(plan)
}

/// The files among the arguments: a script that a build has made, in a directory that git ignores.
fn commanded(base: &Path, command: &[OsString]) -> Vec<PathBuf> {
    let paths = command.iter().map(|arg| clean(&base.join(arg)));
    paths.filter(|path| path.is_file()).collect()
}

/// Without `.` and `..`, so that it is the beginning of what is told about it. A `..` after a link leads elsewhere:
/// then the path is left as it is.
fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => {
                clean.pop();
            }
            std::path::Component::CurDir => {}
            part => clean.push(part),
        }
    }
    let same = clean.canonicalize().ok() == path.canonicalize().ok();
    if same { clean } else { path.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Args, FromArgMatches};

    fn parse(words: &[&str], base: &Path) -> Result<Triggers, CliError> {
        let command = TriggerArgs::augment_args(clap::Command::new("run").no_binary_name(true));
        let args = TriggerArgs::from_arg_matches(&command.try_get_matches_from(words).unwrap()).unwrap();
        Triggers::parse(&args)?.plan(&args, base, &["dist/main.js".into(), "nope".into()], &[])
    }

    #[test]
    fn nothing_by_default() {
        let triggers = parse(&[], Path::new("/")).unwrap();
        assert!(triggers.cron.is_none() && triggers.schedule.is_none() && triggers.watch.is_none());
        assert!(parse(&["--cron", "0"], Path::new("/")).unwrap().cron.is_none());
    }

    #[test]
    fn exact_messages() {
        for (words, message) in [
            (
                ["--cron", "61 * * * *"],
                "invalid value `61 * * * *` for --cron-restart: `61` is no minute (field 1)",
            ),
            (
                ["--schedule", "0 0 30 2 *"],
                "invalid value `0 0 30 2 *` for --schedule: there is no such time",
            ),
            (
                ["--schedule=@daily", "--timezone=Mars"],
                "invalid value `Mars` for --timezone: no time zone has this name",
            ),
            (
                ["--watch", "--watch-delay=x"],
                "invalid value `x` for --watch-delay: not a duration",
            ),
            (
                ["--watch", "--ignore-watch=a{b"],
                "invalid value `a{b` for --ignore-watch: unclosed alternate group; missing '}' (maybe escape '{' with '[{]'?)",
            ),
        ] {
            let error = parse(&words, Path::new("/")).unwrap_err();
            assert_eq!(error.message(), message, "{words:?}");
            assert_eq!(error.exit(), crate::exit::Exit::Usage);
            assert!(error.hint().is_some(), "{words:?}");
        }
    }

    #[test]
    fn paths_are_the_apps() {
        let directory = tempfile::tempdir().unwrap();
        let base = directory.path();
        std::fs::create_dir(base.join("dist")).unwrap();
        std::fs::write(base.join("dist/main.js"), "").unwrap();
        let triggers = parse(&["--watch", "--watch=dist/../dist,/etc", "--watch=./dist/"], base);
        let watch = triggers.unwrap().watch.unwrap();
        assert_eq!(watch.roots, [base.to_owned(), base.join("dist"), "/etc".into()]);
        assert_eq!(watch.commanded, [base.join("dist/main.js")]);
        assert_eq!(watch.delay, Duration::from_millis(200));
    }

    #[test]
    fn from_the_command_line() {
        use crate::args::{Cli, Verb};
        use clap::Parser;
        let directory = tempfile::tempdir().unwrap();
        let base = directory.path();
        std::fs::write(base.join("run.sh"), "").unwrap();
        let words = [
            "everup",
            "run",
            "--watch",
            "run.sh",
            "-c",
            "@daily",
            "--pid-file",
            "/tmp/x.pid",
            "--cwd",
        ];
        let words = words.iter().map(OsString::from).chain([base.into()]);
        let Verb::Run(args) = Cli::try_parse_from(words).unwrap().verb else {
            unreachable!()
        };
        let triggers = crate::plan::Plan::parse(*args).unwrap().triggers;
        let watch = triggers.watch.unwrap();
        assert_eq!(
            (&watch.base, &watch.roots[..]),
            (&base.to_owned(), &[base.to_owned()][..])
        );
        assert_eq!(watch.own, [PathBuf::from("/tmp/x.pid")]);
        assert_eq!(watch.commanded, [base.join("run.sh")]);
        assert_eq!(triggers.cron.unwrap().text(), "@daily");
    }
}
