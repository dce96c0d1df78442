//! Offsets by position or timestamp.

use std::sync::Arc;

#[cfg(doc)]
use tidelog_log::LogStore;
use tidelog_record::{Batch, DEFAULT_OPENED_BYTES};
use tidelog_types::{ErrorCode, LeaderEpoch, Offset, PartitionError};

use super::partition::Partition;

/// How much of a log is read at a time when a timestamp is looked for, bytes.
const LOOKUP_BYTES: usize = 1024 * 1024;

/// Which offset is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetQuery {
    /// The log start offset.
    Earliest,
    /// The high watermark (R4).
    Latest,
    /// The first record whose timestamp is at least this, milliseconds since 1970; the high
    /// watermark if there is none.
    Timestamp(i64),
}

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueriedOffset {
    /// The offset.
    pub offset: Offset,
    /// The timestamp of the record there, if one was looked for and found.
    pub timestamp_ms: Option<i64>,
    /// The answering leader's epoch.
    pub leader_epoch: LeaderEpoch,
    /// The size of the whole log, bytes, if the latest offset was asked for: see
    /// [`LogStore::size_bytes`].
    pub size_bytes: Option<u64>,
}

impl Partition {
    /// Answers a query for an offset.
    pub async fn list_offset(
        self: &Arc<Self>,
        leader_epoch: Option<LeaderEpoch>,
        query: OffsetQuery,
    ) -> Result<QueriedOffset, PartitionError> {
        let (offset, leader_epoch) = {
            let state = self.state.lock();
            self.check(&state)?;
            match query {
                OffsetQuery::Earliest => state.replica.earliest_offset(leader_epoch)?,
                OffsetQuery::Latest | OffsetQuery::Timestamp(_) => {
                    state.replica.latest_offset(leader_epoch)?
                }
            }
        };
        if let OffsetQuery::Timestamp(timestamp_ms) = query
            && let Some((found, at)) = self.first_since(timestamp_ms, offset).await?
        {
            return Ok(QueriedOffset {
                offset: found,
                timestamp_ms: Some(at),
                leader_epoch,
                size_bytes: None,
            });
        }
        let size_bytes = match query {
            OffsetQuery::Latest => self.context.store.size_bytes(self.local).ok(),
            OffsetQuery::Earliest | OffsetQuery::Timestamp(_) => None,
        };
        Ok(QueriedOffset {
            offset,
            timestamp_ms: None,
            leader_epoch,
            size_bytes,
        })
    }

    async fn first_since(
        &self,
        timestamp_ms: i64,
        until: Offset,
    ) -> Result<Option<(Offset, i64)>, PartitionError> {
        let (store, local) = (Arc::clone(&self.context.store), self.local);
        let lookup = self
            .context
            .readers
            .run(move || store.offset_for_timestamp(local, timestamp_ms))
            .await;
        let Some(mut next) = lookup.map_err(|error| self.unreadable(&error))? else {
            return Ok(None);
        };
        while next < until {
            let read = self.read_batches(next, until, LOOKUP_BYTES).await;
            let read = read.map_err(|error| self.unreadable(&error))?;
            // Opening may take long: not here.
            let look = move || Ok(first_of(read.batches, timestamp_ms));
            let looked = self.context.readers.run(look).await;
            if let Some(found) = looked.map_err(|error| self.unreadable(&error))?? {
                return Ok(Some(found));
            }
            if read.next <= next {
                break;
            }
            next = read.next;
        }
        Ok(None)
    }
}

fn first_of(batches: Vec<bytes::Bytes>, timestamp_ms: i64) -> Result<Option<(Offset, i64)>, PartitionError> {
    for bytes in batches {
        if let Some(found) = first_in(bytes, timestamp_ms)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn first_in(bytes: bytes::Bytes, timestamp_ms: i64) -> Result<Option<(Offset, i64)>, PartitionError> {
    let damaged = |what: String| PartitionError::new(ErrorCode::CorruptMessage, what);
    let batch = Batch::framed(bytes).map_err(|error| damaged(error.to_string()))?;
    if batch.info().max_timestamp_ms < timestamp_ms {
        return Ok(None);
    }
    let records = batch
        .open(DEFAULT_OPENED_BYTES)
        .map_err(|error| damaged(error.to_string()))?;
    for record in &records {
        let record = record.map_err(|error| damaged(error.to_string()))?;
        if record.timestamp_ms >= timestamp_ms {
            return Ok(Some((record.offset, record.timestamp_ms)));
        }
    }
    Ok(None)
}
