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

/// A record as it stands in a payload, every field at will.
#[derive(Clone, Copy)]
pub(crate) struct Raw<'a> {
    pub(crate) attributes: u8,
    pub(crate) timestamp_delta: i64,
    pub(crate) offset_delta: i64,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    /// The header count, and the bytes behind it.
    pub(crate) headers: (i64, &'a [u8]),
}

impl Raw<'_> {
    /// A good one, the first, third, … of a batch.
    pub(crate) fn at(offset_delta: i64) -> Self {
        Self {
            attributes: 0,
            timestamp_delta: 0,
            offset_delta,
            key: Some(b"key"),
            value: Some(b"value"),
            headers: (0, b""),
        }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut fields = vec![self.attributes];
        put(&mut fields, self.timestamp_delta);
        put(&mut fields, self.offset_delta);
        for bytes in [self.key, self.value] {
            put(&mut fields, bytes.map_or(-1, |bytes| bytes.len() as i64));
            fields.extend_from_slice(bytes.unwrap_or_default());
        }
        put(&mut fields, self.headers.0);
        fields.extend_from_slice(self.headers.1);
        framed(&fields)
    }
}

/// Fields behind their length.
pub(crate) fn framed(fields: &[u8]) -> Vec<u8> {
    let mut record = Vec::new();
    put(&mut record, fields.len() as i64);
    record.extend_from_slice(fields);
    record
}

/// Appends a variable-length integer.
pub(crate) fn put(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// The payload of a batch that our builder made, compressed as the batch says.
pub(crate) fn compressed(codec: Compression, payload: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    match codec {
        Compression::None => payload.to_vec(),
        #[cfg(feature = "gzip")]
        Compression::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
            encoder.write_all(payload).unwrap();
            encoder.finish().unwrap()
        }
        #[cfg(feature = "snappy")]
        Compression::Snappy => snap::raw::Encoder::new().compress_vec(payload).unwrap(),
        #[cfg(feature = "lz4")]
        Compression::Lz4 => {
            let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
            encoder.write_all(payload).unwrap();
            encoder.finish().unwrap()
        }
        #[cfg(feature = "zstd")]
        Compression::Zstd => zstd::encode_all(payload, 3).unwrap(),
        #[allow(unreachable_patterns, reason = "reachable where a feature is off")]
        _ => unreachable!("asked only for what is built in"),
    }
}

/// The codecs of this build, without none.
pub(crate) fn codecs() -> impl Iterator<Item = Compression> {
    Compression::ALL
        .into_iter()
        .filter(|codec| codec.is_built_in() && *codec != Compression::None)
}
