//! The disk of a broker's record store: the model that every store is held to, with chance in its
//! crashes.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use tidelog_group::Record;
use tidelog_history::event::Entry;
use tidelog_log::disk;
use tidelog_log::{PartitionLog, Progress};
use tidelog_replica::LogState;
use tidelog_types::{BatchInfo, DirectoryId, Offset, TopicIdPartition};

use crate::random::Random;

/// A batch in a log.
#[derive(Debug, Clone)]
pub(crate) struct Batch {
    pub(crate) info: BatchInfo,
    /// The same as histories name it.
    pub(crate) entry: Arc<Entry>,
    /// What a coordinator wrote in it.
    pub(crate) records: Option<Arc<Vec<Record>>>,
}

impl disk::Stored for Batch {
    fn info(&self) -> &BatchInfo {
        &self.info
    }
}

/// A change of one partition's log, on its way to the disk.
pub(crate) type Write = disk::Write<Batch>;

/// One data directory.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    pub(crate) directory: DirectoryId,
    model: disk::Disk<TopicIdPartition, Batch>,
}

impl Disk {
    /// An empty directory.
    pub(crate) fn new(directory: DirectoryId) -> Self {
        Self {
            directory,
            model: disk::Disk::default(),
        }
    }

    /// What a partition's log remembers.
    pub(crate) fn load(&self, partition: TopicIdPartition) -> LogState {
        let PartitionLog {
            log_start,
            log_end,
            high_watermark,
            epochs,
            producers,
        } = self.model.load(partition).unwrap_or_default();
        LogState {
            log_start,
            log_end,
            high_watermark,
            epochs,
            producers,
        }
    }

    /// Everything in a partition's log, oldest first.
    pub(crate) fn entries(&self, partition: TopicIdPartition) -> Vec<Arc<Entry>> {
        let batches = self.model.batches(partition);
        batches.map(|batch| Arc::clone(&batch.entry)).collect()
    }

    /// Whole written batches from the one that holds `from` on, at most `max`, that begin below
    /// `until`.
    pub(crate) fn read(
        &self,
        partition: TopicIdPartition,
        from: Offset,
        until: Offset,
        max: usize,
    ) -> Vec<Batch> {
        let batches = self.model.read(partition, from, until);
        batches.take(max).cloned().collect()
    }

    /// Writes at most `max` steps. Gives what is reported of them.
    pub(crate) fn write(&mut self, max: usize) -> Vec<Progress<TopicIdPartition>> {
        let mut written = Vec::new();
        for _ in 0..max {
            let progress = self.model.write_next();
            written.extend(progress.expect("an append begins where the log on disk ends"));
        }
        written
    }

    /// Loses what was not synced, except for a prefix of it that made it to the disk.
    pub(crate) fn crash(&mut self, random: &mut Random) {
        let kept = random.below(self.model.unsynced_writes() as u64 + 1) as usize;
        self.model.crash(kept);
    }

    /// Writes and syncs everything, as an orderly stop does.
    pub(crate) fn close(&mut self) {
        self.model
            .close()
            .expect("an append begins where the log on disk ends");
    }
}

impl Deref for Disk {
    type Target = disk::Disk<TopicIdPartition, Batch>;

    fn deref(&self) -> &Self::Target {
        &self.model
    }
}

impl DerefMut for Disk {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.model
    }
}
