//! The sockets of one endpoint, one for each slot, where the kernel spreads connections.
//!
//! Job: know which slot has which, and who waits for one. Owner: the endpoint. A socket is bound when the first worker
//! of its slot asks, and stays until the endpoint goes: the successor takes over the queue.
//!
//! ```text
//! asked ──▶ binding ──ok──▶ open
//!              └─error──▶ none
//! ```

use super::Asker;
use crate::id::{Slot, Token};
use std::collections::BTreeMap;

#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
pub(super) struct SlotSockets {
    all: BTreeMap<Slot, Socket>,
}

#[derive(Debug, serde::Serialize, serde::Deserialize)]
enum Socket {
    Binding { waiting: Vec<Asker> },
    Open(Token),
}

/// What follows from a worker's question.
#[derive(Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) enum Asked {
    /// Here it is.
    Open(Token),
    /// It is to be bound; it waits.
    Bind,
    /// It is being bound; it waits.
    Waits,
}

impl SlotSockets {
    pub(super) fn asked(&mut self, asker: Asker) -> Asked {
        match self.all.get_mut(&asker.slot) {
            Some(Socket::Open(token)) => Asked::Open(*token),
            Some(Socket::Binding { waiting }) => {
                waiting.push(asker);
                Asked::Waits
            }
            None => {
                let waiting = vec![asker];
                self.all.insert(asker.slot, Socket::Binding { waiting });
                Asked::Bind
            }
        }
    }

    /// It is bound, or could not be: who waits for it.
    pub(super) fn bound(&mut self, slot: Slot, socket: Option<Token>) -> Vec<Asker> {
        let before = match socket {
            Some(token) => self.all.insert(slot, Socket::Open(token)),
            None => self.all.remove(&slot),
        };
        match before {
            Some(Socket::Binding { waiting }) => waiting,
            Some(Socket::Open(_)) | None => Vec::new(),
        }
    }
}
