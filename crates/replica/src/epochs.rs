//! The leader-epoch cache: where each leader epoch begins in a log (KIP-101).

use tidelog_types::{BatchInfo, EpochEntry, LeaderEpoch, Offset};

/// Which leader epochs a log holds and where each begins; rising in both fields (P21).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EpochCache {
    entries: Vec<EpochEntry>,
}

impl EpochCache {
    /// The cache of a recovered log. What lies below the log start collapses into one entry that
    /// begins there.
    pub fn new(entries: Vec<EpochEntry>, log_start: Offset) -> Self {
        assert!(
            entries.is_sorted_by(|a, b| a.epoch < b.epoch && a.start_offset <= b.start_offset),
            "the epochs of a stored log rise: {entries:?}"
        );
        let mut cache = Self { entries };
        cache.trim(log_start);
        cache
    }

    /// The entries, rising.
    pub fn entries(&self) -> &[EpochEntry] {
        &self.entries
    }

    /// The epoch of the last batch, or of the last there was before all were trimmed.
    pub fn latest(&self) -> Option<LeaderEpoch> {
        self.entries.last().map(|entry| entry.epoch)
    }

    /// Takes note of a batch that is appended. Returns the new entry if an epoch begins with it.
    pub fn replay(&mut self, batch: &BatchInfo) -> Option<EpochEntry> {
        let latest = self.latest();
        assert!(
            latest <= Some(batch.leader_epoch),
            "P21: epoch {} after {latest:?}",
            batch.leader_epoch
        );
        if latest == Some(batch.leader_epoch) {
            return None;
        }
        let entry = EpochEntry {
            epoch: batch.leader_epoch,
            start_offset: batch.base_offset,
        };
        self.entries.push(entry);
        Some(entry)
    }

    /// The largest epoch of this log that is at most `epoch`, and the offset after its last record
    /// (R5).
    ///
    /// Where the log holds nothing so old, the answer is `epoch` itself ending where the log's
    /// first epoch begins, as in Kafka: a log that has lost its oldest epochs to retention
    /// contradicts nobody that ends there.
    pub fn end_of(&self, epoch: LeaderEpoch, log_end: Offset) -> (LeaderEpoch, Offset) {
        let later = self.entries.partition_point(|entry| entry.epoch <= epoch);
        let end = self.entries.get(later).map_or(log_end, |next| next.start_offset);
        let found = later.checked_sub(1).map_or(epoch, |at| self.entries[at].epoch);
        (found, end)
    }

    /// Drops what begins at or after the new log end.
    pub fn truncate(&mut self, to: Offset) {
        self.entries.retain(|entry| entry.start_offset < to);
    }

    /// Moves the log start: the epoch that holds it begins there, older ones go.
    pub fn trim(&mut self, log_start: Offset) {
        let later = self
            .entries
            .partition_point(|entry| entry.start_offset <= log_start);
        if later > 0 {
            self.entries.drain(..later - 1);
            self.entries[0].start_offset = log_start;
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.entries.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(entries: &[(u32, u64)]) -> EpochCache {
        let entries = entries
            .iter()
            .map(|&(epoch, start)| EpochEntry {
                epoch: LeaderEpoch(epoch),
                start_offset: Offset(start),
            })
            .collect();
        EpochCache::new(entries, Offset::ZERO)
    }

    #[test]
    fn r5_an_epoch_ends_where_the_next_one_begins() {
        let cache = cache(&[(1, 0), (3, 10), (7, 20)]);
        let end_of = |epoch| cache.end_of(LeaderEpoch(epoch), Offset(25));
        assert_eq!(end_of(1), (LeaderEpoch(1), Offset(10)));
        assert_eq!(end_of(3), (LeaderEpoch(3), Offset(20)));
        assert_eq!(end_of(7), (LeaderEpoch(7), Offset(25)));
    }

    #[test]
    fn r5_an_unknown_epoch_is_answered_by_the_one_before_it() {
        let cache = cache(&[(1, 0), (3, 10)]);
        assert_eq!(
            cache.end_of(LeaderEpoch(2), Offset(25)),
            (LeaderEpoch(1), Offset(10))
        );
        assert_eq!(
            cache.end_of(LeaderEpoch(9), Offset(25)),
            (LeaderEpoch(3), Offset(25))
        );
        assert_eq!(
            cache.end_of(LeaderEpoch(0), Offset(25)),
            (LeaderEpoch(0), Offset(0))
        );
    }

    #[test]
    fn p21_only_a_new_epoch_makes_an_entry() {
        let mut cache = cache(&[(1, 0)]);
        let mut batch = crate::log::tests::batch(5, 1, 1);
        assert_eq!(cache.replay(&batch), None);
        batch.leader_epoch = LeaderEpoch(4);
        let entry = EpochEntry {
            epoch: LeaderEpoch(4),
            start_offset: Offset(5),
        };
        assert_eq!(cache.replay(&batch), Some(entry));
        assert_eq!(cache.latest(), Some(LeaderEpoch(4)));
    }

    #[test]
    fn truncation_and_trimming_keep_what_is_left() {
        let mut cache = cache(&[(1, 0), (3, 10), (7, 20)]);
        cache.truncate(Offset(20));
        assert_eq!(cache.latest(), Some(LeaderEpoch(3)));
        cache.trim(Offset(15));
        let left = EpochEntry {
            epoch: LeaderEpoch(3),
            start_offset: Offset(15),
        };
        assert_eq!(cache.entries(), &[left]);
    }
}
