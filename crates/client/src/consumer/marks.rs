//! What of a partition was processed: marks come in any order, and only an unbroken run of them
//! from the start may be committed.
//!
//! ```text
//!   start      frontier              handed
//!   ──┼───────────┼──────▒▒▒▒───▒▒───────┼──
//!     processed     ▒ marked ahead        what was handed out ends here
//! ```
//!
//! Marks ahead of the frontier are kept as ranges. Offsets that nobody can mark, because no record
//! stands there any more (compaction), count as marked as soon as a record beyond them was handed
//! out.

use std::collections::{BTreeMap, VecDeque};

use tidelog_types::{LeaderEpoch, Offset};

/// Most ranges that are kept of one partition: beyond it the partition waits until the records that
/// hold up the frontier are marked.
pub(super) const MAX_RANGES: usize = 100_000;

/// The marks of one partition, for as long as it is owned and nobody seeks.
#[derive(Debug)]
pub(super) struct Marks {
    /// Everything below was processed.
    frontier: Offset,
    /// Where what was handed out ends.
    handed: Offset,
    /// Marked beyond the frontier: start to end, neither touching nor overlapping.
    ahead: BTreeMap<Offset, Offset>,
    /// From which offset on handed out records have which leader epoch.
    epochs: VecDeque<(Offset, LeaderEpoch)>,
    /// Whether anything was ever marked: a position that was only taken up is not worth a commit.
    any: bool,
    /// What the coordinator has acknowledged; at first the start, which nobody needs to commit.
    committed: Offset,
}

/// What may be committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Committable {
    /// Where to go on.
    pub(super) offset: Offset,
    /// Epoch of the last processed record.
    pub(super) leader_epoch: Option<LeaderEpoch>,
}

impl Marks {
    /// Of a partition that is read from here on.
    pub(super) fn from(start: Offset) -> Self {
        Self {
            frontier: start,
            handed: start,
            ahead: BTreeMap::new(),
            epochs: VecDeque::new(),
            any: false,
            committed: start,
        }
    }

    /// A record was handed out. Offsets rise.
    pub(super) fn handed_out(&mut self, offset: Offset, epoch: LeaderEpoch) {
        debug_assert!(offset >= self.handed, "offsets are handed out in order");
        if offset > self.handed {
            self.insert(self.handed, offset);
        }
        self.handed = offset.next();
        if self.epochs.back().is_none_or(|(_, known)| *known != epoch) {
            self.epochs.push_back((offset, epoch));
        }
    }

    /// What was handed out was the last record before this offset.
    pub(super) fn nothing_until(&mut self, offset: Offset) {
        if offset > self.handed {
            self.insert(self.handed, offset);
            self.handed = offset;
        }
    }

    /// A record was processed. One that was not handed out since the last seek says nothing.
    pub(super) fn mark(&mut self, offset: Offset) {
        if offset < self.handed && offset >= self.frontier {
            self.any = true;
            self.insert(offset, offset.next());
        }
    }

    /// Everything below an offset is taken as processed: the application committed it by itself.
    pub(super) fn mark_below(&mut self, offset: Offset) {
        let offset = offset.min(self.handed);
        if offset > self.frontier {
            self.insert(self.frontier, offset);
        }
    }

    /// What may be committed, if that is more than what was.
    pub(super) fn committable(&self) -> Option<Committable> {
        let news = self.any && self.committed < self.frontier;
        news.then(|| Committable {
            offset: self.frontier,
            leader_epoch: self.epoch_below(self.frontier),
        })
    }

    /// Epoch of the last record below an offset, if it was handed out and the frontier has not left
    /// it behind.
    pub(super) fn epoch_below(&self, offset: Offset) -> Option<LeaderEpoch> {
        let entry = self.epochs.iter().rev().find(|(from, _)| *from < offset);
        entry.map(|(_, epoch)| *epoch)
    }

    /// The coordinator has it.
    pub(super) fn committed(&mut self, offset: Offset) {
        self.committed = self.committed.max(offset);
    }

    /// Whether nothing beyond an offset was handed out.
    pub(super) fn begins_at_most(&self, offset: Offset) -> bool {
        self.handed <= offset
    }

    /// Whether everything that was handed out was processed.
    pub(super) fn is_settled(&self) -> bool {
        self.frontier == self.handed
    }

    /// Whether too much waits for the frontier to take more.
    pub(super) fn is_full(&self) -> bool {
        self.any && self.ahead.len() >= MAX_RANGES
    }

    fn insert(&mut self, mut start: Offset, mut end: Offset) {
        if start <= self.frontier {
            self.frontier = self.frontier.max(end);
            while let Some(first) = self.ahead.first_entry()
                && *first.key() <= self.frontier
            {
                self.frontier = self.frontier.max(first.remove());
            }
            self.forget_epochs();
            return;
        }
        if let Some((before, its_end)) = self.ahead.range(..=start).next_back()
            && *its_end >= start
        {
            (start, end) = (*before, end.max(*its_end));
        }
        while let Some((next, its_end)) = self.ahead.range(start..=end).next() {
            let next = *next;
            end = end.max(*its_end);
            self.ahead.remove(&next);
        }
        self.ahead.insert(start, end);
        if !self.any && self.ahead.len() >= MAX_RANGES {
            // An application that never marks commits by itself, or not at all: gaps tell it
            // nothing.
            self.ahead.clear();
        }
    }

    fn forget_epochs(&mut self) {
        while self
            .epochs
            .get(1)
            .is_some_and(|(from, _)| from.0 < self.frontier.0)
        {
            self.epochs.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const EPOCH: LeaderEpoch = LeaderEpoch(3);

    fn handed(offsets: impl IntoIterator<Item = u64>) -> Marks {
        let mut marks = Marks::from(Offset(10));
        for offset in offsets {
            marks.handed_out(Offset(offset), EPOCH);
        }
        marks
    }

    fn committable(marks: &Marks) -> Option<u64> {
        marks.committable().map(|committable| committable.offset.0)
    }

    #[test]
    fn only_the_unbroken_run_from_the_start_may_be_committed() {
        let mut marks = handed(10..16);
        assert_eq!(committable(&marks), None);
        marks.mark(Offset(11));
        marks.mark(Offset(13));
        assert_eq!(committable(&marks), None);
        marks.mark(Offset(10));
        assert_eq!(committable(&marks), Some(12));
        marks.mark(Offset(12));
        assert_eq!(committable(&marks), Some(14));
        marks.committed(Offset(14));
        assert_eq!(committable(&marks), None);
        assert!(!marks.is_settled());
    }

    #[test]
    fn offsets_without_a_record_hold_nothing_up() {
        let mut marks = handed([12, 15]);
        marks.mark(Offset(12));
        assert_eq!(committable(&marks), Some(15));
        marks.mark(Offset(15));
        marks.nothing_until(Offset(20));
        assert_eq!(committable(&marks), Some(20));
        assert!(marks.is_settled());
    }

    #[test]
    fn marks_of_what_was_not_handed_out_say_nothing() {
        let mut marks = handed(10..12);
        marks.mark(Offset(12));
        marks.mark(Offset(9));
        assert_eq!(marks.committable(), None);
        marks.mark_below(Offset(99));
        marks.mark(Offset(11));
        assert!(marks.is_settled());
    }

    #[test]
    fn the_epoch_is_that_of_the_last_processed_record() {
        let mut marks = handed(10..12);
        marks.handed_out(Offset(12), LeaderEpoch(7));
        marks.mark(Offset(10));
        marks.mark(Offset(11));
        let epoch = |marks: &Marks| marks.committable().unwrap().leader_epoch;
        assert_eq!(epoch(&marks), Some(EPOCH));
        marks.mark(Offset(12));
        assert_eq!(epoch(&marks), Some(LeaderEpoch(7)));
    }

    proptest! {
        #[test]
        fn any_order_commits_exactly_the_unbroken_run(
            gaps in prop::collection::vec(1_u64..3, 1..40),
            order in prop::collection::vec(0_usize..40, 0..80),
        ) {
            let mut offset = 9;
            let records: Vec<u64> = gaps.iter().map(|gap| { offset += gap; offset }).collect();
            let mut marks = handed(records.iter().copied());
            let mut done = BTreeSet::new();
            for index in order {
                let marked = records[index % records.len()];
                marks.mark(Offset(marked));
                done.insert(marked);
                let next = records.iter().find(|record| !done.contains(record));
                let expected = next.map_or(offset + 1, |next| *next);
                // What cannot be processed before the next record may count as processed, or not
                // yet.
                let committed = committable(&marks);
                if let Some(committed) = committed {
                    prop_assert!(committed <= expected);
                    prop_assert!(records.iter().all(|r| *r >= committed || done.contains(r)));
                    prop_assert!(records.iter().all(|r| *r < committed || *r >= expected));
                }
            }
        }
    }
}
