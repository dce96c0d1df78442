//! Anything may come off a wire: nothing panics, and no damage under the checksum passes.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use tidelog_record::{Batch, BatchBuilder, Compression, HEADER_BYTES, HeaderRef, NewRecord, split};

use crate::craft::{self, around, sealed};

const OPENED: usize = 1 << 20;

/// Everything that reads, over bytes that may be anything.
fn read_all(bytes: &Bytes) {
    let _ = Batch::from_producer(bytes.clone(), 1 << 20);
    let _ = Batch::from_log(bytes.clone());
    for batch in split(bytes.clone()) {
        let Ok(batch) = batch else { break };
        let _ = batch.info();
        let _ = batch.check_keys(OPENED);
        let Ok(records) = batch.open(OPENED) else { continue };
        let borrowed: Vec<_> = records.iter().collect();
        for record in borrowed.iter().flatten() {
            assert!(record.headers().count() <= records.payload().len());
        }
        let owned: Vec<_> = records.clone().into_iter().collect();
        assert_eq!(owned.len(), borrowed.len());
        assert!(
            owned
                .iter()
                .zip(&borrowed)
                .all(|(owned, borrowed)| match (owned, borrowed) {
                    (Ok(owned), Ok(borrowed)) => owned.value.as_deref() == borrowed.value,
                    (owned, borrowed) => owned.as_ref().err() == borrowed.as_ref().err(),
                })
        );
    }
}

fn codec() -> impl Strategy<Value = Compression> {
    let codecs: Vec<_> = Compression::ALL
        .into_iter()
        .filter(|codec| codec.is_built_in())
        .collect();
    select(codecs)
}

prop_compose! {
    fn batch()(codec in codec(), values in vec(any::<Option<Vec<u8>>>(), 1..8), tail in "[ab]{0,300}") -> Vec<u8> {
        let mut builder = BatchBuilder::new(codec);
        for value in &values {
            let headers = [HeaderRef { key: &tail, value: value.as_deref() }];
            let record = NewRecord::new(17, value.as_deref(), Some(tail.as_bytes()));
            builder.append(record.with_headers(headers)).unwrap();
        }
        builder.build(None).unwrap().into_bytes().to_vec()
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..400)) {
        read_all(&bytes.into());
    }

    #[test]
    fn arbitrary_payloads_under_a_right_header_never_panic(
        codec in codec(),
        payload in vec(any::<u8>(), 0..200),
        records in 1_u32..20,
    ) {
        read_all(&around(codec, &payload, records));
    }

    /// The checksum is made to fit again, so that what lies behind it is reached.
    #[test]
    fn mutated_batches_never_panic(
        mut raw in batch(),
        changes in vec((any::<Index>(), any::<u8>()), 1..6),
        reseal in any::<bool>(),
    ) {
        for (at, byte) in changes {
            let at = at.index(raw.len());
            raw[at] = byte;
        }
        read_all(&if reseal { sealed(raw) } else { raw.into() });
    }

    #[test]
    fn mutated_payloads_never_panic(mut raw in batch(), changes in vec((any::<Index>(), any::<u8>()), 1..4)) {
        for (at, byte) in changes {
            let at = HEADER_BYTES + at.index(raw.len() - HEADER_BYTES);
            raw[at] = byte;
        }
        read_all(&sealed(raw));
    }

    #[test]
    fn a_flip_under_the_checksum_is_always_found(mut raw in batch(), at in any::<Index>(), bit in 0_u32..8) {
        prop_assert!(Batch::from_producer(raw.clone().into(), 1 << 20).is_ok());
        let at = craft::CRC + at.index(raw.len() - craft::CRC);
        raw[at] ^= 1_u8 << bit;
        prop_assert!(Batch::from_producer(raw.into(), 1 << 20).is_err());
    }

    #[test]
    fn a_cut_is_always_found(raw in batch(), at in any::<Index>()) {
        let end = at.index(raw.len());
        prop_assert!(Batch::from_producer(Bytes::from(raw).slice(..end), 1 << 20).is_err());
    }
}
