//! Batches to store. Their headers and checksums are right; what lies behind the header is noise,
//! which no storage opens.

use bytes::{BufMut, Bytes, BytesMut};
use tidelog_types::{BatchInfo, LeaderEpoch, Offset, ProducerStamp};

use crate::BatchToAppend;

const HEADER_BYTES: usize = 61;

/// What a made batch is like.
#[derive(Debug, Clone, Copy)]
pub struct BatchSpec {
    /// Offset of its first record.
    pub base: Offset,
    /// How many records it claims, at least 1.
    pub count: u32,
    /// The leader epoch.
    pub epoch: LeaderEpoch,
    /// Its largest timestamp, milliseconds.
    pub timestamp_ms: i64,
    /// Who produced it.
    pub producer: Option<ProducerStamp>,
    /// Bytes behind the header.
    pub payload_bytes: usize,
    /// What those bytes are drawn from.
    pub seed: u64,
}

impl BatchSpec {
    /// One record at an offset, epoch 0, 100 bytes.
    pub fn at(base: Offset) -> Self {
        Self {
            base,
            count: 1,
            epoch: LeaderEpoch(0),
            timestamp_ms: 0,
            producer: None,
            payload_bytes: 100,
            seed: base.0,
        }
    }

    /// The batch.
    pub fn build(&self) -> BatchToAppend {
        let bytes = self.encode();
        let info = BatchInfo {
            base_offset: self.base,
            last_offset: self.base + u64::from(self.count - 1),
            leader_epoch: self.epoch,
            max_timestamp_ms: self.timestamp_ms,
            size_bytes: bytes.len() as u32,
            producer: self.producer,
        };
        BatchToAppend { info, bytes }
    }

    fn encode(&self) -> Bytes {
        let mut checked = BytesMut::with_capacity(HEADER_BYTES + self.payload_bytes);
        checked.put_i16(0);
        checked.put_u32(self.count - 1);
        checked.put_i64(self.timestamp_ms);
        checked.put_i64(self.timestamp_ms);
        checked.put_i64(self.producer.map_or(-1, |stamp| stamp.id.0 as i64));
        checked.put_i16(self.producer.map_or(-1, |stamp| stamp.epoch.0 as i16));
        checked.put_i32(self.producer.map_or(-1, |stamp| stamp.base_sequence.to_wire()));
        checked.put_u32(self.count);
        let mut noise = self.seed;
        for _ in 0..self.payload_bytes {
            noise = noise
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            checked.put_u8((noise >> 56) as u8);
        }
        let mut batch = BytesMut::with_capacity(21 + checked.len());
        batch.put_u64(self.base.0);
        batch.put_u32((checked.len() + 9) as u32);
        batch.put_u32(self.epoch.0);
        batch.put_u8(2);
        batch.put_u32(crc32c::crc32c(&checked));
        batch.put(checked);
        batch.freeze()
    }
}
