//! Replaying a partition into a machine.

use tidelog_coordinator::{LoadStep, Loading, Machine as _};
use tidelog_record::{Batch, DEFAULT_OPENED_BYTES};
use tidelog_types::{ErrorCode, LeaderEpoch, Offset, PartitionError, PartitionIndex};

use super::kind::Kind;
use super::log::StateLog;

/// How much is read at a time, bytes.
const READ_BYTES: usize = 1024 * 1024;

/// Replays what belongs to the state, and waits until the high watermark covers it.
pub(super) async fn load<K: Kind, L: StateLog>(
    log: &L,
    partition: PartitionIndex,
    epoch: LeaderEpoch,
    mut loading: Loading,
    machine: &mut K::Machine,
) -> Result<(), PartitionError> {
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
                let topic = K::state_topic();
                return Err(damaged(format!(
                    "{topic}-{partition} ends at {end} and should end at {}",
                    loading.end()
                )));
            }
        }
        let read = log.read(partition, epoch, next, READ_BYTES).await?;
        for bytes in &read.batches {
            replay::<K>(bytes.clone(), next, machine)?;
        }
        step = loading.read(read.next.max(next), read.high_watermark);
    }
}

fn replay<K: Kind>(
    bytes: bytes::Bytes,
    from: Offset,
    machine: &mut K::Machine,
) -> Result<(), PartitionError> {
    let batch = Batch::framed(bytes).map_err(damaged)?;
    let records = batch.open(DEFAULT_OPENED_BYTES).map_err(damaged)?;
    for record in &records {
        let record = record.map_err(damaged)?;
        // A batch may begin before where the read began.
        if record.offset < from {
            continue;
        }
        let Some(key) = record.key else { continue };
        match K::decode(key, record.value).map_err(damaged)? {
            Some(record) => machine.replay(&record),
            None => tracing::warn!(offset = %record.offset, "skipped a record that only newer brokers know"),
        }
    }
    Ok(())
}

/// Damage is never skipped: a coordinator without a record that was acknowledged would answer
/// wrongly, and nothing would show it.
fn damaged(what: impl std::fmt::Display) -> PartitionError {
    PartitionError::new(ErrorCode::CorruptMessage, format!("{what}"))
}
