//! Everything that reads a batch, over bytes that may be anything: the fuzz target of this crate.
//!
//! It also runs in the crate's tests, over the committed batches of this and other implementations
//! and damaged variants of them.

use bytes::Bytes;

use crate::{Batch, DEFAULT_OPENED_BYTES, HEADER_BYTES, split};

/// What a batch may take when it is opened, bytes: small, so that an answer that ignores it stands
/// out.
const OPENED_BYTES: usize = 1 << 20;
/// The topic's max.message.bytes.
const MAX_BATCH_BYTES: u32 = 1 << 20;

/// Validates, walks, opens and iterates. The checksum is tried as it is, and made right: damage
/// must not hide behind it.
pub fn target(data: &[u8]) {
    read(&Bytes::copy_from_slice(data));
    if data.len() > HEADER_BYTES {
        let mut sealed = data.to_vec();
        let crc = crc32c::crc32c(&sealed[21..]);
        sealed[17..21].copy_from_slice(&crc.to_be_bytes());
        let length = i32::try_from(sealed.len() - 12).expect("inputs are small");
        sealed[8..12].copy_from_slice(&length.to_be_bytes());
        read(&sealed.into());
    }
}

fn read(bytes: &Bytes) {
    if let Ok(batch) = Batch::from_producer(bytes.clone(), MAX_BATCH_BYTES) {
        arrive(&batch);
    }
    let _ = Batch::from_log(bytes.clone());
    for batch in split(bytes.clone()) {
        let Ok(batch) = batch else { break };
        let _ = batch.info();
        let _ = batch.check_keys(OPENED_BYTES);
        let Ok(records) = batch.open(OPENED_BYTES) else {
            continue;
        };
        assert!(records.payload().len() <= OPENED_BYTES.max(bytes.len()));
        let borrowed = records
            .iter()
            .inspect(|record| {
                if let Ok(record) = record {
                    assert!(record.headers().count() <= records.payload().len());
                }
            })
            .count();
        assert_eq!(records.into_iter().count(), borrowed);
    }
}

/// What a broker takes, every reader must be able to read in full.
fn arrive(batch: &Batch) {
    if batch.check_records().is_err() {
        return;
    }
    let records = batch.open(DEFAULT_OPENED_BYTES).expect("what was taken opens");
    let mut next = 0;
    let mut max_timestamp_ms = -1;
    for record in &records {
        let record = record.expect("what was taken is read");
        assert_eq!(record.offset.0, next);
        next += 1;
        max_timestamp_ms = max_timestamp_ms.max(record.timestamp_ms);
    }
    assert_eq!(next, batch.info().offset_count());
    assert_eq!(max_timestamp_ms, batch.info().max_timestamp_ms);
}

#[cfg(test)]
#[path = "../../../fuzz/src/mutate.rs"]
mod mutate;

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "fixtures stand in files")]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn no_bytes_make_a_reader_panic() {
        let mut seeds = Vec::new();
        for folder in ["ours", "python"] {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("tests/fixtures")
                .join(folder);
            for file in std::fs::read_dir(folder).unwrap() {
                seeds.push(std::fs::read(file.unwrap().path()).unwrap());
            }
        }
        mutate::run(&seeds, 60_000, target);
    }
}
