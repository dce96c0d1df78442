//! Snappy in the framing of xerial's snappy-java, which is what Kafka means by snappy: a magic
//! header, then blocks of raw snappy, each behind its length. Not the framing of the snappy
//! project. What lacks the header is read as one raw block, as snappy-java does.

use snap::raw::{Decoder, Encoder, decompress_len, max_compress_len};

use super::malformed;
use crate::{Compression, CompressionError};

/// Magic, version 1, readable by version 1.
const HEADER: [u8; 16] = *b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";
/// Of the header, what tells the framing; the versions behind it are ignored, since some producers
/// write them little-endian.
const MAGIC_BYTES: usize = 8;
/// Uncompressed bytes of a block, as Kafka writes them.
const BLOCK_BYTES: usize = 32 * 1024;
/// No element of snappy makes more of a byte than this: a copy of 64 bytes takes three. A block
/// that claims more is lying.
const MAX_RATIO: usize = 22;

pub(super) fn compress(payload: &[u8], out: &mut Vec<u8>) -> Result<(), CompressionError> {
    out.extend_from_slice(&HEADER);
    let mut encoder = Encoder::new();
    for block in payload.chunks(BLOCK_BYTES) {
        let length_at = out.len();
        let block_at = length_at + 4;
        out.resize(block_at + max_compress_len(block.len()), 0);
        let written =
            encoder
                .compress(block, &mut out[block_at..])
                .map_err(|error| CompressionError::Failed {
                    codec: Compression::Snappy,
                    what: error.to_string(),
                })?;
        out[length_at..block_at].copy_from_slice(&(written as u32).to_be_bytes());
        out.truncate(block_at + written);
    }
    Ok(())
}

pub(super) fn decompress(payload: &[u8], limit_bytes: usize) -> Result<Vec<u8>, CompressionError> {
    let mut out = Vec::new();
    let mut blocks = Blocks::of(payload);
    while let Some(block) = blocks.take(payload)? {
        let start = out.len();
        let claimed = claimed_bytes(block)?;
        if claimed > limit_bytes - start {
            return Err(CompressionError::TooLarge {
                codec: Compression::Snappy,
                limit_bytes,
            });
        }
        out.resize(start + claimed, 0);
        open_block(block, &mut out[start..])?;
    }
    Ok(out)
}

/// A place among a payload's blocks.
#[derive(Debug)]
pub(super) struct Blocks {
    at: usize,
    is_framed: bool,
}

impl Blocks {
    /// Before the first block of `payload`.
    pub(super) fn of(payload: &[u8]) -> Self {
        let is_framed = payload.len() >= HEADER.len() && payload[..MAGIC_BYTES] == HEADER[..MAGIC_BYTES];
        Self {
            at: if is_framed { HEADER.len() } else { 0 },
            is_framed,
        }
    }

    /// The next block of the same payload, still compressed. What is not framed is one block, and
    /// an empty one is none.
    pub(super) fn take<'a>(&mut self, payload: &'a [u8]) -> Result<Option<&'a [u8]>, CompressionError> {
        let mut rest = &payload[self.at..];
        if !self.is_framed {
            let is_first = self.at == 0;
            self.at = payload.len();
            self.is_framed = true;
            return Ok(is_first.then_some(rest));
        }
        if rest.is_empty() {
            return Ok(None);
        }
        let block = rest
            .split_off(..4)
            .and_then(|length| length.try_into().ok())
            .map(|length| u32::from_be_bytes(length) as usize)
            .and_then(|length| rest.split_off(..length))
            .ok_or_else(|| malformed(Compression::Snappy, "a block is cut short"))?;
        self.at = payload.len() - rest.len();
        Ok(Some(block))
    }
}

/// What a block says it becomes, bytes, unless that is a lie.
pub(super) fn claimed_bytes(block: &[u8]) -> Result<usize, CompressionError> {
    let codec = Compression::Snappy;
    let claimed = decompress_len(block).map_err(|error| malformed(codec, error.to_string()))?;
    if claimed > block.len() * MAX_RATIO {
        return Err(malformed(codec, "a block claims more than it can hold"));
    }
    Ok(claimed)
}

/// Opens a block into exactly the bytes that it claims.
pub(super) fn open_block(block: &[u8], out: &mut [u8]) -> Result<(), CompressionError> {
    Decoder::new()
        .decompress(block, out)
        .map_err(|error| malformed(Compression::Snappy, error.to_string()))?;
    Ok(())
}
