//! Which sockets get new connections, where each slot has a listening socket of its own (`SO_REUSEPORT`).
//!
//! Job: know which slots are served at each endpoint, tell when that changes, and write the program by which the kernel
//! chooses among the sockets. Owner: [`crate::app::App`].
//!
//! A slot is *active* while a worker of it is in the rotation. New connections go to active slots only; what waits in
//! the queue of another one is accepted by the primary and handed to a worker of an active slot. So nothing is lost
//! when a worker dies, and nobody waits for the successor to boot.
//!
//! Invariants: the last active set stays in force while no slot is active (clients wait); a socket's index in the
//! kernel's group never changes, because none is closed before its endpoint is.
//!
//! Must not know: descriptors, and how a program gets to the kernel.

use crate::id::{EndpointId, Slot};
use std::collections::{BTreeMap, BTreeSet};

/// The active slots of each endpoint, as last told.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Steering {
    told: BTreeMap<EndpointId, BTreeSet<Slot>>,
}

impl Steering {
    /// From now on an endpoint has a socket for each slot.
    pub fn open(&mut self, endpoint: EndpointId) {
        self.told.entry(endpoint).or_default();
    }

    /// The endpoint is gone.
    pub fn close(&mut self, endpoint: EndpointId) {
        self.told.remove(&endpoint);
    }

    /// The endpoints whose active slots have changed, given who is active now.
    pub fn look(
        &mut self,
        active: impl Fn(EndpointId) -> BTreeSet<Slot>,
    ) -> impl Iterator<Item = (EndpointId, BTreeSet<Slot>)> {
        self.told.iter_mut().filter_map(move |(&endpoint, told)| {
            let now = active(endpoint);
            if now.is_empty() || now == *told {
                return None;
            }
            told.clone_from(&now);
            Some((endpoint, now))
        })
    }
}

/// An instruction of a classic BPF program (`linux/filter.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// What is to be done.
    pub code: u16,
    /// So many instructions further if a comparison holds.
    pub if_true: u8,
    /// So many if not.
    pub if_false: u8,
    /// The operand.
    pub operand: u32,
}

impl Instruction {
    const fn new(code: u16, if_true: u8, if_false: u8, operand: u32) -> Self {
        Self {
            code,
            if_true,
            if_false,
            operand,
        }
    }
}

/// `BPF_LD | BPF_W | BPF_ABS`.
const LOAD: u16 = 0x20;
/// `SKF_AD_OFF + SKF_AD_RANDOM`: loading from there gives a random number.
const RANDOM: u32 = 0xffff_f038;
/// `BPF_ALU | BPF_MOD | BPF_K`.
const MODULO: u16 = 0x94;
/// `BPF_JMP | BPF_JEQ | BPF_K`.
const EQUAL: u16 = 0x15;
/// `BPF_RET | BPF_K`.
const RETURN: u16 = 0x06;
/// `BPF_RET | BPF_A`.
const RETURN_IT: u16 = 0x16;
/// `BPF_MAXINSNS`.
const LONGEST: usize = 4096;

/// The program that chooses one of these sockets for each new connection, all alike often. `None` if there are none, or
/// more than fit: then the kernel chooses among all.
#[must_use]
pub fn selector(indices: &[u32]) -> Option<Vec<Instruction>> {
    let count = u32::try_from(indices.len()).ok()?;
    let (&last, others) = indices.split_last()?;
    let choose = [
        Instruction::new(LOAD, 0, 0, RANDOM),
        Instruction::new(MODULO, 0, 0, count),
    ];
    let mut program = choose.to_vec();
    if indices.iter().copied().eq(0..count) {
        program.push(Instruction::new(RETURN_IT, 0, 0, 0));
        return Some(program);
    }
    for (number, &index) in (0..).zip(others) {
        program.push(Instruction::new(EQUAL, 0, 1, number));
        program.push(Instruction::new(RETURN, 0, 0, index));
    }
    program.push(Instruction::new(RETURN, 0, 0, last));
    (program.len() <= LONGEST).then_some(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the kernel runs it.
    fn run(program: &[Instruction], random: u32) -> u32 {
        let (mut at, mut it) = (0, 0);
        loop {
            let step = program[at];
            at += 1;
            match step.code {
                LOAD => it = random,
                MODULO => it %= step.operand,
                EQUAL if it == step.operand => at += usize::from(step.if_true),
                EQUAL => at += usize::from(step.if_false),
                RETURN => return step.operand,
                RETURN_IT => return it,
                code => panic!("{code:#x}"),
            }
        }
    }

    #[test]
    fn every_active_socket_is_chosen_alike_and_no_other() {
        for indices in [vec![0], vec![3], vec![0, 1, 2, 3], vec![0, 2], vec![1, 4, 5]] {
            let program = selector(&indices).unwrap();
            let mut chosen: BTreeMap<u32, usize> = BTreeMap::new();
            for random in 0..600 {
                *chosen.entry(run(&program, random)).or_default() += 1;
            }
            let even = indices
                .iter()
                .map(|&index| (index, 600 / indices.len()))
                .collect();
            assert_eq!(chosen, even);
        }
        assert_eq!(selector(&[]), None);
        let most: Vec<u32> = (1..=2047).collect();
        assert_eq!(
            selector(&most).map(|program| program.len()),
            Some(2 + 2 * 2046 + 1)
        );
        let more: Vec<u32> = (1..=2048).collect();
        assert_eq!(selector(&more), None);
    }

    #[test]
    fn changes_are_told_once_and_nobody_is_no_change() {
        let mut steering = Steering::default();
        let endpoint = EndpointId(1);
        let slots = |slots: &[u32]| slots.iter().copied().map(Slot).collect::<BTreeSet<_>>();
        let look = |steering: &mut Steering, active: &[u32]| {
            let told: Vec<_> = steering.look(|_| slots(active)).collect();
            told.first().map(|(_, active)| active.clone())
        };
        assert_eq!(look(&mut steering, &[1]), None, "no such endpoint");
        steering.open(endpoint);
        assert_eq!(look(&mut steering, &[]), None);
        assert_eq!(look(&mut steering, &[0]), Some(slots(&[0])));
        assert_eq!(look(&mut steering, &[0]), None);
        assert_eq!(look(&mut steering, &[0, 1]), Some(slots(&[0, 1])));
        assert_eq!(look(&mut steering, &[]), None, "clients wait where they are");
        assert_eq!(look(&mut steering, &[1]), Some(slots(&[1])));
        steering.close(endpoint);
        assert_eq!(look(&mut steering, &[0]), None);
    }
}
