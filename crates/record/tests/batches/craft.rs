//! Batches that no builder would make.

use bytes::Bytes;
use tidelog_record::{Batch, BatchBuilder, Compression, HEADER_BYTES, NewRecord};

pub(crate) const BASE_OFFSET: usize = 0;
pub(crate) const LENGTH: usize = 8;
pub(crate) const LEADER_EPOCH: usize = 12;
pub(crate) const MAGIC: usize = 16;
pub(crate) const CRC: usize = 17;
pub(crate) const ATTRIBUTES: usize = 21;
pub(crate) const LAST_OFFSET_DELTA: usize = 23;
pub(crate) const FIRST_TIMESTAMP: usize = 27;
pub(crate) const MAX_TIMESTAMP: usize = 35;
pub(crate) const PRODUCER_ID: usize = 43;
pub(crate) const PRODUCER_EPOCH: usize = 51;
pub(crate) const BASE_SEQUENCE: usize = 53;
pub(crate) const RECORD_COUNT: usize = 57;

/// A plain batch of as many small records.
pub(crate) fn small(records: usize) -> Batch {
    let mut builder = BatchBuilder::new(Compression::None);
    for index in 0..records {
        let value = format!("value {index}");
        builder
            .append(NewRecord::new(
                1000 + index as i64,
                Some(b"key"),
                Some(value.as_bytes()),
            ))
            .unwrap();
    }
    builder.build(None).unwrap()
}

/// The batch with bytes overwritten, and the checksum made to fit.
pub(crate) fn with(batch: &Batch, at: usize, bytes: &[u8]) -> Bytes {
    let mut raw = batch.bytes().to_vec();
    raw[at..at + bytes.len()].copy_from_slice(bytes);
    sealed(raw)
}

/// A batch around any payload, claiming as many records.
pub(crate) fn around(compression: Compression, payload: &[u8], records: u32) -> Bytes {
    let mut raw = small(1).bytes()[..HEADER_BYTES].to_vec();
    raw.extend_from_slice(payload);
    let length = (raw.len() - LEADER_EPOCH) as u32;
    raw[LENGTH..LEADER_EPOCH].copy_from_slice(&length.to_be_bytes());
    raw[ATTRIBUTES + 1] = compression as u8;
    raw[LAST_OFFSET_DELTA..FIRST_TIMESTAMP].copy_from_slice(&(records - 1).to_be_bytes());
    raw[RECORD_COUNT..HEADER_BYTES].copy_from_slice(&records.to_be_bytes());
    sealed(raw)
}

pub(crate) fn sealed(mut raw: Vec<u8>) -> Bytes {
    let crc = crc32c::crc32c(&raw[ATTRIBUTES..]);
    raw[CRC..ATTRIBUTES].copy_from_slice(&crc.to_be_bytes());
    raw.into()
}
