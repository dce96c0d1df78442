//! The state machine: commands decided and replayed in log order, the image published to readers.
//!
//! The changes of the image, the last applied log id and the membership are one write, so the state
//! on disk is always that of one log index. The write is not synced: the log is, and entries are
//! applied again after a crash.

use std::io::Cursor;
use std::sync::Arc;

use openraft::storage::RaftStateMachine;
use openraft::{
    AnyError, EntryPayload, ErrorSubject, ErrorVerb, OptionalSend, RaftSnapshotBuilder, StorageIOError,
};
use rocksdb::{IteratorMode, WriteBatch};
use tidelog_cluster::{Change, ClusterImage, MetadataIndex, decide};
use tidelog_types::crash::point;
use tokio::sync::watch;

use super::db::{Db, DbError};
use super::keys::{STATE, StateKey};
use super::snapshot::{SnapshotFile, SnapshotState};
use crate::codec::raft::{applied_from, applied_to};
use crate::codec::{self, DecodeError, Value, command, outcome, record};
use crate::raft_types::{
    EncodedOutcome, Entry, LogId, Snapshot, SnapshotMeta, StorageError, StoredMembership, TypeConfig,
};

/// What readers see of the state machine.
#[derive(Debug, Clone)]
pub(crate) struct Published {
    /// The image; replaced when it changes.
    pub(crate) images: watch::Sender<Arc<ClusterImage>>,
    /// The last log index that was applied, whether or not it changed the image.
    pub(crate) applied: watch::Sender<MetadataIndex>,
}

/// The state machine. Owned by Raft.
pub(crate) struct StateMachine {
    db: Arc<Db>,
    snapshots: Arc<SnapshotFile>,
    state: SnapshotState,
    published: Published,
}

impl StateMachine {
    pub(crate) fn open(db: Arc<Db>, snapshots: Arc<SnapshotFile>) -> Result<Self, DbError> {
        let state = load(&db)?;
        let published = Published {
            images: watch::Sender::new(Arc::clone(&state.image)),
            applied: watch::Sender::new(applied_index(&state)),
        };
        Ok(Self {
            db,
            snapshots,
            state,
            published,
        })
    }

    pub(crate) fn published(&self) -> &Published {
        &self.published
    }

    /// Makes `state` the whole content of the state family.
    async fn replace(&self, state: &SnapshotState) -> Result<(), DbError> {
        let batch = {
            let family = self.db.family(STATE);
            let mut batch = WriteBatch::default();
            batch.delete_range_cf(&family, vec![0x00], vec![0xff]);
            for change in state.image.to_changes() {
                put_change(&self.db, &mut batch, &change);
            }
            put_pointers(&self.db, &mut batch, state);
            batch
        };
        self.db.write(batch, true).await?;
        point("crash:metadata/state/replaced");
        Ok(())
    }

    /// Catches up with a snapshot that was put in place just before a crash.
    pub(crate) async fn recover(&mut self) -> Result<(), DbError> {
        let Some(bytes) = self.snapshots.read()? else {
            return Ok(());
        };
        let (_, snapshot) = SnapshotState::from_bytes(&bytes)?;
        self.snapshots.found(snapshot.last_applied.map(|id| id.index));
        if snapshot.last_applied > self.state.last_applied {
            self.replace(&snapshot).await?;
            self.state = snapshot;
            self.publish();
        }
        Ok(())
    }

    fn publish(&self) {
        // The image first: whoever waits for an index finds what it brought.
        self.published.images.send_if_modified(|image| {
            let changed = !Arc::ptr_eq(image, &self.state.image);
            image.clone_from(&self.state.image);
            changed
        });
        self.published.applied.send_replace(applied_index(&self.state));
    }

    async fn apply_all(
        &mut self,
        entries: impl Iterator<Item = Entry>,
    ) -> Result<Vec<EncodedOutcome>, DbError> {
        let mut next = self.state.clone();
        let (answers, batch) = {
            let mut batch = WriteBatch::default();
            let mut answers = Vec::new();
            for entry in entries {
                next.last_applied = Some(entry.log_id);
                let index = MetadataIndex(entry.log_id.index);
                answers.push(match entry.payload {
                    EntryPayload::Blank => EncodedOutcome::default(),
                    EntryPayload::Membership(membership) => {
                        next.membership = StoredMembership::new(Some(entry.log_id), membership);
                        EncodedOutcome::default()
                    }
                    EntryPayload::Normal(bytes) => {
                        let command = command::from_bytes(&bytes.0)?;
                        let (changes, outcome) = decide(&next.image, index, &command);
                        report(&changes, index);
                        for change in &changes {
                            put_change(&self.db, &mut batch, change);
                        }
                        if !changes.is_empty() {
                            Arc::make_mut(&mut next.image).replay(index, &changes);
                        }
                        EncodedOutcome(outcome::to_bytes(outcome))
                    }
                });
            }
            put_pointers(&self.db, &mut batch, &next);
            (answers, batch)
        };
        self.db.write(batch, false).await?;
        point("crash:metadata/state/applied");
        self.state = next;
        self.publish();
        Ok(answers)
    }
}

fn applied_index(state: &SnapshotState) -> MetadataIndex {
    MetadataIndex(state.last_applied.map_or(0, |id| id.index))
}

/// An unclean election is said aloud, on every broker.
fn report(changes: &[Change], index: MetadataIndex) {
    for change in changes {
        if let Change::Partition {
            partition,
            registration,
            unclean: true,
        } = change
        {
            tracing::warn!(
                %partition, %index, leader = ?registration.leader, epoch = %registration.leader_epoch,
                "unclean leader election: acknowledged records may be lost"
            );
        }
    }
}

fn put_change(db: &Db, batch: &mut WriteBatch, change: &Change) {
    let family = db.family(STATE);
    match (StateKey::of(change), change) {
        (Some(key), _) => {
            batch.put_cf(
                &family,
                key.bytes(),
                codec::encode(Value::Record(record::to_message(change))),
            );
        }
        (None, Change::TopicDeleted(id)) => {
            batch.delete_cf(&family, StateKey::Topic(*id).bytes());
            let (first, end) = StateKey::partitions_of(*id);
            batch.delete_range_cf(&family, first, end);
        }
        (None, _) => unreachable!("every change but a deletion has its key"),
    }
}

fn put_pointers(db: &Db, batch: &mut WriteBatch, state: &SnapshotState) {
    let family = db.family(STATE);
    let applied = Value::Applied(applied_to(state.last_applied.as_ref(), &state.membership));
    batch.put_cf(&family, StateKey::Applied.bytes(), codec::encode(applied));
    let index = Value::Record(record::index_to(state.image.index));
    batch.put_cf(&family, StateKey::ImageIndex.bytes(), codec::encode(index));
}

fn load(db: &Db) -> Result<SnapshotState, DbError> {
    let mut applied = (None, StoredMembership::default());
    let (mut changes, mut index) = (Vec::new(), MetadataIndex(0));
    for item in db.rocks().iterator_cf(&db.family(STATE), IteratorMode::Start) {
        let (_, value) = item?;
        match codec::decode(&value)? {
            Value::Applied(stored) => applied = applied_from(stored),
            Value::Record(stored) => match record::from_message(stored)? {
                record::Stored::Change(change) => changes.push(change),
                record::Stored::ImageIndex(stored) => index = stored,
            },
            _ => return Err(DecodeError::Field("state value").into()),
        }
    }
    record::check(&changes)?;
    let mut image = ClusterImage::default();
    image.replay(index, &changes);
    Ok(SnapshotState {
        last_applied: applied.0,
        membership: applied.1,
        image: Arc::new(image),
    })
}

fn failed(subject: ErrorSubject<u64>, verb: ErrorVerb, error: &DbError) -> StorageError {
    StorageIOError::new(subject, verb, AnyError::error(error)).into()
}

/// Runs what blocks on a thread that may.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, DbError> + Send + 'static,
) -> Result<T, DbError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(DbError::Snapshot(format!("was not written: {error}"))),
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), StorageError> {
        Ok((self.state.last_applied, self.state.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<EncodedOutcome>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        self.apply_all(entries.into_iter())
            .await
            .map_err(|error| failed(ErrorSubject::StateMachine, ErrorVerb::Write, &error))
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        SnapshotBuilder {
            state: self.state.clone(),
            snapshots: Arc::clone(&self.snapshots),
        }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Cursor<Vec<u8>>>, StorageError> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Box<Cursor<Vec<u8>>>,
    ) -> Result<(), StorageError> {
        let snapshots = Arc::clone(&self.snapshots);
        let last_applied = meta.last_log_id.map(|id| id.index);
        let install = async {
            let bytes = snapshot.into_inner();
            let (_, state) = SnapshotState::from_bytes(&bytes)?;
            blocking(move || snapshots.replace(last_applied, &bytes)).await?;
            self.replace(&state).await?;
            Ok(state)
        };
        let state = install.await.map_err(|error: DbError| {
            self.snapshots.give_up(error.to_string());
            failed(
                ErrorSubject::Snapshot(Some(meta.signature())),
                ErrorVerb::Write,
                &error,
            )
        })?;
        tracing::info!(index = %applied_index(&state), "installed a metadata snapshot");
        self.state = state;
        self.publish();
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, StorageError> {
        let snapshots = Arc::clone(&self.snapshots);
        let read = move || {
            let Some(bytes) = snapshots.read()? else {
                return Ok(None);
            };
            let (id, state) = SnapshotState::from_bytes(&bytes)?;
            Ok(Some(Snapshot {
                meta: state.meta(id),
                snapshot: Box::new(Cursor::new(bytes)),
            }))
        };
        blocking(read)
            .await
            .map_err(|error| failed(ErrorSubject::Snapshot(None), ErrorVerb::Read, &error))
    }
}

/// Writes a snapshot of the state as it was when the builder was made.
pub(crate) struct SnapshotBuilder {
    state: SnapshotState,
    snapshots: Arc<SnapshotFile>,
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    async fn build_snapshot(&mut self) -> Result<Snapshot, StorageError> {
        let (state, snapshots) = (self.state.clone(), Arc::clone(&self.snapshots));
        let build = move || {
            let bytes = state.to_bytes();
            snapshots.replace(state.last_applied.map(|id| id.index), &bytes)?;
            Ok(Snapshot {
                meta: state.meta(state.id()),
                snapshot: Box::new(Cursor::new(bytes)),
            })
        };
        blocking(build)
            .await
            .map_err(|error| failed(ErrorSubject::Snapshot(None), ErrorVerb::Write, &error))
    }
}
