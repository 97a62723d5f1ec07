//! Where text goes: our standard output and error, line by line, for workers and for ourselves.
//!
//! Invariants: lines of different writers never mix; when standard output and error are the same file, they
//! share one [`Port`], so this also holds between the two; a reader that went away (closed pipe) is not an
//! error: nothing is written from then on and the app keeps running.

use crate::terminal::colour_wanted;
use everup::{Line, LineSink, Slot, Stream, WorkerId};
use rustix::event::{PollFd, PollFlags, poll};
use std::fmt;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Written out when more than this is waiting.
const FULL: usize = 64 * 1024;

/// Both outputs of this process. Clones write to the same places.
#[derive(Debug, Clone)]
pub(crate) struct Console {
    out: Arc<Mutex<Port>>,
    err: Arc<Mutex<Port>>,
    /// On standard error. Kept here: who asks must not wait for a port.
    colour: bool,
}

impl Console {
    /// Our own standard output and error.
    pub(crate) fn stdio() -> io::Result<Self> {
        let (stdout, stderr) = (io::stdout(), io::stderr());
        let wanted = colour_wanted();
        let same = same_file(stdout.as_fd(), stderr.as_fd());
        let colour = wanted && stderr.is_terminal();
        let err = File::from(stderr.as_fd().try_clone_to_owned()?);
        let err = Arc::new(Mutex::new(Port::new(Box::new(Patient(err)), colour)));
        if same {
            return Ok(Self {
                out: Arc::clone(&err),
                err,
                colour,
            });
        }
        let out = File::from(stdout.as_fd().try_clone_to_owned()?);
        let out = Arc::new(Mutex::new(Port::new(
            Box::new(Patient(out)),
            wanted && stdout.is_terminal(),
        )));
        Ok(Self { out, err, colour })
    }

    /// Whether colour is wanted on standard error.
    pub(crate) fn colour(&self) -> bool {
        self.colour
    }

    /// Writes whole lines to standard error at once.
    pub(crate) fn note(&self, text: &str) {
        let mut port = lock(&self.err);
        port.end_open_line();
        port.buffer.extend_from_slice(text.as_bytes());
        port.buffer.push(b'\n');
        port.write_out();
    }

    fn port(&self, stream: Stream) -> MutexGuard<'_, Port> {
        match stream {
            Stream::Out => lock(&self.out),
            Stream::Err => lock(&self.err),
        }
    }
}

fn lock(port: &Mutex<Port>) -> MutexGuard<'_, Port> {
    port.lock().unwrap_or_else(PoisonError::into_inner)
}

fn same_file(a: BorrowedFd<'_>, b: BorrowedFd<'_>) -> bool {
    match (rustix::fs::fstat(a), rustix::fs::fstat(b)) {
        (Ok(a), Ok(b)) => (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino),
        _ => false,
    }
}

/// One output, and what is on its way there.
struct Port {
    target: Option<Box<dyn Write + Send>>,
    colour: bool,
    buffer: Vec<u8>,
    /// Whose line has begun and not ended.
    open: Option<(WorkerId, Stream)>,
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Port")
            .field("open", &self.open)
            .finish_non_exhaustive()
    }
}

impl Port {
    fn new(target: Box<dyn Write + Send>, colour: bool) -> Self {
        Self {
            target: Some(target),
            colour,
            buffer: Vec::new(),
            open: None,
        }
    }

    fn end_open_line(&mut self) {
        if self.open.take().is_some() {
            self.buffer.push(b'\n');
        }
    }

    fn write_out(&mut self) {
        if let Some(target) = &mut self.target
            && target
                .write_all(&self.buffer)
                .and_then(|()| target.flush())
                .is_err()
        {
            self.target = None;
        }
        self.buffer.clear();
    }
}

/// A file that may be in non-blocking mode (another process of the terminal can set that): waits then.
struct Patient(File);

impl Write for Patient {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.0.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    poll(&mut [PollFd::new(&self.0, PollFlags::OUT)], None)?;
                }
                result => return result,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Gives each line of the workers its `name:slot | ` and passes it to the output that it was written to.
#[derive(Debug)]
pub(crate) struct Prefixed {
    console: Console,
    name: String,
}

impl Prefixed {
    pub(crate) fn new(console: Console, name: String) -> Self {
        Self { console, name }
    }

    fn prefix(&self, port: &mut Port, slot: Slot) {
        let text = format!("{}:{slot} | ", self.name);
        let text = if port.colour {
            paint(slot_colour(slot), &text)
        } else {
            text
        };
        port.buffer.extend_from_slice(text.as_bytes());
    }
}

impl LineSink for Prefixed {
    fn line(&mut self, line: Line<'_>) {
        let mut port = self.console.port(line.stream);
        let writer = (line.worker, line.stream);
        if port.open != Some(writer) {
            port.end_open_line();
            self.prefix(&mut port, line.slot);
        }
        port.buffer.extend_from_slice(line.text);
        port.open = line.partial.then_some(writer);
        if !line.partial {
            port.buffer.push(b'\n');
        }
        if port.buffer.len() > FULL {
            port.write_out();
        }
    }

    fn flush(&mut self) {
        self.console.port(Stream::Out).write_out();
        self.console.port(Stream::Err).write_out();
    }
}

/// ANSI colour numbers that are readable on dark and light ground; red is for errors.
fn slot_colour(slot: Slot) -> u8 {
    const COLOURS: [u8; 5] = [36, 33, 32, 35, 34];
    COLOURS[usize::try_from(slot.0).unwrap_or(0) % COLOURS.len()]
}

/// Text in an ANSI colour.
pub(crate) fn paint(colour: u8, text: &str) -> String {
    format!("\x1b[{colour}m{text}\x1b[0m")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn port(target: impl Write + Send + 'static, colour: bool) -> Arc<Mutex<Port>> {
        Arc::new(Mutex::new(Port::new(Box::new(target), colour)))
    }

    fn separate() -> (Console, Shared, Shared) {
        let (out, err) = (Shared::default(), Shared::default());
        (
            Console {
                out: port(out.clone(), false),
                err: port(err.clone(), false),
                colour: false,
            },
            out,
            err,
        )
    }

    fn text(shared: &Shared) -> String {
        String::from_utf8(shared.0.lock().unwrap().clone()).unwrap()
    }

    fn line(worker: u32, stream: Stream, text: &str, partial: bool) -> Line<'_> {
        Line::new(WorkerId(worker), Slot(worker - 1), stream, text.as_bytes()).partial(partial)
    }

    #[test]
    fn streams_stay_apart() {
        let (console, out, err) = separate();
        let mut sink = Prefixed::new(console.clone(), "app".into());
        sink.line(line(1, Stream::Out, "hello", false));
        sink.line(line(2, Stream::Err, "oops", false));
        sink.line(line(1, Stream::Out, "", false));
        assert_eq!(text(&out), "", "nothing is written before the flush");
        sink.flush();
        console.note("everup  note");
        assert_eq!(text(&out), "app:0 | hello\napp:0 | \n");
        assert_eq!(text(&err), "app:1 | oops\neverup  note\n");
    }

    #[test]
    fn long_lines_are_joined_unless_another_comes_between() {
        let (console, out, err) = separate();
        let mut sink = Prefixed::new(console.clone(), "app".into());
        sink.line(line(1, Stream::Out, "aaa", true));
        sink.line(line(1, Stream::Err, "other stream", false));
        sink.line(line(1, Stream::Out, "bbb", true));
        sink.line(line(2, Stream::Out, "between", false));
        sink.line(line(1, Stream::Out, "ccc", false));
        sink.line(line(1, Stream::Err, "unfinished", true));
        sink.flush();
        console.note("note");
        assert_eq!(text(&out), "app:0 | aaabbb\napp:1 | between\napp:0 | ccc\n");
        assert_eq!(text(&err), "app:0 | other stream\napp:0 | unfinished\nnote\n");
    }

    #[test]
    fn one_file_for_both_keeps_the_order() {
        let both = Shared::default();
        let port = port(both.clone(), false);
        let console = Console {
            out: Arc::clone(&port),
            err: port,
            colour: false,
        };
        let mut sink = Prefixed::new(console.clone(), "app".into());
        sink.line(line(1, Stream::Out, "one", true));
        sink.line(line(1, Stream::Err, "two", false));
        console.note("three");
        assert_eq!(text(&both), "app:0 | one\napp:0 | two\nthree\n");
    }

    #[test]
    fn colour_per_slot() {
        let out = Shared::default();
        let console = Console {
            out: port(out.clone(), true),
            err: port(Shared::default(), false),
            colour: false,
        };
        let mut sink = Prefixed::new(console, "app".into());
        sink.line(line(1, Stream::Out, "x", false));
        sink.line(line(7, Stream::Out, "y", false));
        sink.flush();
        assert_eq!(text(&out), "\x1b[36mapp:0 | \x1b[0mx\n\x1b[33mapp:6 | \x1b[0my\n");
    }

    #[test]
    fn a_closed_output_is_quiet() {
        let console = Console {
            out: port(Closed, false),
            err: port(Closed, false),
            colour: false,
        };
        let mut sink = Prefixed::new(console.clone(), "app".into());
        for _ in 0..3 {
            sink.line(line(1, Stream::Out, "x", false));
            sink.flush();
            console.note("y");
        }
        assert!(lock(&console.out).target.is_none());
        assert!(lock(&console.out).buffer.is_empty());
    }

    #[test]
    fn much_is_written_before_the_flush() {
        let (console, out, _) = separate();
        let mut sink = Prefixed::new(console, "app".into());
        sink.line(line(1, Stream::Out, &"x".repeat(FULL), false));
        assert_eq!(text(&out).len(), FULL + "app:0 | \n".len());
    }
}
