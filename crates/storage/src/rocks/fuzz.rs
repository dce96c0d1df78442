//! Everything that reads keys, values and batches of the record database, and its sync mark, over
//! bytes that may be anything: the fuzz target of this crate.
//!
//! It also runs in the crate's tests, over the committed values of released versions and damaged
//! variants of them.

use tidelog_types::{Offset, ProducerId};

use super::{codec, keys, sync_mark};
use crate::batch_header::BatchHeader;

/// Reads the bytes as every kind of key and value there is.
pub fn target(data: &[u8]) {
    let _ = codec::decode_partition(data).map(codec::encode_partition);
    let _ = codec::decode_offset("value", data).map(codec::encode_offset);
    let _ = codec::decode_epoch_start(data).map(codec::encode_epoch_start);
    let _ = codec::decode_producer(ProducerId(1), data).map(|state| codec::encode_producer(&state));
    let _ = codec::decode_time_entry(data).map(codec::encode_time_entry);
    let _ = codec::decode_directory(data).map(|identity| codec::encode_directory(&identity));
    let _ = codec::decode_next_local(data).map(codec::encode_next_local);
    let _ = keys::parse_record_key(data);
    let _ = keys::parse_time_key(data);
    let _ = keys::parse_state_key(data);
    sync_mark::fuzz(data);
    batch(data);
}

/// With the checksum and length as they are, and made right.
fn batch(data: &[u8]) {
    let Some(base) = data.first_chunk().map(|first| Offset(u64::from_be_bytes(*first))) else {
        return;
    };
    let read = |bytes: &[u8]| BatchHeader::verify(bytes, base).map(|header| header.end_offset());
    let _ = read(data);
    if data.len() > 21 {
        let mut sealed = data.to_vec();
        let length = i32::try_from(sealed.len() - 12).expect("inputs are small");
        sealed[8..12].copy_from_slice(&length.to_be_bytes());
        let crc = crc32c::crc32c(&sealed[21..]);
        sealed[17..21].copy_from_slice(&crc.to_be_bytes());
        let _ = read(&sealed);
    }
}

#[cfg(test)]
#[path = "../../../../fuzz/src/mutate.rs"]
mod mutate;

#[cfg(test)]
mod tests {
    use super::*;

    fn seeds() -> Vec<Vec<u8>> {
        let byte = |text: &str, at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
        let unhex = |text: &str| (0..text.len()).step_by(2).map(|at| byte(text, at)).collect();
        let values = [
            include_str!("codec/fixtures/v1.txt"),
            include_str!("codec/fixtures/corrupt.txt"),
        ];
        let values = values
            .iter()
            .flat_map(|fixture| fixture.lines())
            .filter_map(|line| line.split_once(' '))
            .map(|(_, value)| unhex(value));
        let mut header = vec![0; 80];
        header[23..27].copy_from_slice(&7_i32.to_be_bytes());
        let mut last = header.clone();
        last[..8].copy_from_slice(&u64::MAX.to_be_bytes());
        values
            .chain([
                header,
                last,
                vec![1; 12],
                vec![2; 20],
                vec![0, 0, 0, 1, 4, 0, 0, 0, 9],
            ])
            .collect()
    }

    #[test]
    fn no_bytes_make_a_decoder_panic() {
        mutate::run(&seeds(), 1_000_000, target);
    }

    /// Found by the above: the sum of two fields overflowed.
    #[test]
    fn a_batch_whose_offsets_overflow_is_refused() {
        for base in [u64::MAX, Offset::MAX.0] {
            let mut bytes = vec![0; 80];
            bytes[..8].copy_from_slice(&base.to_be_bytes());
            bytes[8..12].copy_from_slice(&68_i32.to_be_bytes());
            bytes[23..27].copy_from_slice(&7_i32.to_be_bytes());
            let crc = crc32c::crc32c(&bytes[21..]);
            bytes[17..21].copy_from_slice(&crc.to_be_bytes());
            let why = BatchHeader::verify(&bytes, Offset(base)).unwrap_err();
            assert!(why.contains("largest"), "{why}");
        }
    }
}
