//! What becomes of a draining worker's connections: examples, and a model of clients and a worker whose truth is known.

use everup_core::drain::*;
use everup_core::id::Token;
use everup_core::time::Time;
use proptest::prelude::*;
use std::time::Duration;

const ONE: Token = Token(1);
const PORT: u16 = 80;

fn at(ms: u64) -> Time {
    Time(Duration::from_millis(ms))
}

fn ms(time: Time) -> u64 {
    u64::try_from(time.0.as_millis()).expect("times are short")
}

fn drain_of_one(rules: Rules) -> Drain {
    let mut drain = Drain::new(at(0), rules);
    drain.taken(ONE, PORT);
    drain
}

/// Answered long ago, let go, nothing unread.
fn idle() -> Observation {
    Observation {
        held: false,
        link: Link::Open,
        head: Head::Nothing,
        flow: Flow {
            received: 50,
            unread: 0,
            written: 70,
            acknowledged: Some(true),
            bare_acknowledgements: 0,
            received_ago: Duration::from_millis(40),
            sent_ago: Duration::from_millis(20),
        },
    }
}

fn unread(head: Head) -> Observation {
    let mut seen = idle();
    seen.head = head;
    seen.flow.received += 40;
    seen.flow.unread = 40;
    seen.flow.received_ago = Duration::ZERO;
    seen
}

fn held(mut seen: Observation) -> Observation {
    seen.held = true;
    seen
}

#[test]
fn nothing_is_done_while_the_worker_has_it() {
    let mut drain = drain_of_one(Rules::default());
    assert_eq!(drain.observe(at(1), ONE, held(idle())), Decision::Keep);
    let mut busy = unread(Head::Nothing);
    busy.held = true;
    assert_eq!(drain.observe(at(2), ONE, busy), Decision::Keep);
    assert_eq!(drain.counters().open, 1);
}

#[test]
fn an_idle_one_waits_for_its_next_request_and_moves() {
    let mut drain = drain_of_one(Rules::default());
    drain.observe(at(1), ONE, held(idle()));
    assert_eq!(drain.observe(at(5), ONE, idle()), Decision::Keep);
    assert_eq!(drain.observe(at(9), ONE, unread(Head::Prefix)), Decision::Keep);
    assert_eq!(drain.observe(at(10), ONE, unread(Head::Request)), Decision::Move);
    assert!(drain.over());
    assert_eq!((drain.counters().moved, drain.counters().lost), (1, 0));
}

#[test]
fn an_idle_one_that_stays_silent_is_told_the_end_and_nothing_is_lost() {
    let mut drain = drain_of_one(Rules::default());
    drain.observe(at(5), ONE, idle());
    assert_eq!(drain.next_limit(), Some(at(5005)));
    assert!(drain.due(at(5004)).is_empty());
    assert_eq!(drain.due(at(5005)), [ONE]);
    assert_eq!(drain.observe(at(5005), ONE, idle()), Decision::Finish);
    let mut over = idle();
    over.link = Link::Over;
    assert_eq!(drain.observe(at(5006), ONE, over), Decision::End(End::Closed));
}

#[test]
fn a_request_that_crosses_our_end_is_counted() {
    let mut drain = drain_of_one(Rules {
        movable: false,
        ..Rules::default()
    });
    assert_eq!(drain.observe(at(5), ONE, idle()), Decision::Finish);
    let mut crossing = unread(Head::Request);
    crossing.link = Link::Finished;
    assert_eq!(drain.observe(at(6), ONE, crossing), Decision::End(End::Unread));
    assert_eq!(drain.counters().lost, 1);
}

#[test]
fn what_the_worker_ended_itself_ends_with_the_client() {
    let mut drain = drain_of_one(Rules::default());
    let mut finished = idle();
    finished.link = Link::Finished;
    assert_eq!(drain.observe(at(5), ONE, finished), Decision::Keep);
    assert_eq!(drain.due(at(1005)), [ONE]);
    assert_eq!(drain.observe(at(1005), ONE, finished), Decision::End(End::Closed));
}

#[test]
fn a_request_that_was_read_and_not_answered_is_lost() {
    let mut drain = drain_of_one(Rules::default());
    let mut asked = idle();
    asked.flow.received_ago = Duration::ZERO;
    drain.observe(at(1), ONE, held(asked));
    drain.gone(Gone::Cut);
    assert_eq!(drain.observe(at(5), ONE, asked), Decision::End(End::Unanswered));
    // Also if another one is unread behind it: its answer would be taken for that of the first.
    let mut drain = drain_of_one(Rules::default());
    drain.observe(at(1), ONE, held(asked));
    drain.gone(Gone::Cut);
    let mut two = unread(Head::Request);
    two.flow.written = asked.flow.written;
    assert_eq!(drain.observe(at(5), ONE, two), Decision::End(End::Unanswered));
}

#[test]
fn how_many_are_busy_is_known_after_each_look() {
    let mut drain = drain_of_one(Rules::default());
    let mut asked = idle();
    asked.flow.received_ago = Duration::ZERO;
    drain.observe(at(1), ONE, held(asked));
    drain.looked(at(1), Duration::ZERO);
    assert_eq!(drain.counters().busy, 1);
    asked.flow.written += 10;
    drain.observe(at(6), ONE, held(asked));
    drain.looked(at(6), Duration::ZERO);
    assert_eq!((drain.counters().open, drain.counters().busy), (1, 0));
}

#[test]
fn a_client_that_does_not_wait_is_moved_only_for_certain() {
    for (certain, expected) in [(true, Decision::Move), (false, Decision::End(End::Unread))] {
        let mut drain = drain_of_one(Rules::default());
        if certain {
            drain.observe(at(1), ONE, held(idle()));
        }
        assert_eq!(drain.observe(at(5), ONE, unread(Head::Pipelined)), expected);
    }
}

#[test]
fn silence_after_a_death_is_unsure() {
    let mut drain = drain_of_one(Rules::default());
    drain.gone(Gone::Cut);
    assert_eq!(drain.observe(at(5), ONE, idle()), Decision::Keep);
    assert_eq!(drain.next_limit(), Some(at(1005)), "its client may wait for more");
    assert_eq!(drain.observe(at(1005), ONE, idle()), Decision::Finish);
    assert_eq!(drain.observe(at(2005), ONE, idle()), Decision::End(End::Unsure));
}

#[test]
fn a_worker_that_left_by_itself_had_finished() {
    let mut drain = drain_of_one(Rules::default());
    drain.gone(Gone::Left);
    assert_eq!(drain.observe(at(5), ONE, idle()), Decision::Keep);
    assert_eq!(drain.next_limit(), Some(at(5005)));
}

#[test]
fn where_tls_is_spoken_nothing_waits_for_more() {
    let mut drain = Drain::new(at(0), Rules::default());
    for token in 1..=3 {
        drain.taken(Token(token), PORT);
    }
    assert_eq!(drain.observe(at(5), Token(1), idle()), Decision::Keep);
    let tls = unread(Head::Tls);
    assert_eq!(drain.observe(at(6), Token(2), tls), Decision::End(End::Unread));
    assert_eq!(drain.due(at(6)), [Token(1)]);
    assert_eq!(drain.observe(at(6), Token(1), idle()), Decision::Finish);
    assert_eq!(drain.observe(at(6), Token(3), idle()), Decision::Finish);
    let mut goodbye = unread(Head::Farewell);
    goodbye.link = Link::Finished;
    assert_eq!(drain.observe(at(7), Token(3), goodbye), Decision::Keep);
    goodbye.link = Link::Over;
    assert_eq!(
        drain.observe(at(7), Token(3), goodbye),
        Decision::End(End::Closed)
    );
}

#[test]
fn what_somebody_else_serves_is_left_alone() {
    let mut drain = drain_of_one(Rules::default());
    assert_eq!(drain.observe(at(5), ONE, idle()), Decision::Keep);
    let mut served = idle();
    served.flow.written += 1;
    assert_eq!(drain.observe(at(6), ONE, served), Decision::End(End::Closed));
}

#[test]
fn looks_become_rare_when_nothing_changes_and_when_they_are_expensive() {
    let mut drain = drain_of_one(Rules::default());
    assert_eq!(drain.next_look(), Some(at(0)));
    drain.looked(at(5), Duration::ZERO);
    assert_eq!(drain.next_look(), Some(at(10)));
    for _ in 0..10 {
        drain.looked(at(2000), Duration::ZERO);
    }
    assert_eq!(drain.next_look(), Some(at(2050)));
    drain.stir(at(2001));
    drain.looked(at(2001), Duration::from_millis(10));
    assert_eq!(drain.next_look(), Some(at(2201)));
    drain.observe(at(2010), ONE, idle());
    assert_eq!(drain.next_look(), None, "the worker has nothing more");
}

/// One client and its worker, with the truth.
#[derive(Debug, Clone, Default)]
struct Truth {
    /// Requests sent, arrived whole; read by the worker; answered.
    sent: u64,
    read: u64,
    answered: u64,
    received_at: u64,
    answered_at: u64,
    acknowledged: u64,
    bare: u64,
    held: bool,
    client_closed: bool,
    finished: bool,
}

const REQUEST: u64 = 40;
const ANSWER: u64 = 60;
/// The kernel's clock for what came and went, in ms.
const TICK: u64 = 4;

impl Truth {
    fn observe(&self, now: u64) -> Observation {
        let ago = |then: u64| Duration::from_millis((now / TICK - then / TICK) * TICK);
        let unread = self.sent - self.read;
        let head = match (self.held, unread) {
            (true, _) | (false, 0) => Head::Nothing,
            (false, 1) => Head::Request,
            (false, _) => Head::Pipelined,
        };
        let link = match (self.finished, self.client_closed) {
            (true, true) => Link::Over,
            (true, false) => Link::Finished,
            (false, true) => Link::HalfClosed,
            (false, false) => Link::Open,
        };
        let flow = Flow {
            received: self.sent * REQUEST,
            unread: unread * REQUEST,
            written: self.answered * ANSWER,
            acknowledged: (!self.finished).then_some(self.acknowledged == self.answered),
            bare_acknowledgements: self.bare,
            received_ago: ago(self.received_at),
            sent_ago: ago(self.answered_at),
        };
        Observation {
            held: self.held,
            link,
            head,
            flow,
        }
    }

    /// Does what the step says, where it is possible.
    fn step(&mut self, now: u64, step: Step) {
        match step {
            Step::Request if !self.client_closed && self.sent == self.answered => {
                self.sent += 1;
                self.acknowledged = self.answered;
                self.received_at = now;
            }
            // It reads no more once it has sent its end (Node destroys the socket then).
            Step::Read if self.held && !self.finished => self.read = self.sent,
            Step::Answer if self.held && !self.finished => {
                self.read = self.sent;
                if self.answered < self.sent {
                    self.answered = self.sent;
                    self.answered_at = now;
                }
            }
            Step::Acknowledge if self.acknowledged < self.answered => {
                self.acknowledged = self.answered;
                self.bare += 1;
            }
            // Node's `closeIdleConnections`.
            Step::CloseIdle if self.read == self.answered => self.held = false,
            Step::EndIdle if self.held && self.read == self.answered => self.finished = true,
            // It has its answer, or does not want it any more.
            Step::ClientCloses if self.sent == self.answered => self.client_closed = true,
            _ => {}
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Request,
    Read,
    Answer,
    Acknowledge,
    CloseIdle,
    EndIdle,
    ClientCloses,
    Dies,
    Look,
}

fn steps() -> impl Strategy<Value = Vec<(u64, Step)>> {
    let step = prop_oneof![
        6 => Just(Step::Request),
        4 => Just(Step::Read),
        6 => Just(Step::Answer),
        2 => Just(Step::Acknowledge),
        2 => Just(Step::CloseIdle),
        1 => Just(Step::EndIdle),
        1 => Just(Step::ClientCloses),
        1 => Just(Step::Dies),
        8 => Just(Step::Look),
    ];
    let pause = prop_oneof![3 => Just(0u64), 3 => 1..3u64, 2 => 3..20u64];
    prop::collection::vec((pause, step), 1..80)
}

/// What the holder did with it.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Moved,
    Ended(End),
}

/// Lets a life happen and drains it to the end.
fn live(steps: &[(u64, Step)], movable: bool) -> (Truth, Fate, Counters) {
    let mut truth = Truth {
        held: true,
        ..Truth::default()
    };
    let rules = Rules {
        movable,
        ..Rules::default()
    };
    let (mut now, mut drain, mut dead) = (1000, drain_of_one(rules), false);
    for (pause, step) in steps {
        now += pause;
        truth.step(now, *step);
        if let Step::Dies = step {
            (truth.held, dead) = (false, true);
            drain.gone(Gone::Cut);
        }
        if let Some(fate) = look(&mut drain, &mut truth, now, matches!(step, Step::Look)) {
            return (truth, fate, drain.counters());
        }
    }
    if !dead {
        drain.gone(Gone::Cut);
        truth.held = false;
    }
    for _ in 0..3 {
        if let Some(fate) = look(&mut drain, &mut truth, now, true) {
            return (truth, fate, drain.counters());
        }
        now = drain.next_limit().map_or(now, ms);
    }
    panic!("it has not ended: {truth:?} {drain:?}");
}

fn look(drain: &mut Drain, truth: &mut Truth, now: u64, looks: bool) -> Option<Fate> {
    if !looks {
        return None;
    }
    match drain.observe(at(now), ONE, truth.observe(now)) {
        Decision::Keep => None,
        Decision::Finish => {
            truth.finished = true;
            None
        }
        Decision::End(end) => Some(Fate::Ended(end)),
        Decision::Move => Some(Fate::Moved),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// With clients that wait for their answers: what is moved is a request that nobody has read, with all before it
    /// answered; what is lost was truly under way; and what was under way is lost, or unsure where a worker died.
    #[test]
    fn the_count_is_what_the_client_sees(steps in steps(), movable in any::<bool>()) {
        let (truth, fate, counters) = live(&steps, movable);
        let under_way = truth.sent > truth.answered;
        match fate {
            Fate::Moved => {
                prop_assert!(movable && under_way && truth.read == truth.answered, "{truth:?}");
            }
            Fate::Ended(End::Unanswered | End::Unread) => prop_assert!(under_way, "{truth:?}"),
            Fate::Ended(End::Closed) => prop_assert!(!under_way, "{truth:?}"),
            Fate::Ended(End::Unsure) => prop_assert!(!truth.held),
        }
        let ends = counters.moved + counters.closed + counters.lost + counters.unsure;
        prop_assert_eq!((counters.taken, ends, counters.open, counters.waiting), (1, 1, 0, 0));
    }

    /// Whatever the looks show: one end each, never a move of what may not be moved, and the counters add up.
    #[test]
    fn any_looks_at_all(looks in prop::collection::vec((0..3u64, 0..2000u64, observation()), 1..60), movable in any::<bool>()) {
        let mut drain = Drain::new(at(0), Rules { movable, ..Rules::default() });
        let mut open = [true; 3];
        for token in 0..3 {
            drain.taken(Token(token), PORT);
        }
        let mut now = 0;
        for (which, pause, seen) in looks {
            now += pause;
            let alive = &mut open[usize::try_from(which).expect("three")];
            if *alive {
                let decision = drain.observe(at(now), Token(which), seen);
                *alive = matches!(decision, Decision::Keep | Decision::Finish);
                if decision == Decision::Move {
                    prop_assert!(movable && !seen.held);
                    prop_assert!(matches!(seen.head, Head::Request | Head::Pipelined));
                    prop_assert!(matches!(seen.link, Link::Open | Link::HalfClosed));
                }
            }
            let counters = drain.counters();
            let ends = counters.moved + counters.closed + counters.lost + counters.unsure;
            prop_assert_eq!(counters.taken, counters.open + counters.waiting + ends);
            prop_assert_eq!(drain.over(), open.iter().all(|alive| !alive));
        }
    }
}

fn observation() -> impl Strategy<Value = Observation> {
    use Head::{Farewell, Nothing, Other, Pipelined, Prefix, Request, Tls};
    let head = prop::sample::select(vec![Nothing, Request, Pipelined, Prefix, Farewell, Tls, Other]);
    let link = prop::sample::select(vec![Link::Open, Link::HalfClosed, Link::Finished, Link::Over]);
    let flow =
        (0..9u64, 0..9u64, 0..3u64, 0..3u64, 0..3u64).prop_map(|(received, unread, written, came, went)| {
            Flow {
                received,
                unread,
                written,
                acknowledged: [None, Some(true), Some(false)]
                    [usize::from(unread > 3) + usize::from(unread > 6)],
                bare_acknowledgements: received / 2,
                received_ago: Duration::from_millis(came),
                sent_ago: Duration::from_millis(went),
            }
        });
    (any::<bool>(), link, head, flow).prop_map(|(held, link, head, flow)| Observation {
        held,
        link,
        head,
        flow,
    })
}
