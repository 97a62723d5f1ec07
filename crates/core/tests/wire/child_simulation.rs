//! Our primary's session and our worker's child, over a model of the socket: whatever both say and whenever reads
//! and writes happen, they agree in the end.

use crate::node_model::Pipe;
use crate::simulation::Dice;
use crate::support::raw;
use everup_core::id::Token;
use everup_core::wire::child::{Answer, Ask, Child, Offer, Said, ServerId};
use everup_core::wire::{
    AddressType, Event, HandleKind, Query, Reply, Serialization, Session, Settings, SharedKind,
};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// What the worker reads at once: more than a primary lets wait un-awaited, see `outbox`.
const READ: usize = 64 * 1024;

#[derive(Debug, Clone)]
enum Act {
    /// The worker asks for this port, with or without a backlog of its own.
    Ask(u16, bool),
    /// It closes one of its servers.
    Close(usize),
    /// It says that one of them listens.
    Listening(usize),
    /// It answers one of the connections that it was offered.
    Answer(usize, bool),
    /// The primary answers one question.
    Reply(usize, Choice),
    /// It hands over to one of the worker's servers.
    HandOver(usize),
    /// It hands over to a server that is not there.
    HandOverAstray,
    /// A message, down or up, of about this length, perhaps with a handle.
    Message {
        down: bool,
        handle: bool,
        length: usize,
    },
    Disconnect,
    Leave,
    /// Time passes: that many random reads and writes.
    Pass(u8),
}

#[derive(Debug, Clone, Copy)]
enum Choice {
    HandOver,
    Shared,
    Failed,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let length = prop_oneof![6 => 0..200_usize, 1 => 30_000..34_000_usize, 1 => 65_000..66_000_usize];
    let choice =
        prop_oneof![3 => Just(Choice::HandOver), 2 => Just(Choice::Shared), 1 => Just(Choice::Failed)];
    let act = prop_oneof![
        6 => (1..4_u16, any::<bool>()).prop_map(|(port, backlog)| Act::Ask(port, backlog)),
        3 => any::<usize>().prop_map(Act::Close),
        1 => any::<usize>().prop_map(Act::Listening),
        8 => (any::<usize>(), any::<bool>()).prop_map(|(which, accepted)| Act::Answer(which, accepted)),
        8 => (any::<usize>(), choice).prop_map(|(which, choice)| Act::Reply(which, choice)),
        10 => any::<usize>().prop_map(Act::HandOver),
        1 => Just(Act::HandOverAstray),
        4 => (any::<bool>(), any::<bool>(), length)
            .prop_map(|(down, handle, length)| Act::Message { down, handle, length }),
        1 => prop_oneof![4 => Just(Act::Pass(255)), 1 => Just(Act::Disconnect), 1 => Just(Act::Leave)],
        12 => any::<u8>().prop_map(Act::Pass),
    ];
    prop::collection::vec(act, 1..120)
}

/// What a primary knows a place of a worker's by: Node's own ends by an assertion if it is held twice.
type Identity = (Option<u16>, u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Sent,
    Delivered,
    Undelivered,
    Accepted,
    Refused,
}

#[derive(Debug)]
struct Connection {
    /// `None`: for a server that is not there.
    port: Option<u16>,
    fate: Fate,
}

/// Messages of one direction, each with a number, in order.
#[derive(Debug, Default)]
struct Messages {
    said: u64,
    /// Those with a handle.
    handles: BTreeMap<Token, u64>,
    heard: Vec<u64>,
    undelivered: BTreeSet<u64>,
}

impl Messages {
    fn next(&mut self, length: usize) -> Box<serde_json::value::RawValue> {
        self.said += 1;
        raw(format!(r#"{{"n":{},"x":"{}"}}"#, self.said, "x".repeat(length)))
    }

    fn hear(&mut self, message: &serde_json::value::RawValue, handle: Option<Token>) {
        let message: serde_json::Value = serde_json::from_str(message.get()).unwrap();
        let number = message["n"].as_u64().unwrap();
        let with = self.handles.iter().find(|(_, n)| **n == number);
        assert_eq!(
            handle,
            with.map(|(token, _)| *token),
            "the handle of message {number}"
        );
        self.heard.push(number);
    }

    fn undelivered(&mut self, handle: Token) -> bool {
        let number = self.handles.get(&handle).copied();
        number.is_some_and(|number| self.undelivered.insert(number))
    }

    fn check(&self) {
        let expected: Vec<u64> = (1..=self.said)
            .filter(|number| !self.undelivered.contains(number))
            .collect();
        assert_eq!(self.heard, expected);
    }
}

struct World {
    session: Session,
    child: Child,
    down: Pipe,
    up: Pipe,
    dice: Dice,
    /// Whether the worker may read in any pieces: only if one handle is in flight at a time.
    any_read: bool,
    /// One of so many descriptors does not arrive; 0: all do.
    loss: usize,
    token: u64,
    /// Received descriptors not yet claimed, of the primary and of the worker.
    up_received: VecDeque<Token>,
    down_received: VecDeque<Token>,
    /// What the primary knows: questions, and the places that the worker holds, by key.
    queries: Vec<(u64, Identity)>,
    held: BTreeMap<String, Identity>,
    shared: BTreeMap<Token, (u64, Reply)>,
    connections: BTreeMap<Token, Connection>,
    /// What the worker knows.
    asked: BTreeMap<ServerId, u16>,
    open: BTreeMap<ServerId, u16>,
    offers: Vec<(Offer, Token)>,
    accepted: BTreeSet<Token>,
    claimed: BTreeSet<Token>,
    leaves: usize,
    let_go: usize,
    messages_down: Messages,
    messages_up: Messages,
}

impl World {
    fn new(serialization: Serialization, window: usize, loss: usize, seed: u64) -> Self {
        let settings = Settings {
            serialization,
            window,
            ..Settings::default()
        };
        let mut child = Child::with_serialization(serialization);
        child.online();
        Self {
            session: Session::new(settings),
            child,
            down: Pipe::default(),
            up: Pipe::default(),
            dice: Dice(seed),
            any_read: window == 1,
            loss,
            token: 0,
            up_received: VecDeque::new(),
            down_received: VecDeque::new(),
            queries: Vec::new(),
            held: BTreeMap::new(),
            shared: BTreeMap::new(),
            connections: BTreeMap::new(),
            asked: BTreeMap::new(),
            open: BTreeMap::new(),
            offers: Vec::new(),
            accepted: BTreeSet::new(),
            claimed: BTreeSet::new(),
            leaves: 0,
            let_go: 0,
            messages_down: Messages::default(),
            messages_up: Messages::default(),
        }
    }

    fn next_token(&mut self) -> Token {
        self.token += 1;
        Token(self.token)
    }

    fn act(&mut self, act: &Act) {
        match *act {
            Act::Ask(port, backlog) => self.ask(port, backlog),
            Act::Close(which) => self.close(which),
            Act::Listening(which) => {
                if let Some((&server, &port)) = nth(&self.open, which) {
                    self.child.listening(server, Some(port));
                }
            }
            Act::Answer(which, accepted) => self.answer(which, accepted),
            Act::Reply(which, choice) => self.reply(which, choice),
            Act::HandOver(which) => {
                if let Some((key, &(port, _))) = nth(&self.held, which) {
                    let key = key.clone();
                    self.hand_over(&key, port);
                }
            }
            Act::HandOverAstray => self.hand_over("nobody's", None),
            Act::Message { down, handle, length } => self.message(down, handle, length),
            Act::Disconnect => {
                self.session.disconnect();
            }
            Act::Leave => {
                if self.child.leave() {
                    self.leaves = 1;
                }
                self.asked.clear();
                self.open.clear();
            }
            Act::Pass(steps) => (0..steps).for_each(|_| {
                self.step();
            }),
        }
    }

    fn ask(&mut self, port: u16, backlog: bool) {
        let server = self.child.ask(Ask {
            address: None,
            port: Some(port),
            address_type: AddressType::Tcp4,
            flags: 0,
            backlog: backlog.then_some(9),
        });
        assert_eq!(server.is_none(), self.child.is_leaving());
        self.asked.extend(server.map(|server| (server, port)));
    }

    fn close(&mut self, which: usize) {
        let servers = if which.is_multiple_of(2) {
            &self.open
        } else {
            &self.asked
        };
        if let Some((&server, _)) = nth(servers, which / 2) {
            self.child.close(server);
            self.open.remove(&server);
            self.asked.remove(&server);
        }
    }

    fn answer(&mut self, which: usize, accepted: bool) {
        if !self.offers.is_empty() {
            let (offer, token) = self.offers.swap_remove(which % self.offers.len());
            self.child.answer(offer, accepted);
            if accepted {
                self.accepted.insert(token);
            }
        }
    }

    fn reply(&mut self, which: usize, choice: Choice) {
        if self.queries.is_empty() {
            return;
        }
        let (seq, identity) = self.queries.swap_remove(which % self.queries.len());
        let descriptor = self.next_token();
        let key = format!("{identity:?} {seq}");
        let reply = match choice {
            Choice::Failed => {
                let reply = Reply::Failed { errno: -98, key };
                return self.session.reply(seq, reply);
            }
            Choice::HandOver => Reply::HandOver {
                key: key.clone(),
                data: None,
                sockname: None,
            },
            Choice::Shared => Reply::Shared {
                key: key.clone(),
                data: None,
                kind: SharedKind::Tcp,
                descriptor,
            },
        };
        if matches!(choice, Choice::Shared) {
            self.shared.insert(descriptor, (seq, reply.clone()));
        }
        self.held.insert(key, identity);
        self.session.reply(seq, reply);
    }

    fn hand_over(&mut self, key: &str, port: Option<u16>) {
        let connection = self.next_token();
        self.session.hand_over(connection, key);
        let fate = Fate::Sent;
        self.connections.insert(connection, Connection { port, fate });
    }

    fn message(&mut self, down: bool, handle: bool, length: usize) {
        let token = handle.then(|| self.next_token());
        let messages = if down {
            &mut self.messages_down
        } else {
            &mut self.messages_up
        };
        let message = messages.next(length);
        if let Some(token) = token {
            messages.handles.insert(token, messages.said);
        }
        match (down, token) {
            (true, None) => self.session.send(&message),
            (false, None) => self.child.send(&message),
            (true, Some(token)) => self.session.send_handle(&message, HandleKind::Server, token),
            (false, Some(token)) => self.child.send_handle(&message, HandleKind::Server, token),
        }
    }

    /// One read or write, by chance.
    fn step(&mut self) -> bool {
        match self.dice.below(4) {
            0 => self.primary_writes(),
            1 => self.primary_reads(),
            2 => self.worker_writes(),
            _ => self.worker_reads(),
        }
    }

    fn primary_writes(&mut self) -> bool {
        let Some(offer) = self.session.transmit() else {
            return false;
        };
        let part = self.dice.part(offer.bytes.len());
        let written = self.down.write(&offer.bytes[..part], offer.descriptor);
        self.session.wrote(written);
        written > 0
    }

    fn worker_writes(&mut self) -> bool {
        let Some(offer) = self.child.transmit() else {
            return false;
        };
        let part = self.dice.part(offer.bytes.len());
        let written = self.up.write(&offer.bytes[..part], offer.descriptor);
        self.child.wrote(written);
        written > 0
    }

    fn arrives(&mut self) -> bool {
        self.loss == 0 || self.dice.below(self.loss) > 0
    }

    fn primary_reads(&mut self) -> bool {
        let limit = self.dice.part(READ);
        let (bytes, descriptor) = self.up.read(limit);
        let descriptor = descriptor.filter(|_| self.arrives());
        self.up_received.extend(descriptor);
        let mut events = Vec::new();
        let arrived = usize::from(descriptor.is_some());
        self.session.receive(&bytes, arrived, &mut events).unwrap();
        events.into_iter().for_each(|event| self.primary_hears(event));
        !bytes.is_empty()
    }

    fn worker_reads(&mut self) -> bool {
        let limit = if self.any_read { self.dice.part(READ) } else { READ };
        let (bytes, descriptor) = self.down.read(limit);
        let descriptor = descriptor.filter(|_| self.arrives());
        self.down_received.extend(descriptor);
        let mut said = Vec::new();
        let arrived = usize::from(descriptor.is_some());
        self.child.receive(&bytes, arrived, &mut said).unwrap();
        said.into_iter().for_each(|said| self.worker_hears(said));
        !bytes.is_empty()
    }

    fn primary_hears(&mut self, event: Event) {
        match event {
            Event::Online | Event::Counts | Event::Listening(_) | Event::Leaving => {}
            Event::Query(query) => self.asks(&query),
            Event::Close { key } => {
                assert!(self.held.remove(&key).is_some(), "{key} was not held");
            }
            Event::Delivered(token) => self.fate(token, Fate::Sent, Fate::Delivered),
            Event::Undelivered(token) => self.not_delivered_down(token),
            Event::Answer { connection, accepted } => {
                let fate = if accepted { Fate::Accepted } else { Fate::Refused };
                self.fate(connection, Fate::Delivered, fate);
            }
            Event::Message(message) => self.messages_up.hear(&message, None),
            Event::Handle { message, .. } => {
                let token = self.up_received.pop_front();
                self.messages_up.hear(&message, token);
            }
            other => panic!("{other:?}"),
        }
    }

    fn asks(&mut self, query: &Query) {
        let identity = (query.port, query.index);
        let mut known = self
            .queries
            .iter()
            .map(|(_, known)| known)
            .chain(self.held.values());
        assert!(
            !known.any(|known| *known == identity),
            "{identity:?} is held twice"
        );
        self.queries.push((query.seq, identity));
    }

    fn fate(&mut self, token: Token, from: Fate, to: Fate) {
        if let Some(connection) = self.connections.get_mut(&token) {
            assert_eq!(connection.fate, from, "of {token:?}, now {to:?}");
            connection.fate = to;
        }
    }

    fn not_delivered_down(&mut self, token: Token) {
        self.fate(token, Fate::Sent, Fate::Undelivered);
        // The engine sends a shared socket again.
        if let Some((seq, reply)) = self.shared.get(&token)
            && self.dice.below(2) == 0
        {
            self.session.reply(*seq, reply.clone());
        }
        self.messages_down.undelivered(token);
    }

    fn worker_hears(&mut self, said: Said) {
        match said {
            Said::Answer { server, answer } => self.worker_is_answered(server, &answer),
            Said::Connection { server, offer } => {
                let token = self.claim();
                assert_eq!(
                    self.connections[&token].port,
                    self.open.get(&server).copied(),
                    "{token:?} for {server:?}"
                );
                self.offers.push((offer, token));
            }
            Said::Disconnect => {
                self.asked.clear();
                self.open.clear();
            }
            Said::LetGo => self.let_go += 1,
            Said::Message(message) => self.messages_down.hear(&message, None),
            Said::Handle { message, .. } => {
                let token = self.claim();
                self.messages_down.hear(&message, Some(token));
            }
            Said::Delivered(token) => assert!(self.messages_up.handles.contains_key(&token)),
            Said::Undelivered(token) => assert!(self.messages_up.undelivered(token)),
            Said::Discard => {
                self.claim();
            }
            other => panic!("{other:?}"),
        }
    }

    fn worker_is_answered(&mut self, server: ServerId, answer: &Answer) {
        let port = self
            .asked
            .remove(&server)
            .expect("answered once, and only who asks");
        match answer {
            Answer::HandOver { .. } => {
                self.open.insert(server, port);
            }
            Answer::Shared => {
                let token = self.claim();
                assert!(self.shared.contains_key(&token), "{token:?} is no shared socket");
                self.open.insert(server, port);
            }
            Answer::Failed { errno } => assert_eq!(*errno, 98),
            Answer::Missing => assert!(self.loss > 0),
            other => panic!("{other:?}"),
        }
    }

    /// The worker takes the oldest descriptor: a connection it gets only once.
    fn claim(&mut self) -> Token {
        let token = self.down_received.pop_front().unwrap();
        assert!(self.claimed.insert(token), "{token:?} came twice");
        token
    }

    fn settle(&mut self) {
        loop {
            let mut idle = 0;
            while idle < 200 {
                idle = if self.step() { 0 } else { idle + 1 };
            }
            if self.queries.is_empty() && self.offers.is_empty() {
                return;
            }
            self.reply(0, Choice::HandOver);
            self.answer(0, true);
        }
    }

    fn check(&self) {
        assert_eq!((self.session.transmit(), self.child.transmit()), (None, None));
        assert_eq!((self.session.backlog(), self.child.backlog()), (0, 0));
        assert_eq!(self.session.undelivered(), 0);
        assert!(self.down.is_empty() && self.up.is_empty());
        assert!(self.down_received.is_empty() && self.up_received.is_empty());
        assert!(self.asked.is_empty(), "never answered: {:?}", self.asked);
        assert_eq!(self.let_go, self.leaves);
        let mut held: Vec<Option<u16>> = self.held.values().map(|(port, _)| *port).collect();
        let mut open: Vec<Option<u16>> = self.open.values().map(|port| Some(*port)).collect();
        held.sort_unstable();
        open.sort_unstable();
        assert_eq!(held, open, "what the primary thinks that we hold");
        for (token, connection) in &self.connections {
            let here = (self.claimed.contains(token), self.accepted.contains(token));
            let expected = match connection.fate {
                Fate::Accepted => (true, true),
                Fate::Refused => (true, false),
                Fate::Undelivered => (false, false),
                Fate::Sent | Fate::Delivered => panic!("{token:?} is {:?}", connection.fate),
            };
            assert_eq!(here, expected, "{token:?} {connection:?}");
        }
        self.messages_down.check();
        self.messages_up.check();
    }
}

fn nth<K, V>(map: &BTreeMap<K, V>, which: usize) -> Option<(&K, &V)> {
    map.iter().nth(which.checked_rem(map.len())?)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn both_ends_agree_in_the_end(
        acts in acts(),
        serialization in prop::sample::select(&[Serialization::Json, Serialization::Advanced][..]),
        window in prop_oneof![Just(1_usize), Just(8)],
        loss in prop_oneof![Just(0_usize), Just(4)],
        seed in any::<u64>(),
    ) {
        let mut world = World::new(serialization, window, loss, seed);
        for act in &acts {
            world.act(act);
        }
        world.settle();
        world.check();
    }
}
