//! How long work goes: a bar on a terminal, lines elsewhere; and what an interruption means.

use crate::terminal::{colour_wanted, harmless};
use everup_api::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Bar {
    bar: Option<ProgressBar>,
    quiet: bool,
    last: Option<String>,
    begun: Instant,
}

/// Work that is done sooner needs no lines.
const SHORT: Duration = Duration::from_secs(1);

impl Bar {
    pub(crate) fn new(call: &str, quiet: bool) -> Self {
        let terminal = io::stderr().is_terminal() && colour_wanted();
        let bar = (terminal && !quiet).then(|| {
            let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{prefix} {bar:24} {pos}/{len} {wide_msg}");
            if let Ok(style) = style {
                bar.set_style(style);
            }
            bar.set_prefix(call.to_owned());
            bar
        });
        Self {
            bar,
            quiet,
            last: None,
            begun: Instant::now(),
        }
    }

    pub(crate) fn show(&mut self, step: &Progress) {
        let message = harmless(&step.message);
        if let Some(bar) = &self.bar {
            bar.set_length(u64::from(step.total));
            bar.set_position(u64::from(step.done));
            bar.set_message(message);
        } else if !self.quiet && self.begun.elapsed() >= SHORT {
            let line = format!("[{}/{}] {message}", step.done, step.total);
            if self.last.as_ref() != Some(&line) {
                writeln!(io::stderr(), "{line}").ok();
            }
            self.last = Some(line);
        }
    }

    pub(crate) fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}
