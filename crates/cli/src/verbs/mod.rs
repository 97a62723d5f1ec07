//! The verbs that talk to the daemon.

pub(crate) mod logs;
