//! Plain records, and stored batches, that may be anything.

use super::*;

const MAX_BYTES: u32 = 1 << 20;

/// Builds a batch of a message and opens it again, and opens the bytes themselves as a stored
/// batch.
pub(crate) fn target(data: &[u8]) {
    let _ = open(
        vec![Bytes::copy_from_slice(data)],
        Offset::ZERO,
        MAX_BYTES as usize,
        true,
    );
    let Ok(plain) = v1::PlainRecords::decode(data) else {
        return;
    };
    let Ok(batch) = build(&plain, MAX_BYTES, 0) else {
        return;
    };
    let opened = open(vec![batch.into_bytes()], Offset::ZERO, MAX_BYTES as usize, true);
    let count = opened.map(|opened| opened.records.len());
    assert_eq!(
        count.ok(),
        Some(plain.records.len()),
        "what was taken can be read"
    );
}
