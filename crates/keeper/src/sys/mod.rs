//! The only place with `unsafe` of this crate: system calls that `rustix` does not offer safely.
//!
//! - [`map`]: shared memory, written in steps; [`words`]: shared words.
//! - [`process`]: a child that shares our descriptors, who ended, another program in our place.
//! - [`signals`]: signals to be read; stopping all other threads.
//! - [`table`]: descriptors by number.
#![expect(
    unsafe_code,
    reason = "shared mappings, clone without exec, exec with open descriptors have no safe interface"
)]

pub(crate) mod map;
pub(crate) mod process;
pub(crate) mod signals;
pub(crate) mod table;
pub(crate) mod words;
