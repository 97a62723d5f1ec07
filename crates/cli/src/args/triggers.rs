//! The options of `everup run` about times and files, raw.

use clap::Args;
use std::path::PathBuf;

const TRIGGERS: &str = "Reload and start by themselves";

/// `--cron-restart`, `--schedule`, `--watch` and what belongs to them.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct TriggerArgs {
    /// Reload at these times: "0 3 * * *" is daily at 3:00, six fields begin with seconds; 0 for never
    #[arg(short = 'c', long, value_name = "EXPR", aliases = ["cron_restart", "cron"])]
    #[arg(help_heading = TRIGGERS, group = "times")]
    pub(crate) cron_restart: Option<String>,

    /// The app is a job: start it at these times, not now, and not while it still runs
    #[arg(long, value_name = "EXPR", help_heading = TRIGGERS, group = "times")]
    #[arg(conflicts_with = "watch")]
    pub(crate) schedule: Option<String>,

    /// Time zone of --cron-restart and --schedule [default: the system's]
    #[arg(long, value_name = "NAME", help_heading = TRIGGERS, requires = "times")]
    #[arg(aliases = ["time-zone", "time_zone"])]
    pub(crate) timezone: Option<String>,

    /// Reload when files change here: --watch for the app's directory, --watch=src,config for others in it
    /// (repeatable); what .gitignore ignores does not count
    #[arg(long, value_name = "PATH", num_args = 0..=1, require_equals = true, value_delimiter = ',')]
    #[arg(default_missing_value = ".", help_heading = TRIGGERS, value_hint = clap::ValueHint::AnyPath)]
    pub(crate) watch: Vec<PathBuf>,

    /// Files that --watch shall not see, as in a .gitignore (repeatable)
    #[arg(long, value_name = "GLOB", alias = "ignore_watch", help_heading = TRIGGERS, requires = "watch")]
    pub(crate) ignore_watch: Vec<String>,

    /// Reload when nothing more has changed for this time: 500 (ms), 2s
    #[arg(long, value_name = "TIME", default_value = "200ms", alias = "watch_delay")]
    #[arg(help_heading = TRIGGERS, requires = "watch", allow_negative_numbers = true)]
    pub(crate) watch_delay: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        triggers: TriggerArgs,
        script: String,
    }

    fn parse(words: &[&str]) -> Result<TriggerArgs, clap::Error> {
        let words = ["run"].iter().chain(words);
        let line = Line::try_parse_from(words)?;
        assert_eq!(line.script, "app.js");
        Ok(line.triggers)
    }

    fn paths(paths: &[&str]) -> Vec<PathBuf> {
        paths.iter().map(PathBuf::from).collect()
    }

    #[test]
    fn a_bare_watch_does_not_take_the_script() {
        assert_eq!(parse(&["--watch", "app.js"]).unwrap().watch, paths(&["."]));
        assert_eq!(parse(&["app.js", "--watch"]).unwrap().watch, paths(&["."]));
        assert_eq!(parse(&["app.js"]).unwrap().watch, paths(&[]));
        let named = parse(&["--watch=src,lib", "app.js", "--watch=/etc/app.conf"]).unwrap();
        assert_eq!(named.watch, paths(&["src", "lib", "/etc/app.conf"]));
    }

    #[test]
    fn spellings_of_pm2() {
        for option in ["-c", "--cron", "--cron_restart", "--cron-restart"] {
            let args = parse(&[option, "* * * * *", "app.js"]).unwrap();
            assert_eq!(args.cron_restart.as_deref(), Some("* * * * *"), "{option}");
        }
        let args = parse(&[
            "app.js",
            "--watch",
            "--ignore_watch",
            "a b",
            "--ignore-watch",
            "c",
            "--watch_delay",
            "1000",
        ]);
        let args = args.unwrap();
        assert_eq!(args.ignore_watch, ["a b", "c"]);
        assert_eq!(args.watch_delay, "1000");
    }

    #[test]
    fn what_does_not_go_together() {
        for words in [
            &["--schedule", "@daily", "--cron-restart", "@daily"][..],
            &["--schedule", "@daily", "--watch"],
            &["--timezone", "UTC"],
            &["--ignore-watch", "x"],
            &["--watch-delay", "1s"],
        ] {
            let all: Vec<&str> = words.iter().copied().chain(["app.js"]).collect();
            assert_eq!(parse(&all).unwrap_err().exit_code(), 2, "{words:?}");
        }
        assert!(parse(&["--schedule", "@daily", "--timezone", "UTC", "app.js"]).is_ok());
        assert!(parse(&["--cron", "@daily", "--watch", "app.js"]).is_ok());
    }
}
