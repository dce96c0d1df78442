//! What is asked of a batch, by where it comes from. One pass for the CRC, no allocation, the
//! payload stays closed.

use bytes::Bytes;
use tidelog_types::Offset;

use crate::view::BatchView;
use crate::{Batch, BatchError, BatchHeader};

/// The timestamp of a batch that has none.
pub(crate) const NO_TIMESTAMP: i64 = -1;

impl Batch {
    /// Checks the untrusted bytes of a produce request: exactly one batch, of at most `max_bytes`
    /// (the topic's max.message.bytes), as Kafka's broker takes it from a client.
    ///
    /// Checked, cheap before dear: size, framing, base offset 0, record count = last offset delta +
    /// 1 > 0 and fitting the payload, attribute bits (no transactions, no control records, no
    /// broker's flags: Tidelog has none of them yet), timestamps, producer fields, CRC. The payload
    /// stays closed: [`Batch::record_check`] walks it.
    pub fn from_producer(bytes: Bytes, max_bytes: u32) -> Result<Self, BatchError> {
        if bytes.len() > max_bytes as usize {
            return Err(BatchError::TooLarge {
                size_bytes: bytes.len(),
                max_bytes,
            });
        }
        let view = BatchView::new(&bytes)?;
        check_produced(view.header())?;
        view.check_crc()?;
        let header = *view.header();
        Ok(Self::sealed(header, bytes))
    }

    /// Checks bytes that a broker stored, read from a disk or received from another broker: exactly
    /// one batch, with the leader epoch filled in and a right CRC. Compacted and header-only
    /// batches are fine here.
    pub fn from_log(bytes: Bytes) -> Result<Self, BatchError> {
        let view = BatchView::new(&bytes)?;
        check_stored(view.header())?;
        view.check_crc()?;
        let header = *view.header();
        Ok(Self::sealed(header, bytes))
    }
}

fn check_produced(header: &BatchHeader) -> Result<(), BatchError> {
    let offsets = u64::from(header.last_offset_delta) + 1;
    if u64::from(header.record_count) != offsets {
        return Err(BatchError::CountDiffers {
            record_count: header.record_count,
            offsets,
        });
    }
    if header.base_offset != Offset::ZERO {
        return Err(BatchError::BaseOffset {
            base_offset: header.base_offset,
        });
    }
    check_attributes(header)?;
    let attributes = header.attributes;
    let refused = [
        (attributes.is_control(), "control records"),
        (attributes.is_transactional(), "transactions"),
        (attributes.is_log_append_time(), "the log-append-time flag"),
        (attributes.has_delete_horizon(), "the delete-horizon flag"),
    ];
    if let Some((_, what)) = refused.into_iter().find(|(set, _)| *set) {
        return Err(BatchError::NotForProducers { what });
    }
    let (first_ms, max_ms) = (header.first_timestamp_ms, header.max_timestamp_ms);
    if first_ms < NO_TIMESTAMP || max_ms < first_ms {
        return Err(BatchError::Timestamps { first_ms, max_ms });
    }
    check_producer(header)
}

fn check_stored(header: &BatchHeader) -> Result<(), BatchError> {
    if header.leader_epoch.is_none() {
        return Err(BatchError::NoLeaderEpoch {
            base_offset: header.base_offset,
        });
    }
    check_attributes(header)?;
    check_producer(header)
}

fn check_attributes(header: &BatchHeader) -> Result<(), BatchError> {
    let attributes = header.attributes;
    if attributes.compression().is_none() {
        return Err(BatchError::Compression {
            number: attributes.compression_number(),
        });
    }
    if attributes.unknown_bits() != 0 {
        return Err(BatchError::Attributes {
            bits: attributes.unknown_bits(),
        });
    }
    Ok(())
}

/// Without a producer id the other two fields mean nothing, and clients write there what they like.
fn check_producer(header: &BatchHeader) -> Result<(), BatchError> {
    if header.producer_id == -1 || header.producer().is_some() {
        return Ok(());
    }
    Err(BatchError::Producer {
        id: header.producer_id,
        epoch: header.producer_epoch,
        base_sequence: header.base_sequence,
    })
}
