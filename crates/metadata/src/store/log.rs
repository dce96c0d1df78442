//! Raft's log, vote and pointers.

use std::fmt::Debug;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;
use std::time::Duration;

use openraft::storage::{LogFlushed, LogState, RaftLogStorage};
use openraft::{AnyError, ErrorSubject, ErrorVerb, OptionalSend, RaftLogReader, StorageIOError};
use rocksdb::{Direction, IteratorMode, WriteBatch};
use tidelog_types::crash::point;
use tidelog_types::mutant::{self, Mutant};
use tokio::sync::watch;

use super::db::{Db, DbError};
use super::keys::{RAFT, RaftKey};
use super::snapshot::{Durable, SnapshotFile};
use crate::codec::raft::{entry_from, entry_to, log_id_from, log_id_to, vote_from, vote_to};
use crate::codec::{DecodeError, Value, decode, encode};
use crate::raft_types::{Entry, LogId, StorageError, TypeConfig, Vote};

/// Most bytes of entries that replication reads at a time; always at least one entry.
const MAX_READ_BYTES: usize = 4 * 1024 * 1024;
/// How long a purge waits for the snapshot that covers it: by far longer than the largest image
/// takes to be written.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_mins(1);

/// The log store. A vote and a log entry are durable when they are answered; both go through one
/// queue, in order. A purge waits for the snapshot that covers it.
#[derive(Clone)]
pub(crate) struct LogStore {
    db: Arc<Db>,
    /// How far a snapshot on stable storage reaches.
    snapshot: watch::Receiver<Durable>,
}

impl LogStore {
    pub(crate) fn new(db: Arc<Db>, snapshots: &SnapshotFile) -> Self {
        Self {
            db,
            snapshot: snapshots.durable(),
        }
    }

    /// One whose purges wait for nothing: openraft's suite purges without snapshots.
    #[cfg(test)]
    pub(super) fn unguarded(self) -> Self {
        let (_, snapshot) = watch::channel(Durable::Upto(Some(u64::MAX)));
        Self { snapshot, ..self }
    }

    /// Waits until a snapshot that covers the log up to `index` is on stable storage.
    ///
    /// openraft orders the purge after a snapshot that it *built*. One that is *installed* it hands
    /// to the state machine's task, and has the log purged meanwhile: a crash in between would
    /// leave a node that claims the log up to there and has neither entries nor state (M27).
    async fn wait_for_snapshot(&self, index: u64) -> Result<(), DbError> {
        let mut snapshot = self.snapshot.clone();
        let covers = snapshot.wait_for(|durable| match durable {
            Durable::Upto(last) => *last >= Some(index),
            Durable::Never(_) => true,
        });
        let never = |why: String| {
            DbError::Snapshot(format!(
                "does not cover the log up to {index}, which is kept: {why}"
            ))
        };
        match tokio::time::timeout(SNAPSHOT_TIMEOUT, covers).await {
            Ok(Ok(durable)) => match &*durable {
                Durable::Upto(_) => Ok(()),
                Durable::Never(why) => Err(never(why.clone())),
            },
            Ok(Err(_)) => Err(never("the state machine is gone".to_owned())),
            Err(elapsed) => Err(never(elapsed.to_string())),
        }
    }

    fn get(&self, key: RaftKey) -> Result<Option<Value>, DbError> {
        let bytes = self.db.rocks().get_cf(&self.db.family(RAFT), key.bytes())?;
        Ok(bytes.as_deref().map(decode).transpose()?)
    }

    fn get_log_id(&self, key: RaftKey) -> Result<Option<LogId>, DbError> {
        match self.get(key)? {
            None => Ok(None),
            Some(Value::LogId(id)) => Ok(Some(log_id_from(&id))),
            Some(_) => Err(DecodeError::Field("log id").into()),
        }
    }

    fn last_log_id(&self) -> Result<Option<LogId>, DbError> {
        let end = RaftKey::after_log();
        let mut backwards = self.db.rocks().iterator_cf(
            &self.db.family(RAFT),
            IteratorMode::From(&end, Direction::Reverse),
        );
        match backwards.next().transpose()? {
            Some((key, value)) if key.as_ref() >= RaftKey::Log(0).bytes().as_slice() => {
                Ok(Some(decode_entry(&value)?.log_id))
            }
            _ => Ok(None),
        }
    }

    fn read(&self, first: u64, end: u64, max_bytes: usize) -> Result<Vec<Entry>, DbError> {
        let (mut entries, mut bytes) = (Vec::new(), 0);
        let start = RaftKey::Log(first).bytes();
        let family = self.db.family(RAFT);
        let end = if end == u64::MAX {
            RaftKey::after_log()
        } else {
            RaftKey::Log(end).bytes()
        };
        for item in self
            .db
            .rocks()
            .iterator_cf(&family, IteratorMode::From(&start, Direction::Forward))
        {
            let (key, value) = item?;
            if key.as_ref() >= end.as_slice() || (bytes > 0 && bytes + value.len() > max_bytes) {
                break;
            }
            bytes += value.len();
            entries.push(decode_entry(&value)?);
        }
        Ok(entries)
    }

    async fn put(&self, key: RaftKey, value: Value, sync: bool) -> Result<(), DbError> {
        let mut batch = WriteBatch::default();
        batch.put_cf(&self.db.family(RAFT), key.bytes(), encode(value));
        self.db.write(batch, sync).await
    }
}

fn decode_entry(bytes: &[u8]) -> Result<Entry, DecodeError> {
    match decode(bytes)? {
        Value::Entry(entry) => entry_from(entry),
        _ => Err(DecodeError::Field("log entry")),
    }
}

fn failed(subject: ErrorSubject<u64>, verb: ErrorVerb, error: &DbError) -> StorageError {
    StorageIOError::new(subject, verb, AnyError::error(error)).into()
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, StorageError> {
        let first = match range.start_bound() {
            Bound::Included(first) => *first,
            Bound::Excluded(before) => before + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(last) => last + 1,
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        self.read(first, end, usize::MAX)
            .map_err(|error| failed(ErrorSubject::Logs, ErrorVerb::Read, &error))
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, StorageError> {
        self.read(start, end, MAX_READ_BYTES)
            .map_err(|error| failed(ErrorSubject::Logs, ErrorVerb::Read, &error))
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, StorageError> {
        let state = || {
            let last_purged_log_id = self.get_log_id(RaftKey::Purged)?;
            Ok(LogState {
                last_purged_log_id,
                last_log_id: self.last_log_id()?.or(last_purged_log_id),
            })
        };
        state().map_err(|error| failed(ErrorSubject::Logs, ErrorVerb::Read, &error))
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        let sync = !mutant::is_on(Mutant::AnswerVoteBeforeSync);
        self.put(RaftKey::Vote, Value::Vote(vote_to(vote)), sync)
            .await
            .map_err(|error| failed(ErrorSubject::Vote, ErrorVerb::Write, &error))?;
        point("crash:metadata/vote/saved");
        Ok(())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        match self.get(RaftKey::Vote) {
            Ok(None) => Ok(None),
            Ok(Some(Value::Vote(vote))) => Ok(Some(vote_from(&vote))),
            Ok(Some(_)) => Err(failed(
                ErrorSubject::Vote,
                ErrorVerb::Read,
                &DecodeError::Field("vote").into(),
            )),
            Err(error) => Err(failed(ErrorSubject::Vote, ErrorVerb::Read, &error)),
        }
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        // Unsynced: an older pointer after a crash only means that less is applied before the
        // leader says more.
        let Some(id) = committed else { return Ok(()) };
        self.put(RaftKey::Committed, Value::LogId(log_id_to(&id)), false)
            .await
            .map_err(|error| failed(ErrorSubject::Store, ErrorVerb::Write, &error))?;
        point("crash:metadata/committed/saved");
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        self.get_log_id(RaftKey::Committed)
            .map_err(|error| failed(ErrorSubject::Store, ErrorVerb::Read, &error))
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<TypeConfig>) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let batch = {
            let family = self.db.family(RAFT);
            let mut batch = WriteBatch::default();
            for entry in entries {
                let key = RaftKey::Log(entry.log_id.index).bytes();
                batch.put_cf(&family, key, encode(Value::Entry(entry_to(entry))));
            }
            batch
        };
        match self.db.write(batch, true).await {
            Ok(()) => {
                point("crash:metadata/log/appended");
                callback.log_io_completed(Ok(()));
                Ok(())
            }
            Err(error) => {
                callback.log_io_completed(Err(std::io::Error::other(error.to_string())));
                Err(failed(ErrorSubject::Logs, ErrorVerb::Write, &error))
            }
        }
    }

    async fn truncate(&mut self, log_id: LogId) -> Result<(), StorageError> {
        let mut batch = WriteBatch::default();
        let from = RaftKey::Log(log_id.index).bytes();
        batch.delete_range_cf(&self.db.family(RAFT), from, RaftKey::after_log());
        self.db
            .write(batch, true)
            .await
            .map_err(|error| failed(ErrorSubject::Log(log_id), ErrorVerb::Delete, &error))?;
        point("crash:metadata/log/truncated");
        Ok(())
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), StorageError> {
        let failed = |error: &DbError| failed(ErrorSubject::Log(log_id), ErrorVerb::Delete, error);
        self.wait_for_snapshot(log_id.index)
            .await
            .map_err(|error| failed(&error))?;
        let mut batch = WriteBatch::default();
        {
            let family = self.db.family(RAFT);
            batch.put_cf(
                &family,
                RaftKey::Purged.bytes(),
                encode(Value::LogId(log_id_to(&log_id))),
            );
            batch.delete_range_cf(
                &family,
                RaftKey::Log(0).bytes(),
                RaftKey::Log(log_id.index + 1).bytes(),
            );
        }
        self.db.write(batch, true).await.map_err(|error| failed(&error))?;
        point("crash:metadata/log/purged");
        Ok(())
    }
}
