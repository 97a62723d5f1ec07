//! Node's cluster channel, without IO: framing, messages and the conversation, as the primary and as a worker.
//!
//! Source: Node's `lib/internal/cluster/*`, `lib/internal/child_process.js` and libuv's stream code, as
//! written down and checked against eight Node versions in the project's protocol notes (Node 14 to 26, Deno
//! 2.9, Bun 1.4).
//!
//! - [`message`]: what is said, as types.
//! - [`session`]: one worker's channel; the way in.
//! - [`child`]: the other side: a worker's conversation with its primary.
//! - `conversation`: what messages mean, what is answered, sequence numbers.
//! - `outbox`: what waits to be written: which handles may be in flight, ACK and NACK ahead of the queue.
//! - `received`: sockets that the other end gave us and asks about.
//! - `encode`, `decode`: what is said, to and from JSON text.
//! - `frame`: bytes to frames (newline-delimited JSON, or length-prefixed for `advanced`).
//! - `v8`: the part of V8's value format that `advanced` needs.
//!
//! Must not know: descriptors. "A descriptor arrived with these bytes" is a number; a descriptor to send is a
//! [`Token`](crate::id::Token).

pub mod child;
mod conversation;
mod decode;
mod encode;
mod frame;
pub mod message;
mod outbox;
mod received;
pub mod session;
mod v8;

pub use message::{
    AddressType, Event, HandleKind, Listening, Query, Reply, Serialization, SharedKind, Sockname,
};
pub use session::{FRAME_LIMIT, Session, Settings, Transmit, WireError};
