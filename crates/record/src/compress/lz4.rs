//! The LZ4 frame format, as Kafka writes it: independent blocks of 64 KiB, no checksums beside the
//! header's.

use std::io::{self, Read, Write};

use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};

use super::malformed;
use crate::{Compression, CompressionError};

const FRAME_MAGIC: [u8; 4] = 0x184d_2204_u32.to_le_bytes();
/// Bits of a frame's flags: what stands in it besides the blocks.
const BLOCK_CHECKSUM: u8 = 1 << 4;
const CONTENT_SIZE: u8 = 1 << 3;
const CONTENT_CHECKSUM: u8 = 1 << 2;
const DICTIONARY_ID: u8 = 1;
/// The bit of a block's length that says that the block is stored as it is.
const UNCOMPRESSED_BLOCK: u32 = 1 << 31;

pub(super) fn compress(payload: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    let info = FrameInfo::new()
        .block_size(BlockSize::Max64KB)
        .block_mode(BlockMode::Independent);
    let mut encoder = FrameEncoder::with_frame_info(info, out);
    encoder.write_all(payload)?;
    encoder.finish()?;
    Ok(())
}

/// The decoder takes a payload that ends between two blocks for a whole one, and does not look
/// behind the end: see [`check_whole`]. The legacy format, which Kafka never wrote, is refused: it
/// would need blocks of 8 MiB.
pub(super) fn reader<R: Read>(magic: &[u8], payload: R) -> Result<impl Read + use<R>, CompressionError> {
    if magic.starts_with(&FRAME_MAGIC) {
        Ok(FrameDecoder::new(payload))
    } else {
        Err(malformed(
            Compression::Lz4,
            "it does not begin with the frame format's magic number",
        ))
    }
}

/// Whether `payload` is one frame with its end mark, and nothing else: other implementations read
/// no further, or fail where the mark is missing. Walks from block to block and opens none.
pub(super) fn check_whole(payload: &[u8]) -> Result<(), CompressionError> {
    let cut = || malformed(Compression::Lz4, "its frame is cut short");
    let mut rest = payload;
    rest.split_off(..FRAME_MAGIC.len()).ok_or_else(cut)?;
    let flags = *rest.first().ok_or_else(cut)?;
    let length_of = |flag: u8, bytes: usize| if flags & flag == 0 { 0 } else { bytes };
    // Flags, the blocks' size, perhaps the content's size and a dictionary's id, and a checksum of
    // one byte.
    let header_bytes = 2 + length_of(CONTENT_SIZE, 8) + length_of(DICTIONARY_ID, 4) + 1;
    rest.split_off(..header_bytes).ok_or_else(cut)?;
    loop {
        let (length, blocks) = rest.split_first_chunk().ok_or_else(cut)?;
        rest = blocks;
        let length = u32::from_le_bytes(*length) & !UNCOMPRESSED_BLOCK;
        if length == 0 {
            break;
        }
        let block_bytes = (length as usize).saturating_add(length_of(BLOCK_CHECKSUM, 4));
        rest.split_off(..block_bytes).ok_or_else(cut)?;
    }
    rest.split_off(..length_of(CONTENT_CHECKSUM, 4)).ok_or_else(cut)?;
    if rest.is_empty() {
        Ok(())
    } else {
        let what = format!("{} bytes follow its frame", rest.len());
        Err(malformed(Compression::Lz4, what))
    }
}
