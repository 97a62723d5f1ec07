//! The keeper: it keeps descriptors and state while daemons come and go.
//!
//! - [`Memory`]: state that outlives its writer, in a named memfd.

pub mod memory;
mod sys;

pub use memory::{Contents, Memory, find};
