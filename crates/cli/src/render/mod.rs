//! What people read about apps: pure, from what the daemon says to text.

pub(crate) mod amounts;
pub(crate) mod describe;
pub(crate) mod list;
#[cfg(test)]
pub(crate) mod samples;
pub(crate) mod table;
