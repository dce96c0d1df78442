//! Recent batches in memory: what tailing consumers and followers read.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use parking_lot::Mutex;
use tidelog_log::ReadBatches;
use tidelog_types::{BatchInfo, LocalPartition, Offset};

/// What an entry takes beside its bytes, roughly, bytes.
const ENTRY_OVERHEAD_BYTES: usize = 96;

/// The newest batches of all partitions, within one budget: for room, the oldest of them all goes
/// first.
///
/// Of each partition it holds an unbroken run that ends at what was last inserted.
pub(crate) struct TailCache {
    budget_bytes: usize,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    partitions: HashMap<LocalPartition, VecDeque<Entry>>,
    /// Insertions, oldest first. One whose entry is gone by truncation is passed over.
    order: VecDeque<(LocalPartition, u64)>,
    next_number: u64,
    entries: usize,
    bytes: usize,
}

struct Entry {
    number: u64,
    base: Offset,
    end: Offset,
    bytes: Bytes,
}

impl Entry {
    fn cost(&self) -> usize {
        self.bytes.len() + ENTRY_OVERHEAD_BYTES
    }
}

impl TailCache {
    pub(crate) fn new(budget_bytes: usize) -> Self {
        Self {
            budget_bytes,
            inner: Mutex::default(),
        }
    }

    /// Adds a written batch at the end of its partition's run; one that does not continue it begins
    /// another.
    pub(crate) fn insert(&self, local: LocalPartition, info: &BatchInfo, bytes: Bytes) {
        let mut inner = self.inner.lock();
        let continues = inner
            .partitions
            .get(&local)
            .and_then(VecDeque::back)
            .is_none_or(|last| last.end == info.base_offset);
        if !continues {
            inner.remove(local);
        }
        inner.push(local, info, bytes);
        while inner.bytes > self.budget_bytes {
            inner.evict_oldest();
        }
    }

    /// Forgets what begins at or after `end`.
    pub(crate) fn truncate(&self, local: LocalPartition, end: Offset) {
        let mut guard = self.inner.lock();
        let inner = &mut *guard;
        let Some(run) = inner.partitions.get_mut(&local) else {
            return;
        };
        while let Some(last) = run.pop_back_if(|entry| entry.base >= end) {
            inner.entries -= 1;
            inner.bytes -= last.cost();
        }
        if run.is_empty() {
            inner.partitions.remove(&local);
        }
        inner.shed_marks();
    }

    /// Forgets a partition.
    pub(crate) fn remove(&self, local: LocalPartition) {
        let mut inner = self.inner.lock();
        inner.remove(local);
        inner.shed_marks();
    }

    /// The batches from the one that holds `from` up to the first that begins at `until`; `None` if
    /// the first is not here.
    pub(crate) fn read(
        &self,
        local: LocalPartition,
        from: Offset,
        until: Offset,
        max_bytes: usize,
    ) -> Option<ReadBatches> {
        let inner = self.inner.lock();
        let run = inner.partitions.get(&local)?;
        if run.front()?.base > from {
            return None;
        }
        let first = run.partition_point(|entry| entry.end <= from);
        let mut read = ReadBatches {
            batches: Vec::new(),
            next: from,
        };
        let mut bytes = 0;
        for entry in run.range(first..).take_while(|entry| entry.base < until) {
            bytes += entry.bytes.len();
            if bytes > max_bytes && !read.batches.is_empty() {
                break;
            }
            read.batches.push(entry.bytes.clone());
            read.next = entry.end;
        }
        if read.batches.is_empty() { None } else { Some(read) }
    }

    #[cfg(test)]
    fn held_bytes(&self) -> usize {
        self.inner.lock().bytes
    }
}

impl Inner {
    fn push(&mut self, local: LocalPartition, info: &BatchInfo, bytes: Bytes) {
        let number = self.next_number;
        self.next_number += 1;
        let entry = Entry {
            number,
            base: info.base_offset,
            end: info.end_offset(),
            bytes,
        };
        self.bytes += entry.cost();
        self.entries += 1;
        self.order.push_back((local, number));
        self.partitions.entry(local).or_default().push_back(entry);
    }

    fn evict_oldest(&mut self) {
        let (local, number) = self
            .order
            .pop_front()
            .expect("every entry has its mark in the order");
        let Some(run) = self.partitions.get_mut(&local) else {
            return;
        };
        if let Some(entry) = run.pop_front_if(|entry| entry.number == number) {
            self.bytes -= entry.cost();
            self.entries -= 1;
        }
        if run.is_empty() {
            self.partitions.remove(&local);
        }
    }

    fn remove(&mut self, local: LocalPartition) {
        for entry in self.partitions.remove(&local).unwrap_or_default() {
            self.bytes -= entry.cost();
            self.entries -= 1;
        }
    }

    /// Drops marks of entries that are gone, once they are most of the marks.
    fn shed_marks(&mut self) {
        const SLACK: usize = 1024;
        if self.order.len() <= 2 * self.entries + SLACK {
            return;
        }
        let live: std::collections::HashSet<u64> = self
            .partitions
            .values()
            .flatten()
            .map(|entry| entry.number)
            .collect();
        self.order.retain(|(_, number)| live.contains(number));
    }
}

#[cfg(test)]
mod tests {
    use tidelog_types::LeaderEpoch;

    use super::*;

    const BATCH_BYTES: usize = 1000;
    const COST: usize = BATCH_BYTES + ENTRY_OVERHEAD_BYTES;
    const A: LocalPartition = LocalPartition(1);
    const B: LocalPartition = LocalPartition(2);

    fn put(cache: &TailCache, local: LocalPartition, base: u64, count: u64) {
        let info = BatchInfo {
            base_offset: Offset(base),
            last_offset: Offset(base + count - 1),
            leader_epoch: LeaderEpoch(0),
            max_timestamp_ms: 0,
            size_bytes: BATCH_BYTES as u32,
            producer: None,
        };
        cache.insert(local, &info, Bytes::from(vec![base as u8; BATCH_BYTES]));
    }

    fn firsts(
        cache: &TailCache,
        local: LocalPartition,
        from: u64,
        until: u64,
        max: usize,
    ) -> Option<(Vec<u8>, u64)> {
        let read = cache.read(local, Offset(from), Offset(until), max)?;
        Some((read.batches.iter().map(|batch| batch[0]).collect(), read.next.0))
    }

    #[test]
    fn reads_whole_batches_from_the_one_that_holds_the_offset() {
        let cache = TailCache::new(10 * COST);
        for base in [10, 20, 30] {
            put(&cache, A, base, 10);
        }
        assert_eq!(
            firsts(&cache, A, 15, 40, usize::MAX),
            Some((vec![10, 20, 30], 40))
        );
        assert_eq!(firsts(&cache, A, 20, 30, usize::MAX), Some((vec![20], 30)));
        assert_eq!(
            firsts(&cache, A, 20, 21, 1),
            Some((vec![20], 30)),
            "at least one, whatever it weighs"
        );
        assert_eq!(
            firsts(&cache, A, 10, 40, 2 * BATCH_BYTES),
            Some((vec![10, 20], 30))
        );
        assert_eq!(
            firsts(&cache, A, 9, 40, usize::MAX),
            None,
            "what comes before is on disk"
        );
        assert_eq!(firsts(&cache, B, 0, 40, usize::MAX), None);
    }

    #[test]
    fn for_room_the_oldest_of_all_partitions_goes() {
        let cache = TailCache::new(3 * COST);
        put(&cache, A, 0, 1);
        put(&cache, B, 0, 1);
        put(&cache, A, 1, 1);
        put(&cache, B, 1, 1);
        assert_eq!(firsts(&cache, A, 0, 9, usize::MAX), None);
        assert_eq!(firsts(&cache, A, 1, 9, usize::MAX), Some((vec![1], 2)));
        assert_eq!(firsts(&cache, B, 0, 9, usize::MAX), Some((vec![0, 1], 2)));
        assert_eq!(cache.held_bytes(), 3 * COST);
    }

    #[test]
    fn truncated_batches_are_gone_and_their_marks_do_no_harm() {
        let cache = TailCache::new(3 * COST);
        put(&cache, A, 0, 10);
        put(&cache, A, 10, 10);
        cache.truncate(A, Offset(10));
        assert_eq!(firsts(&cache, A, 10, 99, usize::MAX), None);
        put(&cache, A, 10, 5);
        assert_eq!(firsts(&cache, A, 0, 99, usize::MAX), Some((vec![0, 10], 15)));
        put(&cache, B, 0, 1);
        put(&cache, B, 1, 1);
        assert_eq!(
            firsts(&cache, A, 10, 99, usize::MAX),
            Some((vec![10], 15)),
            "only the oldest went"
        );
        cache.remove(B);
        assert_eq!(cache.held_bytes(), COST);
    }

    #[test]
    fn a_run_has_no_hole() {
        let cache = TailCache::new(9 * COST);
        put(&cache, A, 0, 1);
        put(&cache, A, 7, 1);
        assert_eq!(firsts(&cache, A, 0, 99, usize::MAX), None);
        assert_eq!(firsts(&cache, A, 7, 99, usize::MAX), Some((vec![7], 8)));
    }

    #[test]
    fn marks_stay_bounded_without_eviction() {
        let cache = TailCache::new(9 * COST);
        for _ in 0..10_000 {
            put(&cache, A, 0, 1);
            cache.truncate(A, Offset(0));
        }
        assert!(cache.inner.lock().order.len() < 1100);
    }
}
