//! Lines on their way to standard error, written by a thread of their own: a reader that hangs holds up neither
//! the cluster nor our end.
//!
//! States: lines wait for the writer, up to [`FULL`] bytes. Who adds one waits for room as long as the writer gets
//! on; when it has written nothing for [`PATIENCE`] the line is refused, and so are all until it gets on again.
//! At the end ([`Writer::finish`]) what waits is written with the same patience, and then left.
//!
//! Invariants: the order is kept; the last line ([`Notes::last`]) is never refused. Must not know: events.

use crate::output::Console;
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// So many bytes may wait.
const FULL: usize = 1024 * 1024;
/// A writer that has written no line for so long is stuck.
const PATIENCE: Duration = Duration::from_secs(1);
/// The end waits no longer than this, even for a writer that gets on.
const LIMIT: Duration = Duration::from_secs(3);

/// The way to the writer. Clones lead to the same one.
#[derive(Debug, Clone)]
pub(crate) struct Notes {
    queue: Arc<Queue>,
}

/// The thread that writes.
#[derive(Debug)]
pub(crate) struct Writer {
    queue: Arc<Queue>,
    thread: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: VecDeque<String>,
    /// Of all lines that wait.
    bytes: usize,
    /// Since when the writer is at a line.
    writing: Option<Instant>,
    /// How many lines were written.
    written: u64,
    /// It had written this many when it was found to be stuck.
    stuck: Option<u64>,
    /// Nobody waits for room any more.
    hurry: bool,
    closed: bool,
}

/// Starts the writer.
pub(crate) fn start(console: Console) -> io::Result<(Notes, Writer)> {
    start_with(move |line| console.note(line))
}

fn start_with(write: impl FnMut(&str) + Send + 'static) -> io::Result<(Notes, Writer)> {
    let queue = Arc::new(Queue::default());
    let own = Arc::clone(&queue);
    let thread = std::thread::Builder::new()
        .name("notes".into())
        .spawn(move || own.write_all(write))?;
    let notes = Notes {
        queue: Arc::clone(&queue),
    };
    Ok((notes, Writer { queue, thread }))
}

impl Notes {
    /// Adds a line. False if there is no room for it.
    pub(crate) fn add(&self, line: String) -> bool {
        let mut state = self.queue.lock();
        if !state.has_room(&line) && !state.hurry && !state.is_stuck() {
            state = self.queue.wait_for_room(state, &line);
        }
        let room = state.has_room(&line);
        if room {
            self.queue.append(&mut state, line);
        }
        room
    }

    /// Adds the line that says how it all ended.
    pub(crate) fn last(&self, line: String) {
        self.queue.append(&mut self.queue.lock(), line);
    }

    /// Nobody shall wait for the writer from now on.
    pub(crate) fn hurry(&self) {
        self.queue.lock().hurry = true;
        self.queue.changed.notify_all();
    }
}

impl Writer {
    /// Ends when everything is written, or when the writer is stuck; then the thread is left to the end of the
    /// process.
    pub(crate) fn finish(self) {
        let mut state = self.queue.lock();
        state.closed = true;
        self.queue.changed.notify_all();
        let start = Instant::now();
        // It may have been stuck for long.
        let (mut written, mut since) = (state.written, state.writing.unwrap_or(start));
        while state.writing.is_some() || !state.lines.is_empty() {
            if since.elapsed() >= PATIENCE || start.elapsed() >= LIMIT {
                return;
            }
            state = self.queue.wait(state, PATIENCE);
            if state.written != written {
                (written, since) = (state.written, Instant::now());
            }
        }
        drop(state);
        // It cannot panic: it only writes.
        self.thread.join().ok();
    }
}

impl State {
    /// There is always room for one line, however long.
    fn has_room(&self, line: &str) -> bool {
        self.lines.is_empty() || self.bytes + line.len() <= FULL
    }

    fn is_stuck(&self) -> bool {
        self.stuck == Some(self.written)
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, limit: Duration) -> MutexGuard<'a, State> {
        let waited = self.changed.wait_timeout(state, limit);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn append(&self, state: &mut State, line: String) {
        state.bytes += line.len();
        state.lines.push_back(line);
        self.changed.notify_all();
    }

    fn wait_for_room<'a>(&self, mut state: MutexGuard<'a, State>, line: &str) -> MutexGuard<'a, State> {
        let (mut written, mut since) = (state.written, Instant::now());
        while !state.has_room(line) && !state.hurry {
            if since.elapsed() >= PATIENCE {
                state.stuck = Some(written);
                break;
            }
            state = self.wait(state, PATIENCE);
            if state.written != written {
                (written, since) = (state.written, Instant::now());
            }
        }
        state
    }

    fn write_all(&self, mut write: impl FnMut(&str)) {
        let mut state = self.lock();
        loop {
            if let Some(line) = state.lines.pop_front() {
                state.bytes -= line.len();
                state.writing = Some(Instant::now());
                drop(state);
                write(&line);
                state = self.lock();
                state.writing = None;
                state.written += 1;
                self.changed.notify_all();
            } else if state.closed {
                return;
            } else {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    fn line(number: usize) -> String {
        format!("{number:0>8}").repeat(FULL / 32)
    }

    #[test]
    fn everything_is_written_in_order() {
        let (told, written) = mpsc::channel();
        let (notes, writer) = start_with(move |line| told.send(line.to_owned()).unwrap()).unwrap();
        for number in 0..100 {
            assert!(notes.add(line(number)));
        }
        notes.last("the end".into());
        writer.finish();
        let expected = (0..100).map(line).chain(["the end".into()]);
        assert!(written.into_iter().eq(expected));
    }

    #[test]
    fn a_reader_that_hangs_costs_one_wait_and_the_end_another() {
        let (go_on, hangs) = mpsc::channel::<()>();
        let (notes, writer) = start_with(move |_| hangs.recv().unwrap_or_default()).unwrap();
        let start = Instant::now();
        let added = (0..50).filter(|number| notes.add(line(*number))).count();
        // One is being written, if the thread was that fast.
        assert!((4..=5).contains(&added), "{added}");
        assert!(start.elapsed() >= PATIENCE);
        notes.last("the end".into());
        // Or it never comes back.
        writer.finish();
        drop(go_on);
    }

    #[test]
    fn a_reader_that_goes_on_is_written_to_again() {
        let (go_on, hangs) = mpsc::channel::<()>();
        let (notes, writer) = start_with(move |_| hangs.recv().unwrap_or_default()).unwrap();
        while notes.add(line(0)) {}
        drop(go_on);
        let mut state = notes.queue.lock();
        while !state.lines.is_empty() {
            state = notes.queue.wait(state, LIMIT);
        }
        drop(state);
        assert!(notes.add(line(1)));
        writer.finish();
    }

    #[test]
    fn nobody_waits_in_a_hurry() {
        let (go_on, hangs) = mpsc::channel::<()>();
        let (notes, _writer) = start_with(move |_| hangs.recv().unwrap_or_default()).unwrap();
        notes.hurry();
        while notes.add(line(0)) {}
        assert_eq!(notes.queue.lock().stuck, None);
        drop(go_on);
    }
}
