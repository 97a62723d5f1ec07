//! Reading what workers write, line by line, in a thread of its own.
//!
//! Job: give every byte that a worker writes to the [`LineSink`], in order per stream. Owner: the cluster; the
//! engine adds pipes. Invariants: nothing is dropped; memory is bounded by [`MAX_LINE`] per pipe; when the sink
//! blocks, nothing is read, so the workers wait. Must not know: what the lines mean.

use crate::history::History;
use everup_core::id::{Slot, WorkerId};
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// Which of a worker's two output streams. A process has these two: closed on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// A piece of a worker's output: a line, or a part of one that is too long.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Line<'a> {
    /// Who wrote it.
    pub worker: WorkerId,
    /// In which slot.
    pub slot: Slot,
    /// On which stream.
    pub stream: Stream,
    /// The bytes, without the newline.
    pub text: &'a [u8],
    /// Whether the line goes on in the next piece of the same worker and stream
    /// (it is longer than [`MAX_LINE`]).
    pub partial: bool,
}

impl<'a> Line<'a> {
    /// A whole line, without its newline: for trying a sink out.
    #[must_use]
    pub fn new(worker: WorkerId, slot: Slot, stream: Stream, text: &'a [u8]) -> Self {
        Self {
            worker,
            slot,
            stream,
            text,
            partial: false,
        }
    }

    /// Whether the line goes on in the next piece.
    #[must_use]
    pub fn partial(mut self, partial: bool) -> Self {
        self.partial = partial;
        self
    }
}

/// The longest piece that is given to a sink, in bytes.
pub const MAX_LINE: usize = 64 * 1024;

/// How long a sink may take nothing, at the end, until it is given up.
pub const PATIENCE: Duration = Duration::from_secs(3);

/// Takes the workers' output. Called from one thread; it may block, and then the workers wait.
pub trait LineSink: Send + Debug {
    /// One line or part of a line.
    fn line(&mut self, line: Line<'_>);
    /// Everything that was there to read has been given; flush now if you buffer.
    fn flush(&mut self);
}

/// The handle of the reading thread.
#[derive(Debug)]
pub(crate) struct Relay {
    pipes: Sender<Pipe>,
    wake: OwnedFd,
    thread: JoinHandle<()>,
    /// Disconnected when the thread ends.
    ended: Receiver<()>,
    /// Pieces that the sink has taken.
    taken: Arc<AtomicU64>,
}

/// One stream of one worker.
#[derive(Debug)]
pub(crate) struct Pipe {
    pub(crate) worker: WorkerId,
    pub(crate) slot: Slot,
    pub(crate) stream: Stream,
    pub(crate) read_end: OwnedFd,
}

impl Relay {
    /// Every line goes to the sink, and its beginning to the history.
    pub(crate) fn start(sink: Box<dyn LineSink>, history: Arc<History>) -> io::Result<Self> {
        let wake = crate::sys::spawn::waker()?;
        let (pipes, incoming) = channel();
        let (alive, ended) = channel();
        let taken = Arc::new(AtomicU64::new(0));
        let mut reader = Reader {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            wake: rustix::io::fcntl_dupfd_cloexec(&wake, 3)?,
            incoming,
            pipes: BTreeMap::new(),
            next: 1,
            sink: Remembered { sink, history },
            buffer: vec![0; MAX_LINE],
            taken: Arc::clone(&taken),
        };
        epoll::add(&reader.epoll, &reader.wake, EventData::new_u64(0), EventFlags::IN)?;
        let thread = std::thread::Builder::new()
            .name("everup-output".into())
            .spawn(move || {
                reader.run();
                drop(alive);
            })?;
        Ok(Self {
            pipes,
            wake,
            thread,
            ended,
            taken,
        })
    }

    /// Reads this pipe too. It is to be non-blocking.
    pub(crate) fn add(&self, pipe: Pipe) {
        // The thread ends only after us.
        self.pipes.send(pipe).ok();
        wake(&self.wake);
    }

    /// Reads what is there by now, and ends. For after the last worker's end: a descendant of it that still
    /// holds a pipe is not waited for. A sink that takes nothing for [`PATIENCE`] is given up, and what it has not
    /// taken is lost.
    pub(crate) fn finish(self) {
        drop(self.pipes);
        wake(&self.wake);
        let mut taken = self.taken.load(Ordering::Relaxed);
        while self.ended.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            let now = self.taken.load(Ordering::Relaxed);
            if now == taken {
                return;
            }
            taken = now;
        }
        self.thread.join().ok();
    }
}

/// Makes a waker readable.
pub(crate) fn wake(waker: &OwnedFd) {
    // Full means that it is readable already.
    rustix::io::write(waker, &1u64.to_ne_bytes()).ok();
}

/// Makes a waker unreadable.
pub(crate) fn clear(waker: &OwnedFd) {
    rustix::io::read(waker, &mut [0; 8]).ok();
}

/// A sink, and what remembers the last lines.
#[derive(Debug)]
struct Remembered {
    sink: Box<dyn LineSink>,
    history: Arc<History>,
}

impl LineSink for Remembered {
    fn line(&mut self, line: Line<'_>) {
        // First: whoever sees the line may ask for it.
        self.history.line(line.worker, line.text);
        self.sink.line(line);
    }

    fn flush(&mut self) {
        self.sink.flush();
    }
}

/// The thread's own state.
#[derive(Debug)]
struct Reader {
    epoll: OwnedFd,
    wake: OwnedFd,
    incoming: Receiver<Pipe>,
    pipes: BTreeMap<u64, (Pipe, Vec<u8>)>,
    next: u64,
    sink: Remembered,
    buffer: Vec<u8>,
    taken: Arc<AtomicU64>,
}

impl Reader {
    fn run(&mut self) {
        let mut open = true;
        while open {
            let mut space = [MaybeUninit::<epoll::Event>::uninit(); 64];
            let ready: Vec<u64> = match epoll::wait(&self.epoll, &mut space, None) {
                Ok((events, _)) => events.iter().map(|event| event.data.u64()).collect(),
                Err(Errno::INTR) => continue,
                Err(_) => return,
            };
            for key in ready {
                match key {
                    0 => open = self.take_new(),
                    pipe => self.read(pipe),
                }
            }
            self.sink.flush();
        }
        for key in self.pipes.keys().copied().collect::<Vec<_>>() {
            self.read_rest(key);
            self.end(key);
        }
        self.sink.flush();
    }

    /// Reads what is in a pipe now, and not what is written into it meanwhile.
    fn read_rest(&mut self, key: u64) {
        let waiting = self
            .pipes
            .get(&key)
            .map(|(pipe, _)| rustix::io::ioctl_fionread(&pipe.read_end));
        let mut left = waiting.and_then(Result::ok).unwrap_or(0);
        while left > 0 && self.read_once(key) {
            left = left.saturating_sub(MAX_LINE as u64);
        }
    }

    /// Takes charge of new pipes. False when no more will come.
    fn take_new(&mut self) -> bool {
        clear(&self.wake);
        loop {
            match self.incoming.try_recv() {
                Ok(pipe) => {
                    let key = self.next;
                    self.next += 1;
                    if epoll::add(
                        &self.epoll,
                        &pipe.read_end,
                        EventData::new_u64(key),
                        EventFlags::IN,
                    )
                    .is_ok()
                    {
                        self.pipes.insert(key, (pipe, Vec::new()));
                    }
                }
                Err(error) => return error == std::sync::mpsc::TryRecvError::Empty,
            }
        }
    }

    /// Reads a pipe a few times, so that one that is always full does not starve the others.
    fn read(&mut self, key: u64) {
        for _ in 0..4 {
            if !self.read_once(key) {
                return;
            }
        }
    }

    /// Reads once. False when nothing is there now, or ever.
    fn read_once(&mut self, key: u64) -> bool {
        let Some((pipe, rest)) = self.pipes.get_mut(&key) else {
            return false;
        };
        match rustix::io::read(&pipe.read_end, &mut self.buffer) {
            Ok(0) => {
                self.end(key);
                false
            }
            Ok(read) => {
                give(&mut self.sink, pipe, rest, &self.buffer[..read]);
                self.taken.fetch_add(1, Ordering::Relaxed);
                true
            }
            Err(Errno::AGAIN | Errno::INTR) => false,
            Err(_) => {
                self.end(key);
                false
            }
        }
    }

    /// The last line may have no newline.
    fn end(&mut self, key: u64) {
        let Some((pipe, rest)) = self.pipes.remove(&key) else {
            return;
        };
        if !rest.is_empty() {
            self.sink.line(pipe.line(&rest, false));
        }
    }
}

impl Pipe {
    fn line<'a>(&self, text: &'a [u8], partial: bool) -> Line<'a> {
        Line::new(self.worker, self.slot, self.stream, text).partial(partial)
    }
}

/// Cuts bytes into lines. `rest` is the beginning of a line that has not ended.
fn give(sink: &mut dyn LineSink, pipe: &Pipe, rest: &mut Vec<u8>, mut bytes: &[u8]) {
    while let Some(end) = bytes.iter().position(|&byte| byte == b'\n') {
        let (line, after) = bytes.split_at(end);
        if rest.is_empty() {
            sink.line(pipe.line(line, false));
        } else {
            rest.extend_from_slice(line);
            sink.line(pipe.line(rest, false));
            rest.clear();
        }
        bytes = &after[1..];
    }
    rest.extend_from_slice(bytes);
    if rest.len() >= MAX_LINE {
        sink.line(pipe.line(rest, true));
        rest.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[derive(Debug, Default, Clone)]
    struct Kept(Arc<Mutex<Lines>>);

    type Lines = Vec<(Vec<u8>, bool)>;

    impl LineSink for Kept {
        fn line(&mut self, line: Line<'_>) {
            self.0.lock().unwrap().push((line.text.to_vec(), line.partial));
        }
        fn flush(&mut self) {}
    }

    fn through(bytes: &[u8], step: usize) -> Lines {
        let kept = Kept::default();
        let relay = Relay::start(Box::new(kept.clone()), Arc::default()).unwrap();
        let (read_end, write_end) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::NONBLOCK).unwrap();
        relay.add(Pipe {
            worker: WorkerId(1),
            slot: Slot(0),
            stream: Stream::Out,
            read_end,
        });
        rustix::io::ioctl_fionbio(&write_end, false).unwrap();
        let mut writer = std::fs::File::from(write_end);
        for piece in bytes.chunks(step) {
            io::Write::write_all(&mut writer, piece).unwrap();
        }
        drop(writer);
        relay.finish();
        std::mem::take(&mut *kept.0.lock().unwrap())
    }

    #[test]
    fn lines_come_whole_however_they_are_written() {
        let text = "one\n\ntwo \u{e9}\nno newline".as_bytes();
        for step in 1..text.len() {
            let lines: Vec<_> = through(text, step).into_iter().map(|(line, _)| line).collect();
            let expected: Vec<Vec<u8>> = text.split(|&b| b == b'\n').map(<[u8]>::to_vec).collect();
            assert_eq!(lines, expected);
        }
    }

    #[test]
    fn a_long_line_comes_in_parts_with_nothing_missing() {
        let mut text = vec![b'x'; 3 * MAX_LINE + 5];
        text.push(b'\n');
        text.extend_from_slice(b"next\n");
        let lines = through(&text, 10_000);
        assert!(lines.iter().all(|(line, _)| line.len() < 2 * MAX_LINE));
        assert!(lines[0].1 && !lines.last().unwrap().1);
        let joined: Vec<u8> = lines
            .iter()
            .flat_map(|(line, partial)| line.iter().copied().chain((!partial).then_some(b'\n')))
            .collect();
        assert_eq!(joined, text);
    }
}
