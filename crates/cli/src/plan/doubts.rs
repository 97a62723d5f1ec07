//! What will work, but perhaps not as expected: told as notices.

use super::{CHANNEL_VARIABLES, LISTEN_VARIABLES};
use crate::args::PolicyArg;
use crate::resolve::Program;
use everup::spec::MARK;
use everup::{Channel, Listen, Spec};
use std::ffi::OsString;

/// How least-connections counts.
pub(crate) const COUNTS: &str = "least-connections counts the hand-overs that a worker has not answered yet, unless all \
                                 workers tell what they have open, as those written with the crate do";

/// What will work, but perhaps not as expected.
pub(super) fn doubts(
    program: &Program,
    workers: u32,
    listen: &[Listen],
    policy: Option<PolicyArg>,
    listen_limit: bool,
) -> Vec<String> {
    let mut doubts = Vec::new();
    if program.channel {
        if workers > 1 && matches!(policy, None | Some(PolicyArg::LeastConnections)) {
            doubts.push(COUNTS.into());
        }
        return doubts;
    }
    if workers > 1 && listen.is_empty() {
        doubts.push(format!(
            "{workers} workers of a program without Node's channel share no port; pass them one with --listen ADDR, or, if it \
             starts Node itself, run that: everup run \"node app.js\"; if it is built with the everup crate, give it \
             the channel: --channel node"
        ));
    }
    if policy.is_some_and(|policy| policy != PolicyArg::Shared) {
        doubts.push(
            "--policy has no effect: all workers accept from the sockets of --listen themselves".into(),
        );
    }
    if listen_limit {
        doubts.push("--listen-timeout has no effect: nobody can tell when this program listens".into());
    }
    doubts
}

/// Variables of the user's that do not get through.
pub(super) fn overruled(variables: &[(OsString, OsString)], spec: &Spec) -> Vec<String> {
    let ours = |name: &OsString| {
        let channel = spec.channel != Channel::None && CHANNEL_VARIABLES.iter().any(|ours| name == ours);
        let listen = !spec.listen.is_empty() && LISTEN_VARIABLES.iter().any(|ours| name == ours);
        channel || listen || name == MARK || *name == spec.instance_var
    };
    let mut names: Vec<&OsString> = variables
        .iter()
        .map(|(name, _)| name)
        .filter(|name| ours(name))
        .collect();
    names.sort();
    names.dedup();
    let told = |name: &OsString| {
        format!(
            "the value given for {} has no effect: everup sets it",
            name.display()
        )
    };
    names.into_iter().map(told).collect()
}
