//! A session and a model of Node, over a model of the socket: nothing is lost, doubled or mismatched, whatever
//! the sizes and whenever reads and writes happen.

use crate::node_model::{Got, Node, Pipe};
use crate::support::*;
use everup_core::id::Token;
use everup_core::wire::{Event, HandleKind, Session};
use proptest::prelude::*;
use std::collections::{BTreeMap, VecDeque};

#[derive(Debug, Clone)]
enum Act {
    /// The primary sends a message of this length.
    Send(usize),
    /// The primary hands a connection over.
    HandOver,
    /// The primary hands over as many as there is room for.
    Fill,
    /// The worker sends a message of this length.
    Say(usize),
    /// The worker sends a handle.
    SayHandle(usize),
    /// Time passes: that many random reads and writes.
    Pass(u8),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let length = prop_oneof![4 => 3..200_usize, 1 => 30_000..34_000_usize, 2 => 65_000..66_000_usize, 1 => 3..70_000_usize];
    let act = prop_oneof![
        3 => length.clone().prop_map(Act::Send),
        6 => Just(Act::HandOver),
        1 => Just(Act::Fill),
        1 => length.clone().prop_map(Act::Say),
        1 => length.prop_map(Act::SayHandle),
        4 => any::<u8>().prop_map(Act::Pass),
    ];
    prop::collection::vec(act, 1..60)
}

/// Random enough, and the same for the same seed.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % limit
    }

    /// Often everything, sometimes very little.
    pub(crate) fn part(&mut self, whole: usize) -> usize {
        match self.below(4) {
            0 => 1 + self.below(whole),
            1 => whole.min(1 + self.below(300)),
            _ => whole,
        }
    }
}

struct World {
    session: Session,
    node: Node,
    down: Pipe,
    up: Pipe,
    dice: Dice,
    next: u64,
    /// What the worker should get.
    expected: Vec<Got>,
    /// Connections handed over, and how far they are.
    connections: BTreeMap<Token, &'static str>,
    /// The primary's received descriptors not yet claimed.
    received: VecDeque<Token>,
    handles_said: Vec<Token>,
    handles_heard: Vec<Token>,
    messages_said: usize,
    messages_heard: usize,
}

impl World {
    fn new(window: usize, seed: u64) -> Self {
        Self {
            session: session_with(self::window(window)),
            node: Node::default(),
            down: Pipe::default(),
            up: Pipe::default(),
            dice: Dice(seed),
            next: 0,
            expected: Vec::new(),
            connections: BTreeMap::new(),
            received: VecDeque::new(),
            handles_said: Vec::new(),
            handles_heard: Vec::new(),
            messages_said: 0,
            messages_heard: 0,
        }
    }

    fn token(&mut self) -> Token {
        self.next += 1;
        Token(self.next)
    }

    fn act(&mut self, act: &Act) {
        match *act {
            Act::Send(length) => {
                self.session.send(&plain(length));
                self.expected.push(Got::Plain(length));
            }
            Act::HandOver => self.hand_over(),
            Act::Fill => (0..self.session.room()).for_each(|_| self.hand_over()),
            Act::Say(length) => {
                self.node.say(plain(length).get().to_owned(), None);
                self.messages_said += 1;
            }
            Act::SayHandle(length) => {
                let token = self.token();
                let envelope = format!(
                    r#"{{"cmd":"NODE_HANDLE","type":"net.Server","msg":{}}}"#,
                    plain(length)
                );
                self.node.say(envelope, Some(token));
                self.handles_said.push(token);
            }
            Act::Pass(steps) => (0..steps).for_each(|_| {
                self.step();
            }),
        }
    }

    fn hand_over(&mut self) {
        let token = self.token();
        self.session.hand_over(token, &token.0.to_string());
        self.connections.insert(token, "sent");
        self.expected.push(Got::Connection(token.0.to_string(), token));
    }

    /// One read or write, by chance.
    fn step(&mut self) -> bool {
        match self.dice.below(4) {
            0 => self.primary_writes(),
            1 => self.primary_reads(),
            2 => self.node.read(&mut self.down),
            _ => {
                let limit = self.dice.part(70_000);
                self.node.write(&mut self.up, limit)
            }
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

    fn primary_reads(&mut self) -> bool {
        let limit = self.dice.part(40_000);
        let (bytes, descriptor) = self.up.read(limit);
        self.received.extend(descriptor);
        let events = try_hear(&mut self.session, &bytes, usize::from(descriptor.is_some())).unwrap();
        for event in events {
            self.heard(event);
        }
        assert!(
            self.session.room() > 0 || self.session.undelivered() > 0,
            "nobody would ever ask again"
        );
        !bytes.is_empty()
    }

    fn heard(&mut self, event: Event) {
        match event {
            Event::Delivered(token) => {
                let before = self.connections.insert(token, "delivered");
                assert_eq!(before, Some("sent"));
            }
            Event::Answer {
                connection,
                accepted: true,
            } => {
                assert_eq!(self.connections.insert(connection, "accepted"), Some("delivered"));
            }
            Event::Handle {
                kind: HandleKind::Server,
                ..
            } => {
                self.handles_heard.push(self.received.pop_front().unwrap());
            }
            Event::Message(_) => self.messages_heard += 1,
            other => panic!("{other:?}"),
        }
    }

    fn settle(&mut self) {
        let mut idle = 0;
        while idle < 200 {
            idle = if self.step() { 0 } else { idle + 1 };
        }
    }

    fn check(&self) {
        assert_eq!(
            (
                self.session.transmit(),
                self.session.backlog(),
                self.session.undelivered()
            ),
            (None, 0, 0)
        );
        assert!(self.down.is_empty() && self.up.is_empty() && self.node.has_nothing_to_say());
        assert!(!self.node.in_flight);
        assert_eq!(self.node.nacks, 0);
        assert!(
            self.node.got == self.expected,
            "got {:?}, expected {:?}",
            self.node.got,
            self.expected
        );
        assert!(self.connections.values().all(|state| *state == "accepted"));
        assert_eq!(self.handles_heard, self.handles_said);
        assert_eq!(self.messages_heard, self.messages_said);
        assert!(self.received.is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_doubled_or_mismatched(
        acts in acts(),
        window in prop_oneof![Just(1_usize), Just(8), Just(50)],
        seed in any::<u64>(),
    ) {
        let mut world = World::new(window, seed);
        for act in &acts {
            world.act(act);
        }
        world.settle();
        world.check();
    }
}

/// Node's test-cluster-send-deadlock: both sides send handles and long messages before either reads.
#[test]
fn handles_and_long_messages_both_ways_come_through() {
    for (window, seed) in [(1, 1), (8, 2), (1, 3), (8, 4)] {
        let mut world = World::new(window, seed);
        for _ in 0..20 {
            for act in [
                Act::SayHandle(60_000),
                Act::HandOver,
                Act::Send(65_500),
                Act::HandOver,
                Act::Say(65_500),
            ] {
                world.act(&act);
            }
        }
        world.settle();
        world.check();
    }
}
