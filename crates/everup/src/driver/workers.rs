//! Workers as processes with channels: starting them, hearing them, burying them.

use super::health::Private;
use super::{Driver, Later, SEND_QUEUE, Version, keep};
use crate::cgroup::Leaf;
use crate::channel::{Channel, READ_BUFFER, Read, Written};
use crate::cluster::{Release, Stdio};
use crate::confine::Confiner;
use crate::event::ReceivedHandle;
use crate::notify::{self, NotifySocket};
use crate::output::{Pipe, Stream};
use crate::poller::{Key, Ready};
use crate::probe::pair;
use crate::process::{self, BETWEEN_US, FEEDBACK, MARK, Process, Victim};
use crate::program;
use crate::spec::{Channel as Dialect, Listen, Output};
use crate::sys::spawn::{Spawn, SpawnError, spawn};
use everup_core::app::Input;
use everup_core::dispatch::MAX_WINDOW;
use everup_core::drain::Gone;
use everup_core::id::{Slot, WorkerId};
use everup_core::wire::{Event, Serialization, Settings};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;

/// A worker's descriptors.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct WorkerIo {
    pub(super) process: Process,
    pub(super) channel: Option<Channel>,
    /// Whether we have sent it a signal.
    pub(super) signalled: bool,
    /// Our end of its standard input.
    #[serde(with = "crate::estate::number::maybe")]
    pub(super) input: Option<OwnedFd>,
    /// Where it speaks `sd_notify`.
    pub(super) notify: Option<NotifySocket>,
    /// Its own listening socket, for probes.
    pub(super) private: Option<Private>,
    /// Its control group, if it has one: removed when the worker is buried.
    pub(super) group: Option<Leaf>,
    /// Those that were killed with it.
    #[serde(skip)]
    pub(super) victims: Vec<Victim>,
}

/// Descriptors, and the numbers that they are to have.
type Table = Vec<(OwnedFd, RawFd)>;

/// Bytes that may wait in all for a worker that asks and asks, and does not read the answers.
const UNREAD: usize = SEND_QUEUE + 16 * 1024 * 1024;
/// How often the channel of a dead worker is read before its end is taken for granted: a descendant of it may
/// hold the other end open, and go on writing.
const LAST_READS: usize = 4096;

impl Driver {
    pub(super) fn spawn(&mut self, worker: WorkerId, slot: Slot, generation: u32) {
        let input = match self.start(worker, slot, generation) {
            Ok(io) => {
                let pid = io.process.pid;
                if let Some(meter) = &self.meter {
                    meter.watch(worker, pid);
                }
                self.workers.insert(worker, io);
                self.reporter.roster().started(worker, pid);
                Input::Spawned { worker, pid }
            }
            Err(error) => {
                let version = self.generations.get_mut(&generation);
                let confiner = version.and_then(|version| version.confiner().ok());
                let why = confiner.map(|confiner| confiner.explain(&error));
                let why = why.unwrap_or_else(|| format!("{error:?}"));
                Input::SpawnFailed { worker, why }
            }
        };
        self.overrides.remove(&worker);
        self.feed(input);
    }

    fn start(&mut self, worker: WorkerId, slot: Slot, generation: u32) -> Result<WorkerIo, SpawnError> {
        let unknown = || io::Error::other("nobody knows what this generation runs");
        let version = self.generations.get_mut(&generation).ok_or_else(unknown)?;
        let confiner = version.confiner().map_err(io::Error::other)?;
        let version = version.clone();
        let private = self.private()?;
        let (mut table, next) = self.sockets(private.as_ref())?;
        let channel = match self.channel()? {
            Some((ours, theirs, serialization)) => {
                table.push((theirs, next));
                Some((ours, next, serialization))
            }
            None => None,
        };
        let above = table
            .iter()
            .map(|(_, number)| number + 1)
            .max()
            .unwrap_or(3)
            .max(next);
        let (secrets, paths) = super::secrets::open_all(&version.secrets, above)?;
        table.extend(secrets);
        let input = self.standard_input(worker, &mut table)?;
        let pipes = self.streams(worker, slot, &version, &confiner, &mut table)?;
        let (confinement, group) = confiner.prepare(worker, slot)?;

        let mark = format!("{}.{worker}", self.mark);
        let notify = NotifySocket::open()?;
        let mut env = self.environment(&Birth {
            worker,
            slot,
            version: &version,
            channel: channel.as_ref().map(|(_, fd, mode)| (*fd, *mode)),
            mark: &mark,
            notify: notify.value(),
            private: private.is_some(),
        });
        env.retain(|(name, _)| paths.iter().all(|(secret, _)| secret != name));
        env.extend(paths);
        let (named, args, cwd) = self.command_line(worker, &version);
        let program = program::find(named, &env);
        let descriptors: Vec<(BorrowedFd<'_>, RawFd)> =
            table.iter().map(|(fd, to)| (fd.as_fd(), *to)).collect();
        let pid = spawn(&Spawn {
            program: &program,
            args: &args,
            env: &env,
            pid_variable: (!self.passed.is_empty() || private.is_some()).then_some(OsStr::new("LISTEN_PID")),
            cwd,
            descriptors: &descriptors,
            confinement: &confinement,
            outlives: self.keeping.is_some(),
        })?;

        let process = Process::new(pid, mark)?;
        let channel = channel.map(|(channel, _, _)| channel);
        let watched = self.watch(worker, &process, channel.as_ref());
        if let Err(error) = watched
            .map_err(io::Error::from)
            .and_then(|()| self.watch_notify(worker, &notify))
        {
            process.discard();
            return Err(error.into());
        }
        if let Some(relay) = &self.relay {
            pipes.into_iter().for_each(|pipe| relay.add(pipe));
        }
        Ok(WorkerIo {
            process,
            channel,
            signalled: false,
            input,
            notify: Some(notify),
            private,
            group,
            victims: Vec::new(),
        })
    }

    /// The program, all arguments with its name in front, and the directory.
    fn command_line<'a>(
        &'a self,
        worker: WorkerId,
        version: &'a Version,
    ) -> (&'a Path, Vec<OsString>, Option<&'a Path>) {
        let fork = self.overrides.get(&worker);
        let named = fork
            .and_then(|fork| fork.program.as_ref())
            .unwrap_or(&version.program);
        let cwd = fork
            .and_then(|fork| fork.cwd.as_deref())
            .or(version.cwd.as_deref());
        let args = fork
            .and_then(|fork| fork.args.as_deref())
            .unwrap_or(&version.args);
        let name = std::iter::once(named.as_os_str().to_owned());
        (named, name.chain(args.iter().cloned()).collect(), cwd)
    }

    /// Descriptors that every worker inherits, with their numbers, and the first number after them.
    fn sockets(&self, private: Option<&Private>) -> io::Result<(Table, RawFd)> {
        let mut table = Table::new();
        let mut next: RawFd = 3;
        let passed = self.passed.iter().map(|socket| socket.descriptor.as_fd());
        for socket in passed.chain(private.map(|private| private.listener.as_fd())) {
            table.push((rustix::io::fcntl_dupfd_cloexec(socket, 3)?, next));
            next += 1;
        }
        for (&number, descriptor) in &self.spec.inherit {
            table.push((rustix::io::fcntl_dupfd_cloexec(descriptor, 3)?, number));
            next = next.max(number + 1);
        }
        Ok((table, next))
    }

    /// Our end of a worker's channel, and its own.
    fn channel(&self) -> io::Result<Option<(Channel, OwnedFd, Serialization)>> {
        let (Dialect::Node(serialization) | Dialect::Ipc(serialization)) = self.spec.channel else {
            return Ok(None);
        };
        let settings = Settings {
            serialization,
            window: MAX_WINDOW,
            ..Settings::default()
        };
        let (ours, theirs) = Channel::pair(settings)?;
        Ok(Some((ours, theirs, serialization)))
    }

    fn watch(&self, worker: WorkerId, process: &Process, channel: Option<&Channel>) -> Result<(), Errno> {
        self.poller.watch(process.descriptor(), Key::Exit(worker))?;
        channel.map_or(Ok(()), |channel| {
            self.poller.watch(channel.descriptor(), Key::Channel(worker))
        })
    }

    /// The worker's end of its standard input goes into the table; ours, if there is one, is returned.
    fn standard_input(&mut self, worker: WorkerId, table: &mut Table) -> io::Result<Option<OwnedFd>> {
        let asked = self.overrides.get_mut(&worker).and_then(|fork| fork.stdin.take());
        match asked {
            None if self.spec.stdin => {
                let (theirs, ours) = super::input::pipe()?;
                table.push((theirs, 0));
                return Ok(Some(ours));
            }
            None | Some(Stdio::Null) => {}
            Some(Stdio::Inherit) => table.push((io::stdin().as_fd().try_clone_to_owned()?, 0)),
            Some(Stdio::Descriptor(descriptor)) => table.push((descriptor, 0)),
        }
        Ok(None)
    }

    /// The worker's ends of its standard output and error go into the table; ours are returned.
    fn streams(
        &mut self,
        worker: WorkerId,
        slot: Slot,
        version: &Version,
        confiner: &Confiner,
        table: &mut Table,
    ) -> io::Result<Vec<Pipe>> {
        let outputs = match self.overrides.get_mut(&worker) {
            Some(fork) => [fork.stdout.take(), fork.stderr.take()],
            None => [None, None],
        };
        let mut pipes = Vec::new();
        for ((stream, number), asked) in [(Stream::Out, 1), (Stream::Err, 2)].into_iter().zip(outputs) {
            match (asked, &self.spec.output) {
                (Some(Stdio::Descriptor(descriptor)), _) => table.push((descriptor, number)),
                (Some(Stdio::Inherit), _) | (None, Output::Inherit) => {}
                (Some(Stdio::Null), _) | (None, Output::Null) => table.push((null()?, number)),
                (None, Output::Open(outputs)) => {
                    let opened = version.open(worker, slot, stream);
                    let opened = opened.unwrap_or_else(|| outputs.open(worker, slot, stream));
                    table.push((opened?, number));
                }
                (None, Output::Lines(_)) => {
                    let (read_end, write_end) = pipe(confiner)?;
                    table.push((write_end, number));
                    pipes.push(Pipe {
                        worker,
                        slot,
                        stream,
                        read_end,
                    });
                }
            }
        }
        Ok(pipes)
    }

    /// Ours, then the spec's, then the fork's, then what the protocols need; nothing of a protocol that we are
    /// ourselves at the other end of.
    fn environment(&self, birth: &Birth<'_>) -> Vec<(OsString, OsString)> {
        let mut env = Self::variables(birth.version);
        env.insert(birth.version.instance_var.clone(), birth.slot.to_string().into());
        for name in &birth.version.increments {
            if let Some(value) = env.get_mut(name) {
                *value = incremented(value, birth.slot);
            }
        }
        env.insert(MARK.into(), birth.mark.into());
        env.insert(notify::VARIABLE.into(), birth.notify.clone().into());
        if let Some(watchdog) = birth.version.watchdog {
            env.insert("WATCHDOG_USEC".into(), watchdog.as_micros().to_string().into());
        }
        if let Some((fd, mode)) = birth.channel {
            let mode = match mode {
                Serialization::Json => "json",
                Serialization::Advanced => "advanced",
            };
            env.insert("NODE_CHANNEL_FD".into(), fd.to_string().into());
            env.insert("NODE_CHANNEL_SERIALIZATION_MODE".into(), mode.into());
            if matches!(self.spec.channel, Dialect::Node(_)) {
                env.insert("NODE_UNIQUE_ID".into(), birth.worker.to_string().into());
                env.insert(FEEDBACK.into(), "1".into());
            }
        }
        let named = |listen: &Listen| listen.name.clone().unwrap_or_else(|| "unknown".into());
        let mut names: Vec<String> = self.spec.listen.iter().map(named).collect();
        names.extend(birth.private.then(|| pair::NAME.into()));
        if !names.is_empty() {
            env.insert("LISTEN_FDS".into(), names.len().to_string().into());
            env.insert("LISTEN_FDNAMES".into(), names.join(":").into());
        }
        if let Some(fork) = self.overrides.get(&birth.worker) {
            env.extend(fork.env.iter().cloned());
        }
        env.into_iter().collect()
    }

    /// What workers of a generation have, and commands about them: without what belongs to one worker alone.
    pub(super) fn variables_of(&self, generation: u32) -> Vec<(OsString, OsString)> {
        let known = self.generations.get(&generation);
        known.map_or_else(Vec::new, |version| Self::variables(version).into_iter().collect())
    }

    fn variables(version: &Version) -> BTreeMap<OsString, OsString> {
        let mut env: BTreeMap<OsString, OsString> = match version.clear_env {
            true => BTreeMap::new(),
            false => std::env::vars_os().collect(),
        };
        for name in BETWEEN_US {
            env.remove(OsStr::new(name));
        }
        if let Some(identity) = &version.limits.identity {
            for (name, value) in identity.variables() {
                match value {
                    Some(value) => env.insert(name.into(), value),
                    None => env.remove(OsStr::new(name)),
                };
            }
        }
        env.extend(version.env.iter().cloned());
        env
    }

    pub(super) fn channel_news(&mut self, worker: WorkerId, news: Ready) {
        if news.writable {
            self.talkative.push(worker);
        }
        if news.readable {
            self.hear(worker);
        }
    }

    /// Reads a channel once. False when there is nothing more to read.
    fn hear(&mut self, worker: WorkerId) -> bool {
        let Some(channel) = self.workers.get_mut(&worker).and_then(|io| io.channel.as_mut()) else {
            return false;
        };
        let mut events = std::mem::take(&mut self.events);
        let ledger = self.keeping.as_mut().map(|keeping| &mut *keeping.ledger);
        self.dirty = true;
        self.buffer.resize(READ_BUFFER, 0);
        let read = channel.read(
            &mut self.buffer,
            &mut events,
            ledger.map(|ledger| (worker, ledger)),
        );
        for event in events.drain(..) {
            self.said(worker, event);
        }
        self.events = events;
        let unread = self.workers.get(&worker).and_then(|io| io.channel.as_ref());
        if unread.is_some_and(|channel| channel.session.backlog() > UNREAD) {
            let what = format!("more than {UNREAD} bytes wait for it to read its channel");
            self.feed(Input::Garbled { worker, what });
            self.close_channel(worker);
            return false;
        }
        self.talkative.push(worker);
        match read {
            Read::Some => true,
            Read::Nothing => false,
            Read::End => {
                self.close_channel(worker);
                false
            }
            Read::Garbled(error) => {
                self.feed(Input::Garbled {
                    worker,
                    what: error.to_string(),
                });
                self.close_channel(worker);
                false
            }
        }
    }

    pub(super) fn said(&mut self, worker: WorkerId, event: Event) {
        if matches!(event, Event::Handle { .. } | Event::Opaque(_) | Event::Discard) {
            self.feed(Input::Heard { worker });
        }
        match event {
            Event::Handle { kind, message, key } => {
                let Some(descriptor) = self
                    .workers
                    .get_mut(&worker)
                    .and_then(|io| io.channel.as_mut()?.claim())
                else {
                    return;
                };
                let release = key.map(|key| Release::new(self.reporter.commander(), worker, key));
                let descriptor = ReceivedHandle::new(kind, descriptor, release);
                self.reporter
                    .handle(worker, kind, message.get().to_owned(), descriptor);
            }
            Event::Answer { connection, accepted } if self.probe_answered(connection, Some(accepted)) => {}
            Event::Undelivered(token) if self.probe_answered(token, None) => {}
            Event::Discard => {
                drop(
                    self.workers
                        .get_mut(&worker)
                        .and_then(|io| io.channel.as_mut()?.claim()),
                );
            }
            Event::Quiet => self.quiet(worker),
            Event::Opaque(payload) => self.reporter.opaque(worker, payload),
            Event::Delivered(token) if self.descriptors.handles.remove(&token).is_some() => {}
            Event::Undelivered(token) if self.descriptors.handles.remove(&token).is_some() => {
                self.reporter.error(
                    Some(worker),
                    "a handle was not delivered: the worker is out of descriptors".into(),
                );
            }
            event => self.feed(Input::Said { worker, event }),
        }
    }

    pub(super) fn write_to(&mut self, worker: WorkerId) {
        let Some(channel) = self.workers.get_mut(&worker).and_then(|io| io.channel.as_mut()) else {
            return;
        };
        let (descriptors, listeners) = (&self.descriptors, &self.listeners);
        let ledger = self.keeping.as_mut().map(|keeping| &mut *keeping.ledger);
        let find = |token| Self::find(descriptors, listeners, token);
        let written = channel.write(find, ledger.map(|ledger| (worker, ledger)));
        match written {
            // What was queued before the end is not lost with it.
            Written::All if channel.closing && channel.session.backlog() == 0 => {
                return self.close_channel(worker);
            }
            Written::All | Written::Full => channel.troubled = false,
            Written::Later => {
                if !std::mem::replace(&mut channel.troubled, true) {
                    let what = "the system is short of memory or descriptors: the channel has to wait".into();
                    self.reporter.error(Some(worker), what);
                }
                return self.later(Later::Write(worker));
            }
            Written::Broken => {
                self.hear_out(worker);
                return self.close_channel(worker);
            }
            Written::Lost => return self.close_channel(worker),
        }
        let full = written == Written::Full;
        if full != channel.waits_for_room {
            channel.waits_for_room = full;
            if let Err(error) = self
                .poller
                .watch_room(channel.descriptor(), Key::Channel(worker), full)
            {
                self.reporter
                    .error(Some(worker), format!("watch the channel: {error}"));
            }
        }
    }

    /// Closes our end of a channel.
    pub(super) fn close_channel(&mut self, worker: WorkerId) {
        let Some(channel) = self.workers.get_mut(&worker).and_then(|io| io.channel.take()) else {
            return;
        };
        self.poller.forget(channel.descriptor());
        self.close(keep::Closing::Channel(Box::new(channel)));
        let gone = self
            .descriptors
            .handles
            .extract_if(|_, (receiver, _)| *receiver == worker);
        for (_, (_, handle)) in gone.collect::<Vec<_>>() {
            self.close(handle);
        }
        self.feed(Input::ChannelClosed { worker });
    }

    /// Reads a channel to its end.
    fn hear_out(&mut self, worker: WorkerId) {
        for _ in 0..LAST_READS {
            if !self.hear(worker) {
                break;
            }
        }
    }

    /// A process is gone: what it said is heard to the end first.
    pub(super) fn exited(&mut self, worker: WorkerId) {
        let Some(io) = self.workers.get(&worker) else {
            return;
        };
        let exits = self.keeping.as_ref().and_then(|keeping| keeping.exits.as_ref());
        let Some(status) = io.process.reap(exits) else {
            // Readable, and not to be reaped: a debugger has it. It would be reported for ever.
            self.poller.forget(io.process.descriptor());
            return self.later(Later::Reap(worker));
        };
        self.hear_out(worker);
        self.close_channel(worker);
        self.notified(worker);
        self.forget_probes(worker);
        let Some(io) = self.workers.remove(&worker) else {
            return;
        };
        self.poller.forget(io.process.descriptor());
        if let Some(notify) = &io.notify {
            self.poller.forget(notify.descriptor());
        }
        let left = status.success() && !io.signalled;
        self.holding_gone(worker, if left { Gone::Left } else { Gone::Cut });
        self.bury(worker, status, io);
    }

    /// Reaps orphans that were given to us, but not the commands of probes.
    pub(super) fn reap_orphans(&self) {
        let known = self.pids();
        let children = self.prober.children();
        process::reap_strangers_but(|| {
            let mut settled = children.settled()?;
            settled.extend(&known);
            Some(settled)
        });
    }

    /// The pids of all workers.
    pub(super) fn pids(&self) -> BTreeSet<u32> {
        self.workers.values().map(|io| io.process.pid).collect()
    }
}

/// A number that is more by the slot's; anything else stays as it is.
fn incremented(value: &OsStr, slot: Slot) -> OsString {
    let number: Option<i64> = value.to_str().and_then(|text| text.trim().parse().ok());
    let more = number.and_then(|number| number.checked_add(slot.0.into()));
    more.map_or_else(|| value.to_owned(), |number| number.to_string().into())
}

/// For lines: our end, and the worker's.
fn pipe(confiner: &Confiner) -> io::Result<(OwnedFd, OwnedFd)> {
    let (read_end, write_end) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&read_end, true)?;
    if let Some((uid, gid)) = confiner.owner() {
        // Inherited it is in any case; this is for programs that open `/dev/stdout`.
        rustix::fs::fchown(&write_end, Some(uid), Some(gid)).ok();
    }
    Ok((read_end, write_end))
}

fn null() -> io::Result<OwnedFd> {
    Ok(std::fs::File::options().write(true).open("/dev/null")?.into())
}

/// What the environment of one worker says about it.
struct Birth<'a> {
    worker: WorkerId,
    slot: Slot,
    version: &'a Version,
    channel: Option<(RawFd, Serialization)>,
    mark: &'a str,
    notify: String,
    private: bool,
}
