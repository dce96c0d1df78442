//! What a refusal means for a partition that is read.

use std::time::Duration;

use tidelog_types::{ErrorCode, Offset, TopicPartition};
use tokio::time::Instant;

use super::options::OffsetReset;
use super::slot::Slot;
use crate::error::{Error, ErrorKind};

/// How long a partition that nobody assigned to us may be unknown to the brokers before the
/// application is told. What a group assigns, the group takes away when its topic is deleted.
const UNKNOWN_FOR: Duration = Duration::from_secs(30);

/// Acts on a refusal: resets the position, tries again later, or gives up.
pub(super) fn refuse(slot: &mut Slot, error: Error, reset: OffsetReset, now: Instant, again_at_once: bool) {
    match error.code() {
        Some(ErrorCode::OffsetOutOfRange) => out_of_range(slot, error, reset),
        Some(ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId) if slot.life.is_none() => {
            let since = *slot.unknown_since.get_or_insert(now);
            if now - since >= UNKNOWN_FOR {
                slot.fail(error.context(&slot.partition));
            }
            slot.back_off(now);
        }
        _ if !error.is_retriable() => {
            let place = format!("partition {} at offset {}", slot.partition, slot.fetch_offset);
            tracing::warn!(%place, %error, "reading stops");
            slot.fail(error.context(place));
        }
        // The first time only: two brokers that each name the other are not asked in a tight
        // circle.
        _ if again_at_once && slot.failures == 0 => slot.failures = 1,
        _ => slot.back_off(now),
    }
}

fn out_of_range(slot: &mut Slot, error: Error, reset: OffsetReset) {
    let (partition, offset) = (slot.partition.clone(), slot.fetch_offset);
    match reset.at() {
        Some(at) => {
            tracing::warn!(%partition, %offset, ?reset, %error, "the position is not in the log: reading goes on elsewhere");
            slot.reset_to(at);
        }
        None => slot.fail(error.context(format!("partition {partition} at offset {offset}"))),
    }
}

/// A batch that fails its checksum or does not parse.
pub(super) fn damaged(partition: &TopicPartition, at: Offset, cause: &dyn std::fmt::Display) -> Error {
    let message = format!(
        "partition {partition} is damaged at offset {at}: {cause}; tell the cluster's operator, or seek past it"
    );
    Error::new(ErrorKind::Corrupt, message)
}

/// Nothing is committed, and the application wants to be asked where to begin.
pub(super) fn nothing_committed(group: &str, partition: &TopicPartition) -> Error {
    let message = format!(
        "group {group} committed nothing for {partition}, and auto_offset_reset is none: seek, or set its offsets"
    );
    Error::new(ErrorKind::Refused(ErrorCode::OffsetOutOfRange), message)
}

/// The consumer does not own the partition.
pub(super) fn not_assigned(partition: &TopicPartition) -> Error {
    Error::invalid(format!("partition {partition} is not assigned to this consumer"))
}

/// The consumer was closed.
pub(super) fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the consumer was closed: make another one")
}
