//! Values of the `state`, `times` and `meta` families: one version byte, then protobuf.

use prost::Message;
use tidelog_proto::storage::v1 as pb;
use tidelog_types::{
    BrokerId, ClusterId, DirectoryId, Offset, PartitionIndex, ProducerEpoch, ProducerId, ProducerState,
    RememberedBatch, Sequence, TopicId, TopicIdPartition,
};

/// The version that is written, and the newest that is read.
const VERSION: u8 = 1;

/// Why a stored value cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DecodeError {
    #[error("a {what} is empty")]
    Empty { what: &'static str },
    #[error("a {what} has version {found}, this program knows {VERSION}")]
    Version { what: &'static str, found: u8 },
    #[error("a {what} is no valid message: {detail}")]
    Malformed { what: &'static str, detail: String },
}

pub(crate) fn encode_partition(partition: TopicIdPartition) -> Vec<u8> {
    encode(&pb::PartitionRecord {
        topic_id: partition.topic_id.as_bytes().to_vec().into(),
        partition: partition.partition.0,
    })
}

pub(crate) fn decode_partition(value: &[u8]) -> Result<TopicIdPartition, DecodeError> {
    const WHAT: &str = "partition entry";
    let record: pb::PartitionRecord = decode(WHAT, value)?;
    let topic_id =
        TopicId::from_slice(&record.topic_id).ok_or_else(|| malformed(WHAT, "its topic id is no UUID"))?;
    Ok(TopicIdPartition {
        topic_id,
        partition: PartitionIndex(record.partition),
    })
}

pub(crate) fn encode_offset(offset: Offset) -> Vec<u8> {
    encode(&pb::OffsetRecord { offset: offset.0 })
}

pub(crate) fn decode_offset(what: &'static str, value: &[u8]) -> Result<Offset, DecodeError> {
    let record: pb::OffsetRecord = decode(what, value)?;
    checked_offset(what, record.offset)
}

pub(crate) fn encode_epoch_start(start: Offset) -> Vec<u8> {
    encode(&pb::EpochRecord {
        start_offset: start.0,
    })
}

pub(crate) fn decode_epoch_start(value: &[u8]) -> Result<Offset, DecodeError> {
    const WHAT: &str = "leader epoch";
    let record: pb::EpochRecord = decode(WHAT, value)?;
    checked_offset(WHAT, record.start_offset)
}

pub(crate) fn encode_producer(state: &ProducerState) -> Vec<u8> {
    encode(&pb::ProducerRecord {
        epoch: state.epoch.0.into(),
        last_timestamp_ms: state.last_timestamp_ms,
        batches: state
            .batches
            .iter()
            .map(|batch| pb::RememberedBatchRecord {
                base_sequence: batch.base_sequence.to_wire(),
                base_offset: batch.base_offset.0,
                last_offset: batch.last_offset.0,
                timestamp_ms: batch.timestamp_ms,
            })
            .collect(),
    })
}

pub(crate) fn decode_producer(id: ProducerId, value: &[u8]) -> Result<ProducerState, DecodeError> {
    const WHAT: &str = "producer state";
    let record: pb::ProducerRecord = decode(WHAT, value)?;
    let epoch = u16::try_from(record.epoch).map_err(|_| malformed(WHAT, "its epoch is above 65535"))?;
    let batch = |batch: pb::RememberedBatchRecord| {
        Ok(RememberedBatch {
            base_sequence: Sequence::from_wire(batch.base_sequence)
                .ok_or_else(|| malformed(WHAT, "a sequence is negative"))?,
            base_offset: checked_offset(WHAT, batch.base_offset)?,
            last_offset: checked_offset(WHAT, batch.last_offset)?,
            timestamp_ms: batch.timestamp_ms,
        })
    };
    Ok(ProducerState {
        id,
        epoch: ProducerEpoch(epoch),
        batches: record.batches.into_iter().map(batch).collect::<Result<_, _>>()?,
        last_timestamp_ms: record.last_timestamp_ms,
    })
}

pub(crate) fn encode_time_entry(interval_bytes: u64) -> Vec<u8> {
    encode(&pb::TimeEntryRecord { interval_bytes })
}

pub(crate) fn decode_time_entry(value: &[u8]) -> Result<u64, DecodeError> {
    Ok(decode::<pb::TimeEntryRecord>("time entry", value)?.interval_bytes)
}

/// Whose directory it is, as it stands on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DirectoryIdentity {
    pub(crate) directory: DirectoryId,
    pub(crate) broker: BrokerId,
    pub(crate) cluster: Option<ClusterId>,
}

pub(crate) fn encode_directory(identity: &DirectoryIdentity) -> Vec<u8> {
    encode(&pb::DirectoryRecord {
        directory_id: identity.directory.as_bytes().to_vec().into(),
        broker_id: identity.broker.get(),
        cluster_id: identity
            .cluster
            .map(|id| id.as_bytes().to_vec())
            .unwrap_or_default()
            .into(),
    })
}

pub(crate) fn decode_directory(value: &[u8]) -> Result<DirectoryIdentity, DecodeError> {
    const WHAT: &str = "directory entry";
    let record: pb::DirectoryRecord = decode(WHAT, value)?;
    let cluster = match &record.cluster_id[..] {
        [] => None,
        id => Some(ClusterId::from_slice(id).ok_or_else(|| malformed(WHAT, "its cluster id is no UUID"))?),
    };
    Ok(DirectoryIdentity {
        directory: DirectoryId::from_slice(&record.directory_id)
            .ok_or_else(|| malformed(WHAT, "its directory id is no UUID"))?,
        broker: BrokerId::new(record.broker_id).ok_or_else(|| malformed(WHAT, "its broker id is 0"))?,
        cluster,
    })
}

pub(crate) fn encode_next_local(next: u32) -> Vec<u8> {
    encode(&pb::NextLocalPartitionRecord { next })
}

pub(crate) fn decode_next_local(value: &[u8]) -> Result<u32, DecodeError> {
    Ok(decode::<pb::NextLocalPartitionRecord>("next local partition", value)?.next)
}

pub(crate) fn encode_clean_shutdown(sequence: u64) -> Vec<u8> {
    encode(&pb::CleanShutdownRecord { sequence })
}

fn encode(message: &impl Message) -> Vec<u8> {
    let mut value = Vec::with_capacity(1 + message.encoded_len());
    value.push(VERSION);
    message.encode(&mut value).expect("a Vec grows as needed");
    value
}

fn decode<M: Message + Default>(what: &'static str, value: &[u8]) -> Result<M, DecodeError> {
    match value.split_first() {
        None => Err(DecodeError::Empty { what }),
        Some((&VERSION, message)) => M::decode(message).map_err(|error| DecodeError::Malformed {
            what,
            detail: error.to_string(),
        }),
        Some((&found, _)) => Err(DecodeError::Version { what, found }),
    }
}

fn checked_offset(what: &'static str, offset: u64) -> Result<Offset, DecodeError> {
    let offset = Offset(offset);
    if offset > Offset::MAX {
        Err(malformed(what, "an offset is above the largest"))
    } else {
        Ok(offset)
    }
}

fn malformed(what: &'static str, detail: &str) -> DecodeError {
    DecodeError::Malformed {
        what,
        detail: detail.to_owned(),
    }
}

#[cfg(test)]
mod tests;
