//! Kafka's murmur2: the hash that places a key in a partition, and a group at its coordinator.

use crate::limits::CONSUMER_OFFSETS_PARTITIONS;
use crate::{GroupId, PartitionIndex};

/// 32-bit murmur2 with Kafka's seed, as `org.apache.kafka.common.utils.Utils.murmur2` computes it.
pub fn murmur2(data: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    const R: u32 = 24;

    let mut hash = SEED ^ data.len() as u32;
    let mut words = data.chunks_exact(4);
    for word in words.by_ref() {
        let mut k = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
        k = k.wrapping_mul(M);
        k ^= k >> R;
        k = k.wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ k;
    }
    let rest = words.remainder();
    for (i, byte) in rest.iter().enumerate().rev() {
        hash ^= u32::from(*byte) << (8 * i);
    }
    if !rest.is_empty() {
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

/// The partition of a key among `partition_count`, as Kafka's default partitioner chooses it.
pub fn partition_for_key(key: &[u8], partition_count: u32) -> PartitionIndex {
    PartitionIndex((murmur2(key) & 0x7fff_ffff) % partition_count.max(1))
}

/// The partition of `__consumer_offsets` whose leader coordinates a group, for ever.
pub fn coordinator_partition(group: &GroupId) -> PartitionIndex {
    partition_for_key(group.as_str().as_bytes(), CONSUMER_OFFSETS_PARTITIONS)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors of Kafka's own `UtilsTest.testMurmur2`.
    #[test]
    fn hashes_as_kafka_does() {
        let vectors: [(&str, i32); 6] = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ];
        for (key, expected) in vectors {
            assert_eq!(murmur2(key.as_bytes()) as i32, expected, "{key}");
        }
    }

    #[test]
    fn a_key_always_lands_in_range() {
        for count in [1, 2, 6, 16] {
            for key in 0..1000_u32 {
                assert!(partition_for_key(&key.to_be_bytes(), count).0 < count);
            }
        }
    }
}
