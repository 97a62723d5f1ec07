//! What must be known after a power cut, on disk. (What a successor of this process needs is in memories: [`crate::adopt`].)
//!
//! | where | what | when |
//! |---|---|---|
//! | `state.json` ([`disk`], [`codec`]) | apps, ids, counters, processes; no inherited variables | after each change, together with others of that instant |
//! | `saved.json` | the same and inherited variables | at `save` |

pub(crate) mod codec;
pub(crate) mod disk;
pub(crate) mod stored;
