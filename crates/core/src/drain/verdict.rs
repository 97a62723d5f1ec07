//! What is done with a copy of a connection, and the count of it.

/// What is to be done with the copy of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Keep it, and look again.
    Keep,
    /// Send our end, keep it, and look again.
    Finish,
    /// Close it.
    End(End),
    /// Hand it over as a fresh connection.
    Move,
}

/// How a connection ended that was not moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Nothing was lost.
    Closed,
    /// The worker had read something that it never answered.
    Unanswered,
    /// Something came that nobody could take.
    Unread,
    /// The worker's process ended with it; whether its last answer was whole cannot be known.
    Unsure,
}

/// How many ended how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Taken altogether.
    pub taken: u64,
    /// Of these, the worker has them still.
    pub open: u64,
    /// Of those, on so many an answer was owed or may have been at the last look.
    pub busy: u64,
    /// It has let them go, and they have not ended yet.
    pub waiting: u64,
    /// Went on to another worker.
    pub moved: u64,
    /// Closed with nothing lost.
    pub closed: u64,
    /// The client had a request under way that nobody answered.
    pub lost: u64,
    /// See [`End::Unsure`].
    pub unsure: u64,
}
