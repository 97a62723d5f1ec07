//! The verbs, a file each.

pub(crate) mod completion;
pub(crate) mod run;
