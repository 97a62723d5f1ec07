//! Descriptors in a snapshot: a number there, an [`OwnedFd`] here.
//!
//! Reading a number takes possession of the descriptor, so it is done once.

use crate::sys::inherited;
use everup_core::id::{Token, WorkerId};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serializer};
use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

thread_local! {
    static TAKEN: RefCell<Vec<RawFd>> = const { RefCell::new(Vec::new()) };
}

/// The numbers that were taken in this thread since the last call.
pub(super) fn taken() -> Vec<RawFd> {
    TAKEN.take()
}

fn take(number: RawFd) -> io::Result<OwnedFd> {
    let owned = inherited::possess(number)?;
    TAKEN.with_borrow_mut(|taken| taken.push(number));
    Ok(owned)
}

pub(crate) fn serialize<S: Serializer>(descriptor: &OwnedFd, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_i32(descriptor.as_raw_fd())
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<OwnedFd, D::Error> {
    take(RawFd::deserialize(from)?).map_err(D::Error::custom)
}

/// One, or none.
pub(crate) mod maybe {
    use super::*;

    #[expect(clippy::ref_option, reason = "serde calls it so")]
    pub(crate) fn serialize<S: Serializer>(one: &Option<OwnedFd>, to: S) -> Result<S::Ok, S::Error> {
        match one {
            Some(descriptor) => to.serialize_some(&descriptor.as_raw_fd()),
            None => to.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<OwnedFd>, D::Error> {
        let number = Option::<RawFd>::deserialize(from)?;
        number.map(take).transpose().map_err(D::Error::custom)
    }
}

/// Several, in order.
pub(crate) mod queue {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(all: &VecDeque<OwnedFd>, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(all.iter().map(AsRawFd::as_raw_fd))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<VecDeque<OwnedFd>, D::Error> {
        let numbers = Vec::<RawFd>::deserialize(from)?;
        let taken = numbers.into_iter().map(take);
        taken.collect::<io::Result<_>>().map_err(D::Error::custom)
    }
}

/// Several, by token.
pub(crate) mod by_token {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(all: &HashMap<Token, OwnedFd>, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(
            all.iter()
                .map(|(token, descriptor)| (token, descriptor.as_raw_fd())),
        )
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<HashMap<Token, OwnedFd>, D::Error> {
        let numbers = Vec::<(Token, RawFd)>::deserialize(from)?;
        let taken = numbers
            .into_iter()
            .map(|(token, number)| Ok((token, take(number)?)));
        taken.collect::<io::Result<_>>().map_err(D::Error::custom)
    }
}

/// Several, by token, with the worker that each is for.
pub(crate) mod by_token_for {
    use super::*;

    type Map = HashMap<Token, (WorkerId, OwnedFd)>;

    pub(crate) fn serialize<S: Serializer>(all: &Map, to: S) -> Result<S::Ok, S::Error> {
        let numbers = all
            .iter()
            .map(|(token, (worker, descriptor))| (token, worker, descriptor.as_raw_fd()));
        to.collect_seq(numbers)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Map, D::Error> {
        let numbers = Vec::<(Token, WorkerId, RawFd)>::deserialize(from)?;
        let taken = numbers
            .into_iter()
            .map(|(token, worker, number)| Ok((token, (worker, take(number)?))));
        taken.collect::<io::Result<_>>().map_err(D::Error::custom)
    }
}
