//! Where an app's engine writes down what its successor must know: two memories of the keeper's kind.
//!
//! Their names tell whose they are: `app:settings:NAME` and `app:state:NAME`. Whoever comes after a dead daemon finds
//! them with [`everup_keeper::find`], and makes an [`Estate`] of them.

use everup::estate::{Estate, Ledger};
use everup_keeper::{Contents, Memory};
use std::io;

const SETTINGS: &str = "app:settings:";
const STATE: &str = "app:state:";

/// See the module's documentation.
#[derive(Debug)]
pub struct AppLedger {
    settings: Memory,
    state: Memory,
}

/// Which of an app's two memories a memory is, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Of [`Ledger::settings`].
    Settings,
    /// The rest.
    State,
}

/// Whose memory this is, if it is an app's.
#[must_use]
pub fn owner(name: &str) -> Option<(Part, &str)> {
    let settings = name.strip_prefix(SETTINGS).map(|app| (Part::Settings, app));
    settings.or_else(|| Some((Part::State, name.strip_prefix(STATE)?)))
}

impl AppLedger {
    /// A new one, for an app that starts.
    ///
    /// # Errors
    /// The system has no memory or no descriptor.
    pub fn create(app: &str) -> io::Result<Self> {
        Ok(Self {
            settings: Memory::create(&format!("{SETTINGS}{app}"))?,
            state: Memory::create(&format!("{STATE}{app}"))?,
        })
    }

    /// That of a dead engine, with what it has left.
    #[must_use]
    pub fn inherit(settings: (Memory, Contents), state: (Memory, Contents)) -> (Self, Estate) {
        let estate = Estate {
            settings: settings.1.snapshot,
            snapshot: state.1.snapshot,
            records: state.1.records,
            reserved: state.1.reserved,
        };
        let ledger = Self {
            settings: settings.0,
            state: state.0,
        };
        (ledger, estate)
    }
}

impl Ledger for AppLedger {
    fn settings(&mut self, blob: &[u8]) -> io::Result<()> {
        self.settings.snapshot(blob)
    }

    fn snapshot(&mut self, blob: &[u8]) -> io::Result<()> {
        self.state.snapshot(blob)
    }

    fn append(&mut self, record: &[u8]) -> io::Result<()> {
        self.state.append(record)
    }

    fn reserve(&mut self, head: &[u8], len: usize) -> io::Result<&mut [u8]> {
        self.state.reserve(head, len)
    }

    fn commit(&mut self, written: usize) {
        self.state.commit(written);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_whose_memory_it_is() {
        assert_eq!(owner("app:state:web:1"), Some((Part::State, "web:1")));
        assert_eq!(owner("app:settings:web"), Some((Part::Settings, "web")));
        assert_eq!(owner("logs"), None);
    }
}
