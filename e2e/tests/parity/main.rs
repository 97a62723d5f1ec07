//! The rows of `docs/node-parity.md`: a Rust worker under Node's own primary, under ours, and beside Node's workers.
//!
//! [`under_node`] runs on Node 20 and 24, with `SCHED_RR` and `SCHED_NONE`: `node24::none::leaving`.

mod errors;
mod family;
mod node;
mod page;
mod primary;
mod rust;
mod under_node;

/// The table of rows under Node's own primary, once for each version and policy.
macro_rules! rows {
    ($($row:ident)*) => {
        rows!(versions node20 20 { $($row)* });
        rows!(versions node24 24 { $($row)* });
    };
    (versions $name:ident $version:tt $rows:tt) => {
        mod $name {
            rows!(policy rr RoundRobin $version $rows);
            rows!(policy none None $version $rows);
        }
    };
    (policy $name:ident $scheduling:ident $version:tt { $($row:ident)* }) => {
        mod $name {
            use crate::node::{At, Scheduling};

            const AT: At = At { version: $version, scheduling: Scheduling::$scheduling };

            $(
                #[test]
                fn $row() -> anyhow::Result<()> {
                    crate::under_node::$row(AT)
                }
            )*
        }
    };
}

rows! {
    events
    settings
    messages
    advanced
    handles_to_the_worker
    handles_from_the_worker
    leaving
    cut
    shared_by_two
    shared_with_node
    closed_listener
    left_with_unaccepted
    begun_is_finished
    primary_dies
    udp
    unix
    blocking
    refused
    twice
    child
}
