//! What in a [`Spec`] contradicts itself.

use crate::health::ReadySign;
use crate::spec::{Ask, Channel, Spec};

/// The most workers that a cluster may be started with.
pub const MAX_WORKERS: u32 = 1024;

/// Why a [`Spec`] cannot be meant as it stands.
///
/// ```
/// use everup::{Cluster, Conflict, Policy, StartError};
///
/// let started = Cluster::builder().node("app.js").policy(Policy::Shared).spares(1).start();
/// assert!(matches!(started, Err(StartError::Conflict(Conflict::SparesNeedHandOver))));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Conflict {
    /// [`Spec::workers`] and [`Spec::spares`] together are more than [`MAX_WORKERS`].
    #[error("{workers} workers, where {limit} are the most")]
    TooManyWorkers {
        /// So many.
        workers: u32,
        /// [`MAX_WORKERS`].
        limit: u32,
    },
    /// [`Spec::spares`] stand by only where the primary hands connections over: with [`Channel::Node`] and a policy by
    /// which it does.
    #[error("spare workers need a channel, and a policy by which connections are handed over")]
    SparesNeedHandOver,
    /// None of [`Spec::ready`] can ever come: a program without a channel does not say that it listens.
    #[error("none of the chosen signs of readiness can come on this channel")]
    NeverReady,
    /// [`Ask::Message`] without a channel.
    #[error("workers without a channel cannot be asked to stop by a message")]
    AskNeedsChannel,
    /// A number of [`Spec::inherit`] that is taken: 0 to 2 are standard input, output and error, and those after them
    /// the sockets of [`Spec::listen`].
    #[error("descriptor {number} is taken in the workers: {first} is the first free one")]
    DescriptorNumber {
        /// Which.
        number: i32,
        /// The first free number.
        first: i32,
    },
}

/// Looks for one.
pub(crate) fn check(spec: &Spec) -> Result<(), Conflict> {
    let workers = spec.workers.saturating_add(spec.spares);
    if workers > MAX_WORKERS {
        let limit = MAX_WORKERS;
        return Err(Conflict::TooManyWorkers { workers, limit });
    }
    let cluster = matches!(spec.channel, Channel::Node(_));
    if spec.spares > 0 && !(cluster && spec.policy.hands_over()) {
        return Err(Conflict::SparesNeedHandOver);
    }
    if !spec.ready.is_empty() && !spec.ready.iter().any(|sign| possible(sign, spec.channel)) {
        return Err(Conflict::NeverReady);
    }
    if spec.channel == Channel::None && spec.stop.ask == Ask::Message {
        return Err(Conflict::AskNeedsChannel);
    }
    check_numbers(spec)
}

fn possible(sign: &ReadySign, channel: Channel) -> bool {
    match sign {
        ReadySign::Listening => matches!(channel, Channel::Node(_)),
        ReadySign::Message => channel != Channel::None,
        ReadySign::Notify | ReadySign::Tcp | ReadySign::Http { .. } | ReadySign::Uptime(_) => true,
    }
}

fn check_numbers(spec: &Spec) -> Result<(), Conflict> {
    let passed = i32::try_from(spec.listen.len()).unwrap_or(i32::MAX);
    let first = passed.saturating_add(3);
    match spec.inherit.keys().find(|number| **number < first) {
        Some(&number) => Err(Conflict::DescriptorNumber { number, first }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use everup_core::schedule::Policy;
    use everup_core::wire::Serialization;
    use std::time::Duration;

    fn conflict(change: impl FnOnce(&mut Spec)) -> Option<Conflict> {
        let mut spec = Spec::new("true");
        change(&mut spec);
        check(&spec).err()
    }

    #[test]
    fn a_plain_spec_has_none() {
        assert_eq!(conflict(|_| {}), None);
        assert_eq!(conflict(|spec| spec.workers = MAX_WORKERS), None);
        assert_eq!(conflict(|spec| spec.spares = 1), None);
    }

    #[test]
    fn too_many_workers() {
        let (workers, limit) = (MAX_WORKERS + 1, MAX_WORKERS);
        let expected = Some(Conflict::TooManyWorkers { workers, limit });
        assert_eq!(conflict(|spec| spec.workers = MAX_WORKERS + 1), expected);
        let spare = |spec: &mut Spec| (spec.workers, spec.spares) = (MAX_WORKERS, 1);
        assert_eq!(conflict(spare), expected);
    }

    #[test]
    fn spares_need_a_hand_over() {
        let expected = Some(Conflict::SparesNeedHandOver);
        for policy in [Policy::Shared, Policy::ReusePort] {
            let shared = |spec: &mut Spec| (spec.spares, spec.policy) = (1, policy);
            assert_eq!(conflict(shared), expected);
        }
        for channel in [Channel::None, Channel::Ipc(Serialization::Json)] {
            let apart = |spec: &mut Spec| (spec.spares, spec.channel) = (1, channel);
            assert_eq!(conflict(apart), expected);
        }
    }

    #[test]
    fn a_sign_that_cannot_come() {
        let with = |channel: Channel, signs: &[ReadySign]| {
            conflict(|spec| (spec.channel, spec.ready) = (channel, signs.to_vec()))
        };
        let (none, ipc) = (Channel::None, Channel::Ipc(Serialization::Json));
        let uptime = ReadySign::Uptime(Duration::from_secs(1));
        assert_eq!(with(none, &[ReadySign::Message]), Some(Conflict::NeverReady));
        assert_eq!(with(ipc, &[ReadySign::Listening]), Some(Conflict::NeverReady));
        assert_eq!(with(ipc, &[ReadySign::Message]), None);
        assert_eq!(with(none, &[ReadySign::Listening, uptime]), None);
    }

    #[test]
    fn no_message_without_a_channel() {
        let silent = |spec: &mut Spec| (spec.channel, spec.stop.ask) = (Channel::None, Ask::Message);
        assert_eq!(conflict(silent), Some(Conflict::AskNeedsChannel));
    }

    #[test]
    fn numbers_that_are_taken() {
        let null = || std::fs::File::open("/dev/null").unwrap().into();
        let expected = Conflict::DescriptorNumber { number: 2, first: 3 };
        assert_eq!(
            conflict(|spec| drop(spec.inherit.insert(2, null()))),
            Some(expected)
        );
        assert_eq!(conflict(|spec| drop(spec.inherit.insert(3, null()))), None);
    }
}
