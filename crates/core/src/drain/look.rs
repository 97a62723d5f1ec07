//! What is seen of a connection, and of the worker that serves it.

use super::{Flow, Head};

/// How a worker's process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    /// By itself, with code 0, and nobody had asked it with a signal: what it held it had finished with.
    Left,
    /// In any other way: what it held it may have been working on.
    Cut,
}

/// How far a connection is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// Both ways.
    Open,
    /// The client sent its end.
    HalfClosed,
    /// We sent our end first.
    Finished,
    /// Both ways closed, or reset, or about to be.
    Over,
}

/// A look at one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observation {
    /// Whether the worker has it still.
    pub held: bool,
    /// How far it is open.
    pub link: Link,
    /// What is unread. Not looked at, and [`Head::Nothing`], while the worker has it.
    pub head: Head,
    /// The kernel's counters.
    pub flow: Flow,
}
