//! Snapshots of the cluster image: one file, replaced as a whole.
//!
//! ```text
//! magic (8) | header | record … | CRC-32C of all before (4, LE)       header and records: length (varint) ‖ Versioned
//! ```
//!
//! A new one is written aside, synced, renamed over the old one, and the folder synced, before Raft
//! purges what it covers.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use tidelog_cluster::{Change, ClusterImage, MetadataIndex};
use tidelog_proto::storage::v1 as pb;
use tidelog_types::crash::point;
use tidelog_types::mutant::{self, Mutant};
use tokio::sync::watch;

use super::db::DbError;
use crate::codec::raft::{applied_from, applied_to};
use crate::codec::{self, Value, record};
use crate::raft_types::{LogId, SnapshotMeta, StoredMembership};

const CRC_BYTES: usize = 4;
pub(super) const CURRENT: &str = "current.snapshot";
pub(super) const ASIDE: &str = "next.snapshot";

/// What a snapshot holds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SnapshotState {
    pub(crate) last_applied: Option<LogId>,
    pub(crate) membership: StoredMembership,
    pub(crate) image: Arc<ClusterImage>,
}

impl SnapshotState {
    /// What every snapshot begins with.
    pub(crate) const MAGIC: &[u8; 8] = b"TDLGMET1";

    /// The name of a snapshot of this state.
    pub(crate) fn id(&self) -> String {
        self.last_applied.as_ref().map_or_else(
            || "empty".to_owned(),
            |id| format!("{}-{:x}-{}", id.leader_id.term, id.leader_id.node_id, id.index),
        )
    }

    pub(crate) fn meta(&self, snapshot_id: String) -> SnapshotMeta {
        SnapshotMeta {
            last_log_id: self.last_applied,
            last_membership: self.membership.clone(),
            snapshot_id,
        }
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let changes = self.image.to_changes();
        let mut bytes = Self::MAGIC.to_vec();
        let header = Value::Snapshot(pb::SnapshotHeader {
            snapshot_id: self.id(),
            applied: Some(applied_to(self.last_applied.as_ref(), &self.membership)),
            records: changes.len() as u64,
            image_index: self.image.index.0,
        });
        push(&mut bytes, &codec::encode(header));
        for change in &changes {
            push(
                &mut bytes,
                &codec::encode(Value::Record(record::to_message(change))),
            );
        }
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// The state, and the snapshot's id.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<(String, Self), DbError> {
        let damaged = |what: &str| DbError::Snapshot(format!("is damaged: {what}"));
        let (body, crc) = bytes
            .split_last_chunk::<CRC_BYTES>()
            .ok_or_else(|| damaged("too short"))?;
        if crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
            return Err(damaged("its checksum is wrong"));
        }
        let mut rest = body
            .strip_prefix(Self::MAGIC)
            .ok_or_else(|| damaged("not a metadata snapshot"))?;
        let Value::Snapshot(header) = pull(&mut rest)? else {
            return Err(damaged("it begins with no header"));
        };
        let (last_applied, membership) = applied_from(header.applied.unwrap_or_default());
        let mut changes = Vec::<Change>::new();
        while !rest.is_empty() {
            let Value::Record(message) = pull(&mut rest)? else {
                return Err(damaged("an alien record"));
            };
            match record::from_message(message)? {
                record::Stored::Change(change) => changes.push(change),
                record::Stored::ImageIndex(_) => return Err(damaged("an alien record")),
            }
        }
        if changes.len() as u64 != header.records {
            return Err(damaged("records are missing"));
        }
        record::check(&changes)?;
        let mut image = ClusterImage::default();
        image.replay(MetadataIndex(header.image_index), &changes);
        Ok((
            header.snapshot_id,
            Self {
                last_applied,
                membership,
                image: Arc::new(image),
            },
        ))
    }
}

fn push(bytes: &mut Vec<u8>, value: &[u8]) {
    prost::encode_length_delimiter(value.len(), bytes).expect("a Vec grows");
    bytes.extend_from_slice(value);
}

fn pull(rest: &mut &[u8]) -> Result<Value, DbError> {
    let truncated = || DbError::Snapshot("is damaged: truncated".to_owned());
    let length = prost::decode_length_delimiter(&mut *rest).map_err(|_| truncated())?;
    let (value, after) = rest.split_at_checked(length).ok_or_else(truncated)?;
    *rest = after;
    Ok(codec::decode(value)?)
}

/// How far the log is covered by a snapshot on stable storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Durable {
    /// Up to this index.
    Upto(Option<u64>),
    /// A snapshot that Raft counts on will not come, and why.
    Never(String),
}

/// Where the current snapshot lies.
#[derive(Debug)]
pub(crate) struct SnapshotFile {
    folder: PathBuf,
    /// Held while a file is written, so that two never mix.
    writing: Mutex<()>,
    durable: watch::Sender<Durable>,
}

impl SnapshotFile {
    /// Whether a snapshot lies in a folder.
    pub(super) fn is_in(folder: &Path) -> bool {
        folder.join(CURRENT).exists()
    }

    pub(crate) fn open(folder: &Path) -> Result<Self, DbError> {
        std::fs::create_dir_all(folder).map_err(|source| DbError::Io {
            what: "making the snapshot folder",
            source,
        })?;
        Ok(Self {
            folder: folder.to_owned(),
            writing: Mutex::new(()),
            durable: watch::Sender::new(Durable::Upto(None)),
        })
    }

    /// How far the log is covered, as it grows.
    pub(super) fn durable(&self) -> watch::Receiver<Durable> {
        self.durable.subscribe()
    }

    /// Notes what the snapshot that was found covers.
    pub(super) fn found(&self, last_applied: Option<u64>) {
        self.durable.send_replace(Durable::Upto(last_applied));
    }

    /// Tells whoever waits for a snapshot that it will not come.
    pub(super) fn give_up(&self, why: String) {
        self.durable.send_replace(Durable::Never(why));
    }

    fn path(&self) -> PathBuf {
        self.folder.join(CURRENT)
    }

    /// The current snapshot's bytes; blocks.
    pub(crate) fn read(&self) -> Result<Option<Vec<u8>>, DbError> {
        match std::fs::read(self.path()) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(DbError::Io {
                what: "reading the snapshot",
                source,
            }),
        }
    }

    /// Makes `bytes` the current snapshot, durably, unless a newer one is there; blocks.
    pub(crate) fn replace(&self, last_applied: Option<u64>, bytes: &[u8]) -> Result<(), DbError> {
        let _writing = self.writing.lock();
        if matches!(&*self.durable.borrow(), Durable::Upto(latest) if *latest > last_applied) {
            return Ok(());
        }
        self.write(bytes).map_err(|source| DbError::Io {
            what: "writing the snapshot",
            source,
        })?;
        self.durable.send_replace(Durable::Upto(last_applied));
        Ok(())
    }

    fn write(&self, bytes: &[u8]) -> std::io::Result<()> {
        let sync = !mutant::is_on(Mutant::PurgeBeforeSnapshotSync);
        let aside = self.folder.join(ASIDE);
        let mut file = File::create(&aside)?;
        point("crash:metadata/snapshot/begun");
        file.write_all(bytes)?;
        point("crash:metadata/snapshot/written");
        if sync {
            file.sync_all()?;
            point("crash:metadata/snapshot/synced");
        }
        std::fs::rename(&aside, self.path())?;
        point("crash:metadata/snapshot/renamed");
        if sync {
            File::open(&self.folder)?.sync_all()?;
            point("crash:metadata/snapshot/folder-synced");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_read_back_and_damage_is_noticed() {
        let state = SnapshotState {
            last_applied: None,
            membership: StoredMembership::default(),
            image: Arc::new(ClusterImage::default()),
        };
        let bytes = state.to_bytes();
        assert_eq!(
            SnapshotState::from_bytes(&bytes).unwrap(),
            ("empty".to_owned(), state)
        );
        for position in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[position] ^= 1;
            SnapshotState::from_bytes(&bad).unwrap_err();
            SnapshotState::from_bytes(&bytes[..position]).unwrap_err();
        }
    }

    #[test]
    fn an_older_snapshot_does_not_replace_a_newer_one() {
        let folder = tempfile::tempdir().unwrap();
        let file = SnapshotFile::open(folder.path()).unwrap();
        assert_eq!(file.read().unwrap(), None);
        file.replace(Some(5), b"five").unwrap();
        file.replace(Some(4), b"four").unwrap();
        assert_eq!(file.read().unwrap().unwrap(), b"five");
    }
}
