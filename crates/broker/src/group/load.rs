//! Replaying a partition into a coordinator.

use tidelog_group::{Coordinator, LoadStep, Loading};
use tidelog_record::{Batch, DEFAULT_OPENED_BYTES};
use tidelog_types::{ErrorCode, Offset, PartitionError};

use super::codec;
use super::log::OffsetsLog;
use super::shard::Leadership;

/// How much is read at a time, bytes.
const READ_BYTES: usize = 1024 * 1024;

/// Replays everything below where the leadership began, and waits until the high watermark is there ([`Loading`]).
pub(super) async fn load<L: OffsetsLog>(
    log: &L,
    leadership: &Leadership,
    coordinator: &mut Coordinator,
) -> Result<(), PartitionError> {
    let (partition, epoch) = (leadership.partition, leadership.epoch);
    let mut loading = Loading::new(leadership.start_offset);
    let mut step = loading.first();
    let mut next = Offset::ZERO;
    loop {
        match step {
            LoadStep::Ready => return Ok(()),
            LoadStep::Read(from) => next = from,
            LoadStep::Wait(above) => {
                log.high_watermark_above(partition, epoch, above).await?;
            }
            LoadStep::Damaged(end) => {
                return Err(damaged(format!(
                    "__consumer_offsets-{partition} ends at {end} and should end at {}",
                    leadership.start_offset
                )));
            }
        }
        let read = log.read(partition, epoch, next, READ_BYTES).await?;
        for bytes in &read.batches {
            replay(bytes.clone(), next, coordinator)?;
        }
        step = loading.read(read.next.max(next), read.high_watermark);
    }
}

fn replay(bytes: bytes::Bytes, from: Offset, coordinator: &mut Coordinator) -> Result<(), PartitionError> {
    let batch = Batch::framed(bytes).map_err(damaged)?;
    let records = batch.open(DEFAULT_OPENED_BYTES).map_err(damaged)?;
    for record in &records {
        let record = record.map_err(damaged)?;
        // A batch may begin before where the read began.
        if record.offset < from {
            continue;
        }
        let Some(key) = record.key else { continue };
        match codec::decode(key, record.value).map_err(damaged)? {
            Some(record) => coordinator.replay(&record),
            None => tracing::warn!(offset = %record.offset, "skipped a record that only newer brokers know"),
        }
    }
    Ok(())
}

/// Damage is never skipped: a group without an offset that it was acknowledged would read from elsewhere, silently.
fn damaged(what: impl std::fmt::Display) -> PartitionError {
    PartitionError::new(ErrorCode::CorruptMessage, format!("{what}"))
}
