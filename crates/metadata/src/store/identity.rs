//! Whose metadata database it is, and whether it is still the one that gave the node's votes.
//!
//! A node's id comes from the record database, its votes and its log stand here: one without the
//! other must never run (M30).
//!
//! 1. A database that is made notes broker and data directory before Raft writes to it.
//! 2. One that names another broker or directory is refused: `db/` or `metadata/` was exchanged, or
//!    `db/` was lost.
//! 3. One that holds nothing, in a data directory that has been part of a cluster or beside a
//!    snapshot, is refused: `metadata/` was lost. What it holds is looked at, not whether it was
//!    made just now: a start after a refused one finds a database, too.

use std::path::Path;

use rocksdb::{IteratorMode, WriteBatch};
use tidelog_proto::storage::v1 as pb;
use tidelog_types::{BrokerId, ClusterId, DirectoryId};

use super::db::{Db, DbError};
use super::keys::{RAFT, RaftKey, STATE};
use crate::codec::{self, DecodeError, Value};

/// Whose metadata folder it must be, or becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) broker: BrokerId,
    pub(crate) directory: DirectoryId,
    /// The cluster that the data directory adopted in an earlier life.
    pub(crate) cluster: Option<ClusterId>,
}

impl Owner {
    /// Refuses a folder that has no votes and no log, if it must have had some.
    pub(super) fn refuse_lost(&self, folder: &Path, has_snapshot: bool) -> Result<(), DbError> {
        let why = match self.cluster {
            Some(cluster) => format!("this data directory is part of cluster {cluster}"),
            None if has_snapshot => "there is a snapshot beside it".to_owned(),
            None => return Ok(()),
        };
        Err(DbError::Lost {
            path: folder.to_owned(),
            why,
        })
    }
}

/// Checks that the database is its owner's and holds what it must, or makes it its owner's if it is
/// new.
pub(super) async fn claim(db: &Db, folder: &Path, owner: &Owner, has_snapshot: bool) -> Result<(), DbError> {
    let known = read(db)?;
    let foreign = |found: String| DbError::Foreign {
        path: folder.to_owned(),
        found,
        broker: owner.broker,
        directory: owner.directory,
    };
    match known {
        Some((broker, directory)) if (broker, directory) != (owner.broker, owner.directory) => {
            return Err(foreign(format!(
                "belongs to broker {broker} on directory {directory}"
            )));
        }
        None if !is_blank(db)? => return Err(foreign("does not say whose it is".to_owned())),
        _ => {}
    }
    if is_blank(db)? {
        owner.refuse_lost(folder, has_snapshot)?;
    }
    if known.is_some() {
        return Ok(());
    }
    let node = Value::Node(pb::NodeIdentity {
        broker_id: owner.broker.get(),
        directory_id: owner.directory.as_bytes().to_vec().into(),
    });
    let mut batch = WriteBatch::default();
    batch.put_cf(&db.family(RAFT), RaftKey::Node.bytes(), codec::encode(node));
    db.write(batch, true).await
}

fn read(db: &Db) -> Result<Option<(BrokerId, DirectoryId)>, DbError> {
    let Some(bytes) = db.rocks().get_cf(&db.family(RAFT), RaftKey::Node.bytes())? else {
        return Ok(None);
    };
    let Value::Node(node) = codec::decode(&bytes)? else {
        return Err(DecodeError::Field("node identity").into());
    };
    let broker = codec::broker_id(node.broker_id)?;
    let directory = codec::uuid!(DirectoryId, node.directory_id, "directory id")?;
    Ok(Some((broker, directory)))
}

/// Whether Raft never wrote anything: no vote, no log, no state.
fn is_blank(db: &Db) -> Result<bool, DbError> {
    for name in [RAFT, STATE] {
        for item in db.rocks().iterator_cf(&db.family(name), IteratorMode::Start) {
            let (key, _) = item?;
            if name != RAFT || *key != *RaftKey::Node.bytes() {
                return Ok(false);
            }
        }
    }
    Ok(true)
}
