//! The verbs: those that talk to a running everup in [`ask`], the others a file each.

pub(crate) mod ask;
pub(crate) mod completion;
pub(crate) mod run;
