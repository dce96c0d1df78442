//! All partitions that a consumer reads: taking turns in handing out, and what there is to fetch.
//!
//! Pure: events go in, records and plans of what to fetch come out; [`super::shared`] puts a lock
//! and wake-ups around it.

use std::collections::{BTreeSet, HashMap, VecDeque};

use tidelog_record::Batch;
use tidelog_types::{LeaderEpoch, Offset, TopicId, TopicPartition};
use tokio::time::Instant;

use super::Ends;
use super::marks::Committable;
use super::options::{FetchOptions, StartAt};
use super::slot::{Lookup, Slot, Standing, Start};
use crate::error::{Error, Result};
use crate::record::ConsumedRecord;
use crate::wire::session::Assigned;

/// Names a slot. Never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct SlotId(pub(super) u64);

/// What a leader answered for one partition, checked.
#[derive(Debug)]
pub(super) struct Brought {
    pub(super) leader_epoch: LeaderEpoch,
    pub(super) high_watermark: Offset,
    pub(super) batches: Vec<Batch>,
    /// The first batch that is no good: what stands behind it is not taken.
    pub(super) damaged: Option<(Offset, String)>,
}

/// What a call for a record finds.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// A record, or what is wrong with a partition.
    pub(super) record: Option<Result<ConsumedRecord>>,
    /// Whether there may be something to fetch now that was not before.
    pub(super) is_hungry: bool,
    /// When an error that was told already may be told again, if there is nothing else.
    pub(super) repeats_at: Option<Instant>,
}

/// The partitions that a consumer reads.
#[derive(Debug)]
pub(super) struct Slots {
    pub(super) options: FetchOptions,
    pub(super) by_id: HashMap<SlotId, Slot>,
    by_name: HashMap<TopicPartition, SlotId>,
    next_id: u64,
    /// Whose turn it is in handing out: the front one, until its batch ends.
    ready: VecDeque<SlotId>,
    /// Those for which there may be something to ask.
    pub(super) todo: BTreeSet<SlotId>,
    buffered_bytes: usize,
    /// Bytes that may come with answers that are out.
    pub(super) reserved_bytes: usize,
    /// Whether something was not asked for want of room.
    pub(super) starved: bool,
}

impl Slots {
    pub(super) fn new(options: FetchOptions) -> Self {
        Self {
            options,
            by_id: HashMap::new(),
            by_name: HashMap::new(),
            next_id: 0,
            ready: VecDeque::new(),
            todo: BTreeSet::new(),
            buffered_bytes: 0,
            reserved_bytes: 0,
            starved: false,
        }
    }

    /// A partition more. It is not read before [`Self::begin`].
    pub(super) fn add(&mut self, read: Assigned, life: Option<u64>) -> SlotId {
        let id = SlotId(self.next_id);
        self.next_id += 1;
        let partition = &read.partition;
        debug_assert!(!self.by_name.contains_key(partition), "{partition} is read twice");
        self.by_name.insert(partition.clone(), id);
        self.by_id.insert(id, Slot::new(read, life));
        id
    }

    /// From now on it is read; from where the group committed if nothing else is said.
    pub(super) fn begin(&mut self, id: SlotId, from: Option<StartAt>) {
        if let Some(slot) = self.by_id.get_mut(&id)
            && slot.standing == Standing::Arriving
        {
            slot.standing = Standing::Reading;
            if let Some(from) = from {
                slot.seek(from);
            }
            self.todo.insert(id);
        }
    }

    /// Nothing of it is handed out or fetched any more; its marks stay.
    pub(super) fn leave(&mut self, id: SlotId) {
        self.with(id, |slot| {
            slot.standing = Standing::Leaving;
            slot.drop_buffer();
        });
    }

    /// It is gone.
    pub(super) fn remove(&mut self, id: SlotId) {
        if let Some(slot) = self.by_id.remove(&id) {
            self.buffered_bytes -= slot.buffered_bytes();
            self.by_name.remove(&slot.partition);
            self.todo.remove(&id);
            self.ready.retain(|ready| *ready != id);
        }
    }

    pub(super) fn id(&self, partition: &TopicPartition) -> Option<SlotId> {
        self.by_name.get(partition).copied()
    }

    /// The slot of a partition if it is this topic's.
    pub(super) fn id_of(&self, partition: &TopicPartition, topic_id: TopicId) -> Option<SlotId> {
        let id = self.id(partition)?;
        (self.by_id.get(&id)?.topic_id == topic_id).then_some(id)
    }

    pub(super) fn get(&self, partition: &TopicPartition) -> Option<&Slot> {
        self.by_id.get(&self.id(partition)?)
    }

    #[cfg(test)]
    pub(super) fn get_mut(&mut self, partition: &TopicPartition) -> Option<&mut Slot> {
        self.by_id.get_mut(&self.by_name.get(partition).copied()?)
    }

    /// Everything of one life of the member that was not given up yet.
    pub(super) fn owned(&self, life: u64) -> BTreeSet<Assigned> {
        let of_life = self.by_id.values().filter(|slot| slot.life == Some(life));
        of_life.map(Slot::as_assigned).collect()
    }

    /// Whether a slot is still there and was assigned in this life.
    pub(super) fn is_of_life(&self, id: SlotId, life: u64) -> bool {
        let slot = self.by_id.get(&id);
        slot.is_some_and(|slot| slot.life == Some(life))
    }

    /// Changes a slot and keeps the accounts: what is buffered, who is ready, who may be asked for.
    pub(super) fn with<T>(&mut self, id: SlotId, change: impl FnOnce(&mut Slot) -> T) -> Option<T> {
        let slot = self.by_id.get_mut(&id)?;
        let before = slot.buffered_bytes();
        let value = change(slot);
        self.buffered_bytes = self.buffered_bytes - before + slot.buffered_bytes();
        if slot.has_something() && !slot.queued {
            slot.queued = true;
            self.ready.push_back(id);
        }
        self.todo.insert(id);
        Some(value)
    }

    /// Takes the next record: from one partition until its batch ends, then from the next. With
    /// `ends`, only what stands below them.
    pub(super) fn take(&mut self, ends: Option<&Ends>, now: Instant) -> Taken {
        let mut passed = 0;
        let mut repeats_at: Option<Instant> = None;
        while let Some(id) = self.ready.front().copied()
            && passed < self.ready.len()
        {
            let Some(slot) = self.by_id.get_mut(&id) else {
                self.ready.pop_front();
                continue;
            };
            if !slot.has_something() {
                slot.queued = false;
                self.ready.pop_front();
                continue;
            }
            let repeats = slot.repeats_at(now);
            if repeats.is_some() || is_at_end(slot, ends) {
                repeats_at = [repeats_at, repeats].into_iter().flatten().min();
                passed += 1;
                self.ready.rotate_left(1);
                continue;
            }
            let before = slot.buffered_bytes();
            let taken = slot.next(now);
            let freed = before - slot.buffered_bytes();
            self.buffered_bytes -= freed;
            let cap = self.options.max_partition_bytes as usize;
            let has_room = before >= cap && slot.buffered_bytes() < cap;
            let is_hungry = freed > 0 && (has_room || self.starved || slot.wants_lookup().is_some());
            if is_hungry {
                self.todo.insert(id);
            }
            if !slot.is_within_batch() {
                self.ready.rotate_left(1);
            }
            if taken.is_some() {
                return Taken {
                    record: taken,
                    is_hungry,
                    repeats_at: None,
                };
            }
        }
        Taken {
            repeats_at,
            ..Taken::default()
        }
    }

    /// Whether every partition with an end has come to it.
    pub(super) fn have_reached(&self, ends: &Ends) -> bool {
        ends.iter()
            .all(|(partition, end)| self.get(partition).is_none_or(|slot| is_behind(slot, *end)))
    }

    /// Takes in an answer for one partition, unless it is not waited for any more.
    pub(super) fn brought(&mut self, id: SlotId, question: u64, brought: Brought) {
        let reset = |slot: &mut Slot| {
            if slot.in_flight != Some(question) {
                return;
            }
            slot.in_flight = None;
            slot.see_epoch(brought.leader_epoch);
            slot.high_watermark = slot.high_watermark.max(Some(brought.high_watermark));
            slot.succeeded();
            if brought.batches.is_empty() {
                slot.missed(true);
            }
            slot.take_in(brought.batches);
            if let Some((at, cause)) = brought.damaged {
                slot.fail(super::errors::damaged(&slot.partition, at, &cause));
            }
        };
        self.with(id, reset);
    }

    /// A question is answered or lost: those of its partitions that were not spoken of may be asked
    /// for again.
    pub(super) fn unanswered(&mut self, id: SlotId, question: u64, answered: bool) {
        self.with(id, |slot| {
            if slot.in_flight == Some(question) {
                slot.in_flight = None;
                if answered {
                    slot.missed(false);
                }
            }
        });
    }

    /// A partition was refused; `again_at_once` if the refusal told who to ask instead.
    pub(super) fn refused(
        &mut self,
        id: SlotId,
        question: u64,
        error: Error,
        now: Instant,
        again_at_once: bool,
    ) {
        let reset = self.options.auto_offset_reset;
        self.with(id, |slot| {
            if slot.in_flight == Some(question) {
                slot.in_flight = None;
                super::errors::refuse(slot, error, reset, now, again_at_once);
            }
        });
    }

    /// Stops reading what is no more, for these reasons; what is buffered is handed out before. A
    /// group takes its members' partitions away by itself.
    pub(super) fn lose_topics(&mut self, gone: impl Fn(&Slot) -> Option<Error>) {
        let ids: Vec<SlotId> = self.by_id.keys().copied().collect();
        for id in ids {
            let why = self
                .by_id
                .get(&id)
                .filter(|slot| slot.life.is_none())
                .and_then(&gone);
            if let Some(why) = why {
                self.with(id, |slot| slot.fail(why));
            }
        }
    }

    /// A lookup found where reading begins.
    pub(super) fn found(&mut self, id: SlotId, lookup: Lookup, offset: Offset, epoch: Option<LeaderEpoch>) {
        self.with(id, |slot| {
            if slot.start == Start::Asked(lookup) {
                if let Some(epoch) = epoch {
                    slot.see_epoch(epoch);
                }
                slot.begin_at(offset);
            }
        });
    }

    /// What may be committed, of all partitions or of some.
    pub(super) fn committable(&self, of: Option<&BTreeSet<SlotId>>) -> Vec<(SlotId, Assigned, Committable)> {
        let wanted = |id: &SlotId| of.is_none_or(|of| of.contains(id));
        self.by_id
            .iter()
            .filter(|(id, _)| wanted(id))
            .filter_map(|(id, slot)| Some((*id, slot.as_assigned(), slot.marks.committable()?)))
            .collect()
    }

    /// How many bytes may still be asked for.
    pub(super) fn room_bytes(&self) -> usize {
        let taken = self.buffered_bytes + self.reserved_bytes;
        self.options.budget_bytes().saturating_sub(taken)
    }

    #[cfg(test)]
    pub(super) fn buffered_bytes(&self) -> usize {
        self.buffered_bytes
    }
}

fn is_behind(slot: &Slot, end: u64) -> bool {
    slot.start == Start::Known && slot.position.0 >= end
}

fn is_at_end(slot: &Slot, ends: Option<&Ends>) -> bool {
    ends.and_then(|ends| ends.get(&slot.partition))
        .is_some_and(|end| is_behind(slot, *end))
}

#[cfg(test)]
mod tests;
