//! Every key of the data directory's RocksDB. Layout 1; another layout needs another
//! [`FORMAT_VERSION`] and a migration.
//!
//! ```text
//! records   local u32 ‖ base offset u64                    → RecordBatch v2
//! times     local u32 ‖ timestamp i64 ‖ base offset u64    → version byte ‖ protobuf (earlier: nothing)
//! state     local u32 ‖ kind u8 [‖ epoch u32 | producer u64] → version byte ‖ protobuf
//! meta      kind u8                                        → version byte ‖ protobuf (the format version: u32)
//! ```
//!
//! All numbers are big-endian, timestamps with the sign bit turned, so that bytes sort as numbers
//! do. Every kind of key has one length, so none is another's prefix.

use tidelog_types::{LeaderEpoch, LocalPartition, Offset, ProducerId};

/// The layout that this code reads and writes.
pub(crate) const FORMAT_VERSION: u32 = 1;

pub(crate) type RecordKey = [u8; 12];
pub(crate) type TimeKey = [u8; 20];
pub(crate) type StateKey = [u8; 5];
pub(crate) type EpochKey = [u8; 9];
pub(crate) type ProducerKey = [u8; 13];

const _: () = assert!(size_of::<RecordKey>() == size_of::<LocalPartition>() + size_of::<Offset>());
const _: () =
    assert!(size_of::<TimeKey>() == size_of::<LocalPartition>() + size_of::<i64>() + size_of::<Offset>());
const _: () = assert!(size_of::<StateKey>() == size_of::<LocalPartition>() + size_of::<StateKind>());
const _: () = assert!(size_of::<EpochKey>() == size_of::<StateKey>() + size_of::<LeaderEpoch>());
const _: () = assert!(size_of::<ProducerKey>() == size_of::<StateKey>() + size_of::<ProducerId>());

/// What a `state` entry holds. The numbers are on disk: never reuse one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum StateKind {
    Partition = 1,
    LogStart = 2,
    HighWatermark = 3,
    Epoch = 4,
    Producer = 5,
}

/// What a `meta` entry holds. The numbers are on disk: never reuse one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum MetaKind {
    /// Readable by every version, so a plain big-endian u32.
    FormatVersion = 1,
    Directory = 2,
    NextLocalPartition = 3,
    CleanShutdown = 4,
}

/// A `state` key, read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StateId {
    Partition,
    LogStart,
    HighWatermark,
    Epoch(LeaderEpoch),
    Producer(ProducerId),
}

pub(crate) fn record_key(local: LocalPartition, base: Offset) -> RecordKey {
    let mut key = [0; 12];
    key[..4].copy_from_slice(&local.0.to_be_bytes());
    key[4..].copy_from_slice(&base.0.to_be_bytes());
    key
}

pub(crate) fn parse_record_key(key: &[u8]) -> Option<(LocalPartition, Offset)> {
    let key: &RecordKey = key.try_into().ok()?;
    Some((
        local_of(key)?,
        Offset(u64::from_be_bytes(key[4..].try_into().ok()?)),
    ))
}

pub(crate) fn time_key(local: LocalPartition, timestamp_ms: i64, base: Offset) -> TimeKey {
    let mut key = [0; 20];
    key[..4].copy_from_slice(&local.0.to_be_bytes());
    key[4..12].copy_from_slice(&sortable(timestamp_ms).to_be_bytes());
    key[12..].copy_from_slice(&base.0.to_be_bytes());
    key
}

pub(crate) fn parse_time_key(key: &[u8]) -> Option<(i64, Offset)> {
    let key: &TimeKey = key.try_into().ok()?;
    let sorted = u64::from_be_bytes(key[4..12].try_into().ok()?);
    Some((
        sortable_back(sorted),
        Offset(u64::from_be_bytes(key[12..].try_into().ok()?)),
    ))
}

pub(crate) fn state_key(local: LocalPartition, kind: StateKind) -> StateKey {
    let mut key = [0; 5];
    key[..4].copy_from_slice(&local.0.to_be_bytes());
    key[4] = kind as u8;
    key
}

/// The end (exclusive) of a partition's keys of one kind.
pub(crate) fn state_kind_end(local: LocalPartition, kind: StateKind) -> StateKey {
    let mut key = state_key(local, kind);
    key[4] += 1;
    key
}

pub(crate) fn epoch_key(local: LocalPartition, epoch: LeaderEpoch) -> EpochKey {
    let mut key = [0; 9];
    key[..5].copy_from_slice(&state_key(local, StateKind::Epoch));
    key[5..].copy_from_slice(&epoch.0.to_be_bytes());
    key
}

pub(crate) fn producer_key(local: LocalPartition, producer: ProducerId) -> ProducerKey {
    let mut key = [0; 13];
    key[..5].copy_from_slice(&state_key(local, StateKind::Producer));
    key[5..].copy_from_slice(&producer.0.to_be_bytes());
    key
}

pub(crate) fn parse_state_key(key: &[u8]) -> Option<(LocalPartition, StateId)> {
    let local = local_of(key)?;
    let (&kind, id) = key.get(4..)?.split_first()?;
    let id = match (kind, id.len()) {
        (1, 0) => StateId::Partition,
        (2, 0) => StateId::LogStart,
        (3, 0) => StateId::HighWatermark,
        (4, 4) => StateId::Epoch(LeaderEpoch(u32::from_be_bytes(id.try_into().ok()?))),
        (5, 8) => StateId::Producer(ProducerId(u64::from_be_bytes(id.try_into().ok()?))),
        _ => return None,
    };
    Some((local, id))
}

pub(crate) fn meta_key(kind: MetaKind) -> [u8; 1] {
    [kind as u8]
}

/// Where a partition's keys begin, in every family but `meta`.
pub(crate) fn partition_start(local: LocalPartition) -> [u8; 4] {
    local.0.to_be_bytes()
}

/// Where they end (exclusive). The last number is never given to a partition, so there is always a
/// next one.
pub(crate) fn partition_end(local: LocalPartition) -> [u8; 4] {
    assert!(
        local.0 < u32::MAX,
        "the last local partition number is never used"
    );
    (local.0 + 1).to_be_bytes()
}

fn local_of(key: &[u8]) -> Option<LocalPartition> {
    Some(LocalPartition(u32::from_be_bytes(key.get(..4)?.try_into().ok()?)))
}

const fn sortable(timestamp_ms: i64) -> u64 {
    timestamp_ms as u64 ^ (1 << 63)
}

const fn sortable_back(sorted: u64) -> i64 {
    (sorted ^ (1 << 63)) as i64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn key_bytes_are_as_released() {
        let local = LocalPartition(0x0102_0304);
        assert_eq!(
            record_key(local, Offset(0x0a0b)),
            [1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0x0a, 0x0b]
        );
        assert_eq!(
            time_key(local, 1, Offset(2))[..12],
            [1, 2, 3, 4, 0x80, 0, 0, 0, 0, 0, 0, 1]
        );
        assert_eq!(state_key(local, StateKind::HighWatermark), [1, 2, 3, 4, 3]);
        assert_eq!(epoch_key(local, LeaderEpoch(7)), [1, 2, 3, 4, 4, 0, 0, 0, 7]);
        assert_eq!(
            producer_key(local, ProducerId(9)),
            [1, 2, 3, 4, 5, 0, 0, 0, 0, 0, 0, 0, 9]
        );
        assert_eq!(meta_key(MetaKind::CleanShutdown), [4]);
    }

    #[test]
    fn a_key_of_another_length_or_kind_is_none() {
        assert_eq!(parse_record_key(&[0; 11]), None);
        assert_eq!(parse_time_key(&[0; 21]), None);
        for key in [
            &[0, 0, 0, 1][..],
            &[0, 0, 0, 1, 1, 0],
            &[0, 0, 0, 1, 4, 0, 0, 0],
            &[0, 0, 0, 1, 9],
        ] {
            assert_eq!(parse_state_key(key), None, "{key:?}");
        }
    }

    proptest! {
        #[test]
        fn keys_sort_as_what_they_name(a in any::<(u32, i64, u64)>(), b in any::<(u32, i64, u64)>()) {
            let time = |(local, at, base)| time_key(LocalPartition(local), at, Offset(base));
            let record = |(local, _, base): (u32, i64, u64)| record_key(LocalPartition(local), Offset(base));
            prop_assert_eq!(time(a).cmp(&time(b)), a.cmp(&b));
            prop_assert_eq!(record(a).cmp(&record(b)), (a.0, a.2).cmp(&(b.0, b.2)));
        }

        #[test]
        fn keys_read_back(local: u32, at: i64, base: u64, epoch: u32) {
            let local = LocalPartition(local);
            let (base, epoch, producer) = (Offset(base), LeaderEpoch(epoch), ProducerId(base));
            prop_assert_eq!(parse_record_key(&record_key(local, base)), Some((local, base)));
            prop_assert_eq!(parse_time_key(&time_key(local, at, base)), Some((at, base)));
            prop_assert_eq!(parse_state_key(&epoch_key(local, epoch)), Some((local, StateId::Epoch(epoch))));
            prop_assert_eq!(parse_state_key(&producer_key(local, producer)), Some((local, StateId::Producer(producer))));
        }
    }
}
