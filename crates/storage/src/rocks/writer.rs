//! The write thread: the only one that changes the database.
//!
//! 1. It takes from the queue as many commands as may go together.
//! 2. Appends, trims and checkpoints are staged into one write; any other command first sees that
//!    write done, then runs alone.
//! 3. After the write returned, what it brought becomes readable; then its ticket goes to the
//!    syncer, then the listener is told.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use tidelog_log::{Append, Progress, StoreError, Truncate};
use tidelog_types::crash::point;
use tidelog_types::{BatchInfo, ClusterId, LocalPartition, Offset, TopicIdPartition};

use super::codec;
use super::db::{Changes, Db, Family};
use super::keys::{self, MetaKind, StateKind};
use super::queue::{Command, Group};
use super::reader;
use super::shared::Shared;
use super::tails::Tail;
use super::times::{self, TimeCursor};

/// The writer's own view of a log: what it will be once everything staged is written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogTail {
    pub(crate) start: Offset,
    pub(crate) end: Offset,
    pub(crate) times: TimeCursor,
}

/// The state of the write thread.
pub(crate) struct Writer {
    shared: Arc<Shared>,
    logs: HashMap<LocalPartition, LogTail>,
    next_local: u32,
}

/// A write under construction.
#[derive(Default)]
struct Stage {
    changes: Changes,
    effects: Vec<Effect>,
    progress: Vec<Progress>,
}

/// What becomes true for readers once a stage is written.
enum Effect {
    Cache(LocalPartition, BatchInfo, Bytes),
    Log(LocalPartition, LogEffect),
}

/// What becomes true of one log.
enum LogEffect {
    /// It ends there.
    Extended(Offset),
    /// It is empty and begins there.
    Restarted(Offset),
    /// What lies below is no part of it any more.
    Trimmed(Offset),
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>, logs: HashMap<LocalPartition, LogTail>, next_local: u32) -> Self {
        Self {
            shared,
            logs,
            next_local,
        }
    }

    /// Runs until the queue is closed and empty, or a write fails.
    pub(crate) fn run(mut self) {
        while let Some(group) = self.shared.queue.next_group() {
            let bytes = group.bytes;
            if let Err(error) = self.perform(group) {
                self.shared.health.poison(error);
                self.shared.queue.abandon();
                break;
            }
            self.shared.queue.written(bytes);
        }
        self.shared.tickets.close();
    }

    fn perform(&mut self, group: Group) -> Result<(), StoreError> {
        // The syncer may have failed while this thread slept: nothing is written after that.
        self.shared.health.check()?;
        let mut stage = Stage::default();
        for command in group.commands {
            match command {
                Command::Append(append) => self.stage_append(&mut stage, append)?,
                Command::Checkpoint(local, offset) => self.stage_checkpoint(&mut stage, local, offset),
                Command::Trim(local, offset) => self.stage_trim(&mut stage, local, offset),
                alone => {
                    self.commit(std::mem::take(&mut stage), false)?;
                    self.perform_alone(alone)?;
                }
            }
        }
        self.commit(stage, false)
    }

    fn perform_alone(&mut self, command: Command) -> Result<(), StoreError> {
        match command {
            Command::Truncate(truncate) => self.truncate(truncate),
            Command::Create(partition, reply) => answer(&reply, self.create(partition)),
            Command::Delete(local, reply) => answer(&reply, self.delete(local)),
            Command::Reclaim(trimmed, reply) => answer(&reply, self.reclaim(&trimmed)),
            Command::Barrier(reply) => answer(&reply, Ok(())),
            Command::AdoptCluster(cluster, reply) => answer(&reply, self.adopt_cluster(cluster)),
            Command::Append(_) | Command::Checkpoint(..) | Command::Trim(..) => {
                unreachable!("these are staged, never performed alone")
            }
        }
    }

    fn stage_append(&mut self, stage: &mut Stage, append: Append) -> Result<(), StoreError> {
        let local = append.partition;
        let db = &self.shared.engine.db;
        let Some(log) = self.logs.get_mut(&local) else {
            tracing::debug!(%local, "an append to a partition that was deleted");
            return Ok(());
        };
        for batch in &append.batches {
            if batch.info.base_offset != log.end {
                return Err(StoreError::Failed(format!(
                    "an append to {local} begins at {}, its log ends at {}",
                    batch.info.base_offset, log.end
                )));
            }
            log.end = batch.info.end_offset();
            stage.changes.put(
                db,
                Family::Records,
                &keys::record_key(local, batch.info.base_offset),
                &batch.bytes,
            );
            log.times
                .advance(db, &mut stage.changes, local, &batch.info, batch.bytes.len());
        }
        for entry in &append.epochs {
            let value = codec::encode_epoch_start(entry.start_offset);
            stage
                .changes
                .put(db, Family::State, &keys::epoch_key(local, entry.epoch), &value);
        }
        for producer in &append.producers {
            let value = codec::encode_producer(producer);
            stage
                .changes
                .put(db, Family::State, &keys::producer_key(local, producer.id), &value);
        }
        let batches = append.batches.into_iter();
        stage
            .effects
            .extend(batches.map(|batch| Effect::Cache(local, batch.info, batch.bytes)));
        stage
            .effects
            .push(Effect::Log(local, LogEffect::Extended(log.end)));
        stage.progress.push(Progress {
            partition: local,
            end: log.end,
        });
        Ok(())
    }

    fn stage_checkpoint(&mut self, stage: &mut Stage, local: LocalPartition, offset: Offset) {
        if self.logs.contains_key(&local) {
            let key = keys::state_key(local, StateKind::HighWatermark);
            stage.changes.put(
                &self.shared.engine.db,
                Family::State,
                &key,
                &codec::encode_offset(offset),
            );
        }
    }

    fn stage_trim(&mut self, stage: &mut Stage, local: LocalPartition, log_start: Offset) {
        let db = &self.shared.engine.db;
        let Some(log) = self.logs.get_mut(&local) else {
            return;
        };
        if log_start > log.start {
            log.start = log_start;
            let key = keys::state_key(local, StateKind::LogStart);
            stage
                .changes
                .put(db, Family::State, &key, &codec::encode_offset(log_start));
            stage
                .effects
                .push(Effect::Log(local, LogEffect::Trimmed(log_start)));
        }
        if log_start > log.end {
            log.end = log_start;
            log.times = TimeCursor::EMPTY;
            // Of an empty log nothing is remembered. The batches go when space is reclaimed: they
            // lie below the start.
            for kind in [StateKind::Epoch, StateKind::Producer] {
                let (from, until) = (keys::state_key(local, kind), keys::state_kind_end(local, kind));
                stage.changes.delete_range(db, Family::State, &from, &until);
            }
            let (from, until) = (keys::partition_start(local), keys::partition_end(local));
            stage.changes.delete_range(db, Family::Times, &from, &until);
            stage
                .effects
                .push(Effect::Log(local, LogEffect::Restarted(log_start)));
            stage.progress.push(Progress {
                partition: local,
                end: log.end,
            });
        }
    }

    /// Writes a stage, makes it readable and reports it.
    fn commit(&mut self, stage: Stage, sync: bool) -> Result<(), StoreError> {
        let shared = Arc::clone(&self.shared);
        if !stage.changes.is_empty() {
            point("crash:storage/write/begun");
            shared.engine.write(stage.changes, sync)?;
            point(if sync {
                "crash:storage/write/synced-alone"
            } else {
                "crash:storage/write/written"
            });
        } else if stage.progress.is_empty() {
            return Ok(());
        }
        for effect in stage.effects {
            self.apply(&shared, effect)?;
        }
        shared.tickets.publish(&stage.progress, shared.engine.sequence());
        point("crash:storage/ticket/published");
        shared.health.written(&stage.progress);
        shared.tickets.announce();
        Ok(())
    }

    fn apply(&mut self, shared: &Shared, effect: Effect) -> Result<(), StoreError> {
        let (local, effect) = match effect {
            Effect::Cache(local, info, bytes) => {
                shared.cache.insert(local, &info, bytes);
                return Ok(());
            }
            Effect::Log(local, effect) => (local, effect),
        };
        // Only this thread deletes partitions, and it stages nothing beside a deletion.
        let (Some(log), Ok(tail)) = (self.logs.get_mut(&local), shared.tails.get(local)) else {
            return Ok(());
        };
        match effect {
            LogEffect::Extended(end) => tail.extend(end),
            LogEffect::Restarted(start) => {
                shared.cache.remove(local);
                tail.raise_start(start);
                tail.cut(start);
            }
            LogEffect::Trimmed(below) => {
                tail.raise_start(below);
                shared.to_reclaim.trimmed(local, below);
                // Here and not when it was staged: its entries may have been written just now.
                log.times.trim(&shared.engine.db, local, below)?;
            }
        }
        tail.set_size_bytes(log.times.size_bytes());
        Ok(())
    }

    fn truncate(&mut self, truncate: Truncate) -> Result<(), StoreError> {
        let local = truncate.partition;
        let Some(mut log) = self.logs.get(&local).copied() else {
            return Ok(());
        };
        let shared = Arc::clone(&self.shared);
        let db = &shared.engine.db;
        let end = truncated_end(db, local, log, truncate.to)?;
        let mut changes = Changes::default();
        for producer in &truncate.producers {
            let value = codec::encode_producer(producer);
            changes.put(db, Family::State, &keys::producer_key(local, producer.id), &value);
        }
        for &producer in &truncate.forgotten {
            changes.delete(db, Family::State, &keys::producer_key(local, producer));
        }
        let is_cut = end < log.end;
        if is_cut {
            shared.tails.get(local)?.cut(end);
            shared.cache.truncate(local, end);
            stage_cut(db, &mut changes, local, &mut log, end)?;
        }
        let progress = vec![Progress {
            partition: local,
            end,
        }];
        self.commit(
            Stage {
                changes,
                effects: Vec::new(),
                progress,
            },
            true,
        )?;
        if is_cut {
            log.times.recover_end(db, local, log.start, end)?;
            self.logs.insert(local, log);
            shared.tails.get(local)?.set_size_bytes(log.times.size_bytes());
        }
        Ok(())
    }

    fn create(&mut self, partition: TopicIdPartition) -> Result<LocalPartition, StoreError> {
        if let Some(local) = self.shared.tails.find(partition) {
            return Err(StoreError::AlreadyExists { partition, local });
        }
        let local = LocalPartition(self.next_local);
        let db = &self.shared.engine.db;
        let mut changes = Changes::default();
        let key = keys::state_key(local, StateKind::Partition);
        changes.put(db, Family::State, &key, &codec::encode_partition(partition));
        let next = codec::encode_next_local(self.next_local + 1);
        changes.put(
            db,
            Family::Meta,
            &keys::meta_key(MetaKind::NextLocalPartition),
            &next,
        );
        self.commit(
            Stage {
                changes,
                ..Stage::default()
            },
            true,
        )?;
        self.next_local += 1;
        self.logs.insert(
            local,
            LogTail {
                start: Offset::ZERO,
                end: Offset::ZERO,
                times: TimeCursor::EMPTY,
            },
        );
        self.shared
            .tails
            .insert(local, Tail::new(partition, Offset::ZERO, Offset::ZERO));
        Ok(local)
    }

    fn delete(&mut self, local: LocalPartition) -> Result<(), StoreError> {
        if self.logs.remove(&local).is_none() {
            return Err(StoreError::UnknownPartition(local));
        }
        self.shared.tails.remove(local);
        self.shared.cache.remove(local);
        let db = &self.shared.engine.db;
        let mut changes = Changes::default();
        for family in [Family::Records, Family::Times, Family::State] {
            changes.delete_range(
                db,
                family,
                &keys::partition_start(local),
                &keys::partition_end(local),
            );
        }
        self.commit(
            Stage {
                changes,
                ..Stage::default()
            },
            true,
        )?;
        self.shared.to_reclaim.deleted(local);
        Ok(())
    }

    /// Deletes what lies below log starts, all of them in one write, after their advance is on
    /// stable storage.
    fn reclaim(&mut self, trimmed: &[(LocalPartition, Offset)]) -> Result<(), StoreError> {
        self.shared.engine.sync()?;
        let db = &self.shared.engine.db;
        let mut changes = Changes::default();
        for &(local, log_start) in trimmed {
            let Some(log) = self.logs.get(&local) else {
                continue;
            };
            assert!(
                log_start <= log.start,
                "only what lies below the log start is reclaimed"
            );
            // A batch that spans the log start stays whole.
            let below = match reader::last_batch(db, local, log_start)? {
                Some(batch) if batch.end_offset() > log_start => batch.base_offset,
                _ => log_start,
            };
            let (from, until) = (keys::partition_start(local), keys::record_key(local, below));
            changes.delete_range(db, Family::Records, &from, &until);
            times::trim(db, &mut changes, local, below);
        }
        self.commit(
            Stage {
                changes,
                ..Stage::default()
            },
            false,
        )
    }

    fn adopt_cluster(&mut self, cluster: ClusterId) -> Result<(), StoreError> {
        let shared = Arc::clone(&self.shared);
        let mut identity = shared.identity.lock();
        let adopted = codec::DirectoryIdentity {
            cluster: Some(cluster),
            ..*identity
        };
        let mut changes = Changes::default();
        let key = keys::meta_key(MetaKind::Directory);
        changes.put(
            &shared.engine.db,
            Family::Meta,
            &key,
            &codec::encode_directory(&adopted),
        );
        self.commit(
            Stage {
                changes,
                ..Stage::default()
            },
            true,
        )?;
        *identity = adopted;
        Ok(())
    }
}

/// Answers a caller. Only a failure of the store itself ends the writer.
fn answer<T>(reply: &super::queue::Reply<T>, result: Result<T, StoreError>) -> Result<(), StoreError> {
    let failed = match &result {
        Err(error @ (StoreError::Failed(_) | StoreError::Corrupt { .. })) => Err(error.clone()),
        _ => Ok(()),
    };
    // A caller that gave up has no use for the answer.
    let _ = reply.send(result);
    failed
}

/// Where a log ends when what begins at or after `to` is gone, and what spans it too.
fn truncated_end(db: &Db, local: LocalPartition, log: LogTail, to: Offset) -> Result<Offset, StoreError> {
    if to >= log.end {
        return Ok(log.end);
    }
    let to = to.max(log.start);
    Ok(match reader::last_batch(db, local, to)? {
        Some(batch) if batch.end_offset() > to => batch.base_offset.max(log.start),
        _ => to,
    })
}

/// Removes everything that a log holds from `end` on.
fn stage_cut(
    db: &Db,
    changes: &mut Changes,
    local: LocalPartition,
    log: &mut LogTail,
    end: Offset,
) -> Result<(), StoreError> {
    log.end = end;
    // A batch that spans the log start, cut there, begins below the new end.
    let first = match reader::last_batch(db, local, end)? {
        Some(batch) if batch.end_offset() > end => batch.base_offset,
        _ => end,
    };
    changes.delete_range(
        db,
        Family::Records,
        &keys::record_key(local, first),
        &keys::partition_end(local),
    );
    log.times.truncate(db, changes, local, first)?;
    for entry in reader::epochs(db, local)?
        .iter()
        .filter(|entry| entry.start_offset >= end)
    {
        changes.delete(db, Family::State, &keys::epoch_key(local, entry.epoch));
    }
    if reader::offset_of(db, local, StateKind::HighWatermark)? > end {
        let key = keys::state_key(local, StateKind::HighWatermark);
        changes.put(db, Family::State, &key, &codec::encode_offset(end));
    }
    Ok(())
}
