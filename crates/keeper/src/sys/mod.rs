//! The only place with `unsafe` of this crate: system calls that `rustix` does not offer safely.
//!
//! - [`map`]: shared memory, written in steps.
#![expect(
    unsafe_code,
    reason = "shared mappings, clone without exec, exec with open descriptors have no safe interface"
)]

pub(crate) mod map;
