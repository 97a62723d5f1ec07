//! A daemon in this process, with programs that do nothing, asked over its socket.
#![expect(clippy::unwrap_used, reason = "a test")]

mod conflicts;
mod harness;
mod lives;
mod rules;
