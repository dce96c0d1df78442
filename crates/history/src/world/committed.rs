//! The committed log of a partition: what high watermarks have covered, whoever's.

use std::sync::Arc;

use tidelog_types::Offset;

use crate::event::Entry;

/// Everything that was ever below some replica's high watermark, oldest first. Nothing leaves it:
/// retention is no reason to be read otherwise.
#[derive(Debug, Clone, Default)]
pub(crate) struct Committed {
    entries: Vec<Arc<Entry>>,
}

impl Committed {
    /// The offset after the last committed record.
    pub(crate) fn end(&self) -> Offset {
        self.entries.last().map_or(Offset::ZERO, |last| last.end_offset())
    }

    /// What is committed from an offset on, the batch that holds it included.
    pub(crate) fn entries_from(&self, offset: Offset) -> &[Arc<Entry>] {
        let first = self.entries.partition_point(|entry| entry.end_offset() <= offset);
        &self.entries[first..]
    }

    /// Whether this very batch is committed.
    pub(crate) fn has(&self, entry: &Entry) -> bool {
        self.entries_from(entry.base_offset)
            .first()
            .is_some_and(|committed| **committed == *entry)
    }

    pub(super) fn push(&mut self, entry: &Arc<Entry>) {
        self.entries.push(Arc::clone(entry));
    }

    /// How a batch of a replica differs from what is committed there; `None` if it does not, or if
    /// nothing is committed there.
    pub(super) fn difference(&self, entry: &Arc<Entry>, log_start: Offset) -> Option<String> {
        let over = self.entries_from(entry.base_offset);
        let first = over.first()?;
        if Arc::ptr_eq(first, entry) || **first == **entry {
            return None;
        }
        over.iter()
            .take_while(|committed| committed.base_offset < entry.end_offset())
            .find_map(|committed| unlike(entry, committed, log_start))
    }
}

/// Compares what two batches have in common, offset by offset: a log may begin in the midst of a
/// batch.
fn unlike(entry: &Entry, committed: &Entry, log_start: Offset) -> Option<String> {
    let from = entry.base_offset.max(committed.base_offset).max(log_start);
    let until = entry.end_offset().min(committed.end_offset());
    if from >= until {
        return None;
    }
    let value = |entry: &Entry, offset: u64| entry.values[(offset - entry.base_offset.0) as usize];
    for offset in from.0..until.0 {
        let (here, there) = (value(entry, offset), value(committed, offset));
        if here != there {
            return Some(format!(
                "offset {offset} holds value {} and the committed log {}",
                here.0, there.0
            ));
        }
    }
    let stamps_differ = entry.base_offset == committed.base_offset && entry.producer != committed.producer;
    if entry.leader_epoch != committed.leader_epoch {
        Some(format!(
            "the batch at offset {from} is of epoch {} and in the committed log of epoch {}",
            entry.leader_epoch, committed.leader_epoch
        ))
    } else if stamps_differ {
        Some(format!(
            "the batch at offset {from} has another producer than in the committed log"
        ))
    } else {
        None
    }
}
