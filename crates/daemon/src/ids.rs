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

    /// These were never seen: as if they had not been given, as far as none came after them.
    pub(crate) fn give_back(&mut self, ids: &[u32]) {
        for id in ids {
            self.release(*id);
        }
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        while let Some(id) = ids.pop() {
            if self.next == id.saturating_add(1) {
                self.next = id;
            }
        }
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
    fn what_nobody_saw_was_not_given() {
        let mut ids = Ids::default();
        let (first, unseen) = (ids.take(), [ids.take(), ids.take()]);
        ids.give_back(&unseen);
        assert_eq!((first, ids.take(), ids.take()), (0, 1, 2));
        // Another one came after it.
        ids.give_back(&[1]);
        assert_eq!(ids.take(), 3);
    }

    #[test]
    fn saved_ones_are_respected() {
        let mut ids = Ids::default();
        assert!(ids.claim(7) && !ids.claim(7));
        assert_eq!(ids.take(), 8);
    }
}
