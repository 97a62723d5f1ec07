//! `everup logs`: what apps write, and have written.
//!
//! The daemon is asked only which files there are, each few seconds again; they are read here, so that a slow reader is
//! nobody else's trouble. The last lines come from the ends of the files: their length does not matter.

mod follow;
mod reader;
mod render;
mod source;

#[cfg(test)]
mod tests;

use super::context::Context;
use super::failure::VerbError;
use crate::args::logs::LogsArgs;
use crate::error::reason;
use crate::exit::Exit;
use everup_api::v1::{App, CallError, Client, List};
use follow::{News, Watch};
use jiff::Zoned;
use reader::Reader;
use render::{Form, Look};
use source::{Kind, Source, Wanted, sources};
use std::collections::BTreeSet;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// How often the daemon is asked for files.
const REFRESH: Duration = Duration::from_secs(2);
/// pm2's labels of the last lines are so wide, cut or filled.
const PM2_LABEL: usize = 10;

/// Asks which apps there are; `None` if that cannot be known now.
pub(crate) type Apps<'a> = &'a mut dyn FnMut() -> Option<Vec<App>>;

/// What is to be shown, and how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request<'a> {
    pub(crate) args: &'a LogsArgs,
    pub(crate) pm2: bool,
    pub(crate) colour: bool,
    /// The daemon's own log.
    pub(crate) daemon_log: &'a Path,
}

/// The verb, for the daemon of this environment.
pub(crate) fn run(context: &Context, args: &LogsArgs) -> Result<Exit, VerbError> {
    let target = match args.target.as_str() {
        "everup" | "PM2" => "all",
        target => target,
    };
    let list = |mut client: Client| -> Result<Vec<App>, CallError> {
        let list: List = client.get("list", &[("target", target)])?;
        Ok(list.apps)
    };
    let apps = list(context.reader()?)?;
    let request = Request {
        args,
        pm2: context.pm2,
        colour: context.screen.colour,
        daemon_log: &context.home.path.join("daemon.log"),
    };
    // A daemon that dies and comes back is no reason to end: the files are there.
    let mut again = || list(context.home.connect(Some(REFRESH)).ok()?).ok();
    logs(request, apps, &mut again).map_err(|error| {
        let message = format!("could not write to standard output: {}", reason(&error));
        VerbError::said(Exit::Unexpected, message, None)
    })?;
    Ok(Exit::Ok)
}

/// Shows the last lines, then new ones until the reader is gone. `apps` are those that the target names.
///
/// # Errors
/// Standard output cannot be written.
pub(crate) fn logs(request: Request<'_>, apps: Vec<App>, again: Apps<'_>) -> io::Result<()> {
    let (stdout, stderr) = (io::stdout(), io::stderr());
    let mut page = Page::new(request, Box::new(stdout.lock()), Box::new(stderr.lock()));
    let done = page.last(&apps).and_then(|()| match request.args.nostream {
        true => Ok(()),
        false => page.follow(again, |watch| watch.wait(io::stdout().as_fd())),
    });
    match done {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        done => done,
    }
}

/// What is shown, and where.
struct Page<'a> {
    request: Request<'a>,
    look: Look,
    readers: Vec<Reader>,
    known: BTreeSet<PathBuf>,
    watch: Watch,
    begun: SystemTime,
    out: Box<dyn Write + 'a>,
    err: Box<dyn Write + 'a>,
}

impl<'a> Page<'a> {
    fn new(request: Request<'a>, out: Box<dyn Write + 'a>, err: Box<dyn Write + 'a>) -> Self {
        let args = request.args;
        let form = match (args.raw, args.json, args.format) {
            (_, true, _) => Form::Json,
            (_, _, true) => Form::Pairs,
            (true, ..) => Form::Raw,
            _ => Form::Prefixed,
        };
        Self {
            request,
            look: Look {
                form,
                timestamp: args.timestamp.clone(),
                highlight: args.highlight.clone(),
                colour: request.colour,
                pm2: request.pm2,
                width: 0,
            },
            readers: Vec::new(),
            known: BTreeSet::new(),
            watch: Watch::new(),
            begun: SystemTime::now(),
            out,
            err,
        }
    }

    /// Files that are not read yet.
    fn new_sources(&mut self, apps: &[App]) -> Vec<Source> {
        let args = self.request.args;
        let wanted = Wanted {
            target: &args.target,
            out: !args.err,
            err: !args.out,
            pm2: self.request.pm2,
        };
        // `--raw` and one stream are for what apps write.
        let all = args.target == "all" && self.request.pm2 && !args.err && !args.out;
        let daemon = wanted.daemon_only() || (all && self.look.form == Form::Prefixed);
        let daemon = daemon.then(|| Source::daemon(self.request.daemon_log, self.request.pm2));
        let apps = match wanted.daemon_only() {
            true => Vec::new(),
            false => sources(apps, wanted),
        };
        let found = daemon
            .into_iter()
            .chain(apps)
            .filter(|source| self.known.insert(source.path.clone()))
            .collect::<Vec<_>>();
        for source in &found {
            self.watch.add(&source.path);
            let width = source.label(self.request.pm2).chars().count() + 1;
            self.look.width = self.look.width.max(width);
        }
        found
    }

    /// The last lines of all files, those of the file that was written last at the end, as in pm2.
    fn last(&mut self, apps: &[App]) -> io::Result<()> {
        let args = self.request.args;
        let lines = usize::try_from(args.lines.unsigned_abs()).unwrap_or(usize::MAX);
        // pm2 streams only, in these forms.
        let streamed = self.request.pm2
            && !args.nostream
            && (self.look.form == Form::Json || self.look.form == Form::Pairs);
        let lines = if streamed { 0 } else { lines };
        let sources = self.new_sources(apps);
        if self.request.pm2 && lines > 0 && !streamed {
            self.tailing(lines)?;
        }
        let mut readers: Vec<Reader> = sources
            .into_iter()
            .map(|source| Reader::open(source, lines))
            .collect();
        readers.sort_by_key(|reader| (reader.source.kind != Kind::Daemon, reader.modified()));
        for reader in &mut readers {
            if lines > 0 {
                self.tail(reader, lines)?;
            }
        }
        self.readers.append(&mut readers);
        self.flush()
    }

    fn tailing(&mut self, lines: usize) -> io::Result<()> {
        let target = &self.request.args.target;
        let many = if target == "all" { "es" } else { "" };
        let text = format!(
            "[TAILING] Tailing last {lines} lines for [{target}] process{many} (change the value with --lines option)"
        );
        let text = match self.look.colour {
            true => format!("\x1b[1m\x1b[90m{text}\x1b[0m"),
            false => text,
        };
        writeln!(self.out, "{text}")
    }

    fn tail(&mut self, reader: &mut Reader, lines: usize) -> io::Result<()> {
        let headed = self.look.form == Form::Prefixed && reader.modified().is_some();
        let mut look = self.look.clone();
        if self.request.pm2 {
            look.width = PM2_LABEL;
        }
        // pm2 names files in which there is nothing, too.
        let named = headed && self.request.pm2;
        if named {
            self.out
                .write_all(look.header(&reader.source, lines).as_bytes())?;
        }
        let (out, err, mut any) = (&mut self.out, &mut self.err, false);
        let mut give = |source: &Source, text: &[u8]| {
            if headed && !named && !any {
                out.write_all(look.header(source, lines).as_bytes())?;
            }
            any = true;
            let target = if look.form == Form::Raw && source.kind == Kind::Err {
                &mut *err
            } else {
                &mut *out
            };
            target.write_all(&look.line(source, text, None))
        };
        while reader.read(&mut give)? {}
        if self.request.args.nostream {
            reader.end(&mut give)?;
        }
        if headed && any {
            self.out.write_all(b"\n")?;
        }
        Ok(())
    }

    /// New lines, until nobody reads them.
    fn follow(&mut self, again: Apps<'_>, mut wait: impl FnMut(&Watch) -> News) -> io::Result<()> {
        let mut asked = Instant::now();
        let mut more = false;
        loop {
            let news = if more { News::All } else { wait(&self.watch) };
            more = match news {
                News::Closed => return Ok(()),
                News::All => self.read(|_| true)?,
                News::Some(files) => self.read(|reader| files.contains(&reader.source.path))?,
            };
            if asked.elapsed() >= REFRESH {
                asked = Instant::now();
                for source in again().map(|apps| self.new_sources(&apps)).unwrap_or_default() {
                    // A file that is younger than we are is shown from its beginning. Of an older one what came between
                    // the app's start and now is not told from what had been there: it is not shown.
                    let young = source.path.metadata().and_then(|status| status.created());
                    let young = young.is_ok_and(|created| created >= self.begun);
                    let lines = if young { usize::MAX } else { 0 };
                    self.readers.push(Reader::open(source, lines));
                    more = true;
                }
            }
        }
    }

    /// Shows what some files have; true if there is more.
    fn read(&mut self, which: impl Fn(&Reader) -> bool) -> io::Result<bool> {
        let now = Zoned::now();
        let (look, out, err) = (&self.look, &mut self.out, &mut self.err);
        let mut give = |source: &Source, text: &[u8]| {
            let target = if look.form == Form::Raw && source.kind == Kind::Err {
                &mut *err
            } else {
                &mut *out
            };
            target.write_all(&look.line(source, text, Some(&now)))
        };
        let mut more = false;
        for reader in self.readers.iter_mut().filter(|reader| which(reader)) {
            more |= reader.read(&mut give)?;
        }
        self.flush()?;
        Ok(more)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()?;
        self.err.flush()
    }
}
