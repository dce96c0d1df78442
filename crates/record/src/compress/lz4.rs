//! The LZ4 frame format, as Kafka writes it: independent blocks of 64 KiB, no checksums beside the header's.

use std::io::{self, Read, Write};

use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};

use super::malformed;
use crate::{Compression, CompressionError};

const FRAME_MAGIC: [u8; 4] = 0x184d_2204_u32.to_le_bytes();

pub(super) fn compress(payload: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    let info = FrameInfo::new()
        .block_size(BlockSize::Max64KB)
        .block_mode(BlockMode::Independent);
    let mut encoder = FrameEncoder::with_frame_info(info, out);
    encoder.write_all(payload)?;
    encoder.finish()?;
    Ok(())
}

/// The decoder takes a payload that ends between two blocks for a whole one; the batch's record count then tells. The
/// legacy format, which Kafka never wrote, is refused: it would need blocks of 8 MiB.
pub(super) fn reader(payload: &[u8]) -> Result<impl Read, CompressionError> {
    if payload.starts_with(&FRAME_MAGIC) {
        Ok(FrameDecoder::new(payload))
    } else {
        Err(malformed(
            Compression::Lz4,
            "it does not begin with the frame format's magic number",
        ))
    }
}
