//! A worker's link against a primary that is the other end of a socket pair: what happens to connections and messages
//! when things end.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a failed test says enough")]

use super::acceptor::Acceptor;
use super::drain::DrainReason;
use super::error::{AcceptError, ListenError};
use super::link::{Blocked, Link};
use super::messages::{INBOX_LIMIT, Messages};
use super::open::{self, Origin};
use super::place::Place;
use super::{reader, start_reading};
use crate::channel::{Channel, Read};
use crate::wait::block_on;
use everup_core::id::Token;
use everup_core::wire::{Event, Query, Reply, Serialization, Settings, SharedKind, Sockname};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The other end.
struct Primary {
    channel: Channel,
    sent: BTreeMap<Token, OwnedFd>,
    next: u64,
    listener: TcpListener,
}

impl Primary {
    fn new() -> (Self, Arc<Link>) {
        let (channel, theirs) = Channel::pair(Settings::default()).unwrap();
        let link = Link::new(Some(theirs), Serialization::Json, true);
        start_reading(&link).unwrap();
        let primary = Self {
            channel,
            sent: BTreeMap::new(),
            next: 0,
            listener: TcpListener::bind("127.0.0.1:0").unwrap(),
        };
        (primary, link)
    }

    fn write(&mut self) {
        let sent = &self.sent;
        self.channel
            .write(|token| sent.get(&token).map(AsFd::as_fd), None);
    }

    /// What the worker says next.
    fn hear(&mut self) -> Vec<Event> {
        let (mut buffer, mut events) = (vec![0; 65536], Vec::new());
        while events.is_empty() {
            let mut watched = [PollFd::from_borrowed_fd(self.channel.descriptor(), PollFlags::IN)];
            let limit = Timespec {
                tv_sec: 20,
                tv_nsec: 0,
            };
            assert!(
                poll(&mut watched, Some(&limit)).unwrap() > 0,
                "the worker says nothing"
            );
            match self.channel.read(&mut buffer, &mut events, None) {
                Read::Some | Read::Nothing => {}
                end => panic!("{end:?}"),
            }
            self.write();
        }
        events
    }

    fn hear_query(&mut self) -> Query {
        let mut queries = self.hear().into_iter().filter_map(|event| match event {
            Event::Query(query) => Some(query),
            _ => None,
        });
        queries.next().unwrap()
    }

    fn token(&mut self, descriptor: OwnedFd) -> Token {
        let token = Token(self.next);
        self.next += 1;
        self.sent.insert(token, descriptor);
        token
    }

    /// Answers a query: connections will be handed over under this key.
    fn grant(&mut self, query: &Query, key: &str) {
        let sockname = Some(Sockname {
            address: "127.0.0.1".into(),
            v6: false,
            port: 80,
        });
        let (key, data) = (key.to_owned(), None);
        self.channel
            .session
            .reply(query.seq, Reply::HandOver { key, data, sockname });
        self.write();
    }

    /// Hands a new connection over, and returns its client's end.
    fn hand_over(&mut self, key: &str) -> (Token, TcpStream) {
        let client = TcpStream::connect(self.listener.local_addr().unwrap()).unwrap();
        let (connection, _) = self.listener.accept().unwrap();
        let token = self.token(connection.into());
        self.channel.session.hand_over(token, key);
        self.write();
        (token, client)
    }

    /// What became of connections, until each of these many was answered.
    fn answers(&mut self, count: usize) -> BTreeMap<Token, bool> {
        let mut answers = BTreeMap::new();
        while answers.len() < count {
            for event in self.hear() {
                if let Event::Answer { connection, accepted } = event {
                    assert_eq!(answers.insert(connection, accepted), None, "answered twice");
                }
            }
        }
        answers
    }
}

/// A listener of one worker, granted under the key `k`.
fn listen(primary: &mut Primary, link: &Arc<Link>) -> Acceptor {
    let asking = Arc::clone(link);
    let asked = std::thread::spawn(move || {
        let asks = Place::from("127.0.0.1:80").asks(false).unwrap();
        block_on(open::stream(&asking, &Origin::Primary, asks))
    });
    let query = primary.hear_query();
    primary.grant(&query, "k");
    let opened = asked.join().unwrap().unwrap();
    assert_eq!(opened.address, Some("127.0.0.1:80".parse().unwrap()));
    opened.acceptor
}

#[test]
fn a_connection_is_acknowledged_when_it_is_taken_and_not_before() {
    let (mut primary, link) = Primary::new();
    let acceptor = listen(&mut primary, &link);
    let (token, mut client) = primary.hand_over("k");
    while !primary
        .hear()
        .iter()
        .any(|event| matches!(event, Event::Delivered(_)))
    {}
    let taken = acceptor.accept_blocking().unwrap();
    assert!(taken.handed_over);
    assert_eq!(primary.answers(1), BTreeMap::from([(token, true)]));
    let mut stream: TcpStream = taken.connection.into();
    client.write_all(b"x").unwrap();
    stream.set_nonblocking(false).unwrap();
    stream.read_exact(&mut [0]).unwrap();
}

#[test]
fn what_nobody_took_goes_back_when_the_listener_is_dropped_or_the_worker_drains() {
    for drains in [false, true] {
        let (mut primary, link) = Primary::new();
        let acceptor = listen(&mut primary, &link);
        let (first, _a) = primary.hand_over("k");
        let (second, _b) = primary.hand_over("k");
        let mut delivered = 0;
        while delivered < 2 {
            let events = primary.hear();
            delivered += events
                .iter()
                .filter(|event| matches!(event, Event::Delivered(_)))
                .count();
        }
        if drains {
            link.leave(DrainReason::Signal);
            block_on(link.drain.begun());
            assert!(matches!(acceptor.accept_blocking(), Err(AcceptError::Drained)));
        } else {
            drop(acceptor);
        }
        assert_eq!(
            primary.answers(2),
            BTreeMap::from([(first, false), (second, false)])
        );
        // One that was on its way then, too.
        let (late, _c) = primary.hand_over("k");
        assert_eq!(primary.answers(1), BTreeMap::from([(late, false)]));
    }
}

/// At a stop the primary hands over whoever has come, and asks to leave in the same breath.
#[test]
fn what_came_just_before_the_end_is_still_taken() {
    for _ in 0..50 {
        let (mut primary, link) = Primary::new();
        let acceptor = listen(&mut primary, &link);
        let counted = Arc::clone(&link);
        let app = std::thread::spawn(move || {
            let mut taken = 0;
            while let Ok(accepted) = acceptor.accept_blocking() {
                drop(super::connection::Open::new(&counted, accepted.handed_over));
                taken += 1;
            }
            taken
        });
        let client = TcpStream::connect(primary.listener.local_addr().unwrap()).unwrap();
        let (connection, _) = primary.listener.accept().unwrap();
        let token = primary.token(connection.into());
        primary.channel.session.hand_over(token, "k");
        primary.channel.session.disconnect();
        primary.write();
        assert_eq!(primary.answers(1), BTreeMap::from([(token, true)]));
        assert_eq!(app.join().unwrap(), 1);
        assert_eq!(link.drain.reason(), Some(DrainReason::Primary));
        drop(client);
    }
}

/// The app hears of the drain when it has read from what it took, or after a moment.
#[test]
fn a_drain_waits_for_the_first_read() {
    let (mut primary, link) = Primary::new();
    let acceptor = listen(&mut primary, &link);
    let (_, _client) = primary.hand_over("k");
    let taken = acceptor.accept_blocking().unwrap();
    let open = super::connection::Open::new(&link, taken.handed_over);
    // Nothing else is written before the hand-over is acknowledged.
    primary.answers(1);
    primary.channel.session.disconnect();
    primary.write();
    while link.leaving_until().is_none() {
        std::thread::yield_now();
    }
    assert_eq!(link.drain.reason(), None);
    drop(open);
    assert_eq!(link.drain.reason(), Some(DrainReason::Primary));
}

#[test]
fn a_primary_that_speaks_nonsense_sees_the_end() {
    let (mut primary, link) = Primary::new();
    let nonsense = b"this is no json\n";
    rustix::net::send(
        primary.channel.descriptor(),
        nonsense,
        rustix::net::SendFlags::empty(),
    )
    .unwrap();
    block_on(link.drain.begun());
    assert_eq!(link.drain.reason(), Some(DrainReason::PrimaryGone));
    let (mut buffer, mut events) = (vec![0; 65536], Vec::new());
    let mut watched = [PollFd::from_borrowed_fd(
        primary.channel.descriptor(),
        PollFlags::IN,
    )];
    poll(&mut watched, None).unwrap();
    assert!(matches!(
        primary.channel.read(&mut buffer, &mut events, None),
        Read::End
    ));
}

#[test]
fn who_waits_until_all_is_written_hears_of_it_whoever_writes() {
    let (mut channel, theirs) = Channel::pair(Settings::default()).unwrap();
    let link = Link::new(Some(theirs), Serialization::Json, true);
    let text = |length: usize| {
        serde_json::value::RawValue::from_string(format!("\"{}\"", "x".repeat(length - 2))).unwrap()
    };
    link.send(&text(4 << 20)).unwrap();
    assert_eq!(link.blocked(), Blocked::Full);
    let mut written = Box::pin(link.written());
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(written.as_mut().poll(&mut context).is_pending());
    // There is no reader here: the last bytes are written by whoever sends.
    let (mut buffer, mut events) = (vec![0; 65536], Vec::new());
    while link.blocked() == Blocked::Full {
        while matches!(channel.read(&mut buffer, &mut events, None), Read::Some) {}
        link.send(&text(4)).unwrap();
    }
    block_on(written);
}

#[test]
fn the_primary_is_told_before_the_app_hears_of_it() {
    let (mut primary, link) = Primary::new();
    let _acceptor = listen(&mut primary, &link);
    link.leave_on_purpose();
    block_on(link.drain.begun());
    assert_eq!(link.drain.reason(), Some(DrainReason::Worker));
    while !primary.hear().iter().any(|event| matches!(event, Event::Leaving)) {}
    block_on(link.say_goodbye());
    assert!(!link.is_connected());
}

#[test]
fn a_quiet_worker_accepts_nothing_more() {
    let (mut primary, link) = Primary::new();
    primary.channel.session.quiet();
    primary.write();
    while !primary.hear().iter().any(|event| matches!(event, Event::Quiet)) {}
    let never = link.accept(|| -> Result<Option<()>, ()> { panic!("it accepts") });
    assert!(never.unwrap().is_none());
}

#[test]
fn what_was_handed_over_is_served_though_the_primary_is_gone() {
    let (mut primary, link) = Primary::new();
    let acceptor = listen(&mut primary, &link);
    let (_, _client) = primary.hand_over("k");
    while !primary
        .hear()
        .iter()
        .any(|event| matches!(event, Event::Delivered(_)))
    {}
    drop(primary);
    block_on(link.drain.begun());
    assert_eq!(link.drain.reason(), Some(DrainReason::PrimaryGone));
    assert!(acceptor.accept_blocking().is_ok());
    assert!(matches!(acceptor.accept_blocking(), Err(AcceptError::Drained)));
    let asks = Place::from(0).asks(false).unwrap();
    let opened = block_on(open::stream(&link, &Origin::Primary, asks));
    assert!(matches!(opened, Err(ListenError::PrimaryGone)));
}

#[test]
fn a_shared_socket_serves_and_takes_what_the_primary_rescued() {
    let (mut primary, link) = Primary::new();
    let shared = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = shared.local_addr().unwrap();
    let asking = Arc::clone(&link);
    let asked = std::thread::spawn(move || {
        let asks = Place::from(address).asks(false).unwrap();
        block_on(open::stream(&asking, &Origin::Primary, asks))
    });
    let query = primary.hear_query();
    let descriptor = primary.token(shared.into());
    primary.channel.session.reply(
        query.seq,
        Reply::Shared {
            key: "k".into(),
            data: None,
            kind: SharedKind::Tcp,
            descriptor,
        },
    );
    primary.write();
    let acceptor = asked.join().unwrap().unwrap().acceptor;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .unwrap();
    let _client = TcpStream::connect(address).unwrap();
    let direct = runtime.block_on(acceptor.accept()).unwrap();
    assert!(!direct.handed_over);
    let (token, _other) = primary.hand_over("k");
    let rescued = runtime.block_on(acceptor.accept()).unwrap();
    assert!(rescued.handed_over);
    assert_eq!(primary.answers(1), BTreeMap::from([(token, true)]));
}

#[test]
fn ended_connections_are_reported_as_a_growing_total() {
    let (mut primary, link) = Primary::new();
    for _ in 0..3 {
        let accepted = link.accept(|| Ok::<_, ()>(Some(())));
        assert!(accepted.unwrap().is_some());
        link.ended(true, true);
    }
    let mut last = 0;
    while last < 3 {
        for event in primary.hear() {
            if let Event::Closed { total } = event {
                assert!(total > last, "{total} after {last}");
                last = total;
            }
        }
    }
}

#[test]
fn messages_beyond_the_bound_are_counted_and_not_kept() {
    let (mut primary, link) = Primary::new();
    let text = |length: usize| {
        serde_json::value::RawValue::from_string(format!("\"{}\"", "x".repeat(length - 2))).unwrap()
    };
    let half = text(INBOX_LIMIT / 2);
    for message in [&half, &half, &half, &text(2)] {
        primary.channel.session.send(message);
    }
    while primary.channel.session.backlog() > 0 {
        primary.write();
        let mut watched = [PollFd::from_borrowed_fd(
            primary.channel.descriptor(),
            PollFlags::OUT,
        )];
        poll(&mut watched, None).unwrap();
    }
    drop(primary);
    block_on(link.drain.begun());
    let mut messages = Messages::of(&link).unwrap();
    assert!(Messages::of(&link).is_none());
    let kept: Vec<usize> = std::iter::from_fn(|| messages.recv_blocking())
        .map(|message| message.json().len())
        .collect();
    assert_eq!((kept, messages.skipped()), (vec![INBOX_LIMIT / 2; 2], 2));
}

/// Connections, acceptors that give up at random moments, and a drain in the middle: each connection is taken once or
/// refused once. There is no lock-free code to be explored step by step here; this is the same by force.
#[test]
fn every_connection_is_taken_or_refused_exactly_once() {
    const CONNECTIONS: usize = 300;
    let (mut primary, link) = Primary::new();
    let acceptor = Arc::new(listen(&mut primary, &link));
    let taken = Arc::new(AtomicUsize::new(0));
    let threads: Vec<_> = (0..3)
        .map(|_| {
            let (acceptor, taken) = (Arc::clone(&acceptor), Arc::clone(&taken));
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_io()
                    .build()
                    .unwrap();
                runtime.block_on(async {
                    loop {
                        // Polled once, given up, and begun anew.
                        let once = std::future::poll_fn(|context| {
                            let accept = std::pin::pin!(acceptor.accept());
                            std::task::Poll::Ready(accept.poll(context))
                        });
                        let accepted = match once.await {
                            std::task::Poll::Ready(accepted) => accepted,
                            std::task::Poll::Pending => acceptor.accept().await,
                        };
                        match accepted {
                            Ok(_) => taken.fetch_add(1, Ordering::Relaxed),
                            Err(AcceptError::Drained) => return,
                            Err(other) => panic!("{other}"),
                        };
                    }
                });
            })
        })
        .collect();
    let mut clients = Vec::new();
    let mut answers = BTreeMap::new();
    for n in 0..CONNECTIONS {
        clients.push(primary.hand_over("k"));
        if n == CONNECTIONS - 20 {
            link.leave(DrainReason::Signal);
        }
        while n + 1 - answers.len() > 4 {
            answers.append(&mut primary.answers(1));
        }
    }
    let left = CONNECTIONS - answers.len();
    answers.append(&mut primary.answers(left));
    for thread in threads {
        thread.join().unwrap();
    }
    let accepted = answers.values().filter(|accepted| **accepted).count();
    assert_eq!(
        (answers.len(), accepted),
        (CONNECTIONS, taken.load(Ordering::Relaxed))
    );
    assert!((CONNECTIONS - 25..CONNECTIONS).contains(&accepted), "{accepted}");
}

#[test]
fn a_signal_is_a_reason_to_leave() {
    let link = Link::new(None, Serialization::Json, false);
    reader::watch_signals(&link, false).unwrap();
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM).unwrap();
    block_on(link.drain.begun());
    assert_eq!(link.drain.reason(), Some(DrainReason::Signal));
}
