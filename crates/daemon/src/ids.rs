//! pm2's ids: one for each place of an app, counted up, and never given again until nobody has one.

use std::collections::BTreeSet;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Ids {
    next: u32,
    taken: BTreeSet<u32>,
}

impl Ids {
    /// The next one.
    pub(crate) fn take(&mut self) -> u32 {
        let id = self.next;
        self.taken.insert(id);
        self.next = self.next.saturating_add(1);
        id
    }

    /// One that is known already: of a saved state.
    pub(crate) fn claim(&mut self, id: u32) -> bool {
        self.next = self.next.max(id.saturating_add(1));
        self.taken.insert(id)
    }

    /// Nobody has it any more.
    pub(crate) fn release(&mut self, id: u32) {
        self.taken.remove(&id);
        if self.taken.is_empty() {
            self.next = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn none_comes_again_until_all_are_gone() {
        let mut ids = Ids::default();
        assert_eq!((ids.take(), ids.take(), ids.take()), (0, 1, 2));
        ids.release(1);
        assert_eq!(ids.take(), 3);
        for id in [0, 2, 3] {
            ids.release(id);
        }
        assert_eq!(ids.take(), 0);
    }

    #[test]
    fn saved_ones_are_respected() {
        let mut ids = Ids::default();
        assert!(ids.claim(7) && !ids.claim(7));
        assert_eq!(ids.take(), 8);
    }
}
