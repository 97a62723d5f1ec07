//! The same client to the same slot: rendezvous hashing.
//!
//! Every pair of a client and a slot has a number; a client goes to the slot with the highest. So a slot that is taken
//! away moves only its own clients, one that is added takes its share of each, and a successor has the clients of its
//! slot, since it is the slot that counts and not the worker.
//!
//! A client is an IPv4 address or the /64 network of an IPv6 one, which is what a household or a machine is given. An
//! IPv4 address within IPv6 (`::ffff:192.0.2.1`) is the IPv4 one.

use crate::id::{Slot, WorkerId};
use std::net::IpAddr;

/// A client, as far as it is told from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Client(u64);

impl From<IpAddr> for Client {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self(u64::from(u32::from(v4)) | V4),
            IpAddr::V6(v6) => Self(u64::try_from(u128::from(v6) >> 64).unwrap_or(0)),
        }
    }
}

/// Tells IPv4 addresses from networks that nobody has.
const V4: u64 = 0xffff << 32;

/// Whether a worker can have a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Now.
    Room,
    /// In a moment.
    Busy,
    /// It is not to be waited for.
    Away,
}

/// A worker among which is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Who.
    pub worker: WorkerId,
    /// Where.
    pub slot: Slot,
    /// Whether it can.
    pub standing: Standing,
}

/// What a client's next connection is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// Go to this worker.
    Go(WorkerId),
    /// Wait for its own.
    Wait,
}

/// Chooses for a client: the first in its order of slots that is not away, and there the youngest worker.
#[must_use]
pub fn choose(client: Client, places: impl Iterator<Item = Place>) -> Choice {
    let there = places.filter(|place| place.standing != Standing::Away);
    match there.max_by_key(|place| (rank(client, place.slot), place.worker)) {
        Some(Place {
            worker,
            standing: Standing::Room,
            ..
        }) => Choice::Go(worker),
        Some(_) | None => Choice::Wait,
    }
}

fn rank(client: Client, slot: Slot) -> u64 {
    mix(client.0 ^ mix(u64::from(slot.0) + 1))
}

/// The end of `splitmix64`: every bit of the input changes half of the output's.
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn client(address: &str) -> Client {
        address.parse::<IpAddr>().unwrap().into()
    }

    fn place(slot: u32, standing: Standing) -> Place {
        Place {
            worker: WorkerId(slot + 1),
            slot: Slot(slot),
            standing,
        }
    }

    fn slot_of(client: Client, slots: &[u32]) -> u32 {
        let places = slots.iter().map(|&slot| place(slot, Standing::Room));
        match choose(client, places) {
            Choice::Go(worker) => worker.0 - 1,
            Choice::Wait => panic!("all have room"),
        }
    }

    #[test]
    fn a_client_is_an_address_or_a_network() {
        assert_eq!(client("192.0.2.1"), client("::ffff:192.0.2.1"));
        assert_ne!(client("192.0.2.1"), client("192.0.2.2"));
        assert_eq!(client("2001:db8:1:2::1"), client("2001:db8:1:2:ffff::9"));
        assert_ne!(client("2001:db8:1:2::1"), client("2001:db8:1:3::1"));
    }

    #[test]
    fn neighbours_spread_evenly() {
        for networks in [[192, 168, 1], [10, 0, 0]] {
            let [a, b, c] = networks;
            let mut counts: BTreeMap<u32, u32> = BTreeMap::new();
            for number in 0..4000u32 {
                let [.., high, low] = number.to_be_bytes();
                let client = Client::from(IpAddr::from([a, b, c + high, low]));
                *counts.entry(slot_of(client, &[0, 1, 2, 3])).or_default() += 1;
            }
            assert!(
                counts.values().all(|count| (900..1100).contains(count)),
                "{counts:?}"
            );
        }
    }

    #[test]
    fn the_next_in_order_is_taken_only_if_the_own_one_is_away() {
        let me = client("192.0.2.7");
        let own = slot_of(me, &[0, 1, 2]);
        let others: Vec<u32> = (0..3).filter(|slot| *slot != own).collect();
        let with = |standing| {
            let all = others.iter().map(|&slot| place(slot, Standing::Room));
            choose(me, all.chain([place(own, standing)]))
        };
        assert_eq!(with(Standing::Room), Choice::Go(WorkerId(own + 1)));
        assert_eq!(with(Standing::Busy), Choice::Wait);
        assert_eq!(
            with(Standing::Away),
            Choice::Go(WorkerId(slot_of(me, &others) + 1))
        );
        assert_eq!(choose(me, std::iter::empty()), Choice::Wait);
    }

    #[test]
    fn in_one_slot_the_youngest_is_taken() {
        let two = [1, 9].map(|id| Place {
            worker: WorkerId(id),
            ..place(0, Standing::Room)
        });
        assert_eq!(choose(client("::1"), two.into_iter()), Choice::Go(WorkerId(9)));
    }
}
