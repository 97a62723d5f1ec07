//! What must be known after our death: for a successor in the keeper's memory, for the time after a power cut on disk.
//!
//! | where | what | when |
//! |---|---|---|
//! | memory ([`recall`]) | all of it, with inherited variables, exits, receipts and the events' number | at each change |
//! | `state.json` ([`disk`], [`codec`]) | apps, ids, counters, processes; no inherited variables | after each change, together with others of that instant |
//! | `saved.json` | the same and inherited variables | at `save` |

pub(crate) mod codec;
pub(crate) mod disk;
pub(crate) mod recall;
pub(crate) mod stored;
