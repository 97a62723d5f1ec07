//! The control socket of `everup run --control PATH`: what is said over it, how it is framed, and a blocking client.
//!
//! Protocol 1: a UNIX stream socket; a JSON object per line. For each request ([`Request`], at most
//! [`REQUEST_LIMIT`] bytes) come any number of `{"progress":{…}}` lines, then exactly one `{"ok":{…}}` or
//! `{"error":{…}}` ([`Reply`], at most [`REPLY_LIMIT`] bytes). Requests on one connection are answered one after
//! the other. `docs/control.md` has an example of each.
//!
//! Invariants: a request with an unknown verb or field is refused, never half understood; a reply may have fields
//! and words that an older client does not know, and is understood all the same (`Other`).
//!
//! Must not know: clusters, arguments, terminals, the engine.

mod app;
mod client;
mod error;
mod frame;
pub mod names;
pub mod plan;
pub mod redact;
mod reload;
mod reply;
mod request;
mod socket;
mod status;
pub mod v1;
mod why;

pub use app::{AppSpec, Condition, ExecMode, FilterEnv, NAMESPACE};
pub use client::{Client, ClientError};
pub use error::{Error, ErrorCode};
pub use frame::{LineError, LineReader, REPLY_LIMIT, REQUEST_LIMIT, line};
pub use names::nearest;
pub use reload::{Outcome, Phase, Progress, Receipt, Replaced};
pub use reply::{Aborted, Launched, Pong, Reopened, Reply, Scaled, Signalled, Stopping};
pub use request::{
    AbortRequest, Amount, AmountError, Call, LaunchRequest, PingRequest, ReloadRequest, ReopenRequest,
    Request, RestartRequest, ScaleRequest, SignalRequest, StatusRequest, StopRequest, WhyRequest,
};
pub use socket::short as short_socket;
pub use status::{ReloadStatus, Role, Status, Storm, WorkerState, WorkerStatus};
pub use why::{Exit, ExitStatus, Why};

/// The version of the protocol, as [`Pong`] tells it.
pub const PROTOCOL: u32 = 1;
