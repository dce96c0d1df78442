//! zstd, at its usual level.

use std::io::{self, BufRead, Read, Write};

use zstd::stream::read::Decoder;
use zstd::stream::write::Encoder;

/// zstd's default level, and Kafka's.
const LEVEL: i32 = 3;
/// The widest window that is decoded, as a power of two: what zstd's highest level writes. It
/// bounds the decoder's memory; of the 128 MiB only what the payload fills is ever touched.
const MAX_WINDOW_LOG: u32 = 27;

pub(super) fn compress(payload: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    let mut encoder = Encoder::new(out, LEVEL)?;
    encoder.set_pledged_src_size(Some(payload.len() as u64))?;
    encoder.include_contentsize(true)?;
    encoder.write_all(payload)?;
    encoder.finish()?;
    Ok(())
}

pub(super) fn reader<'a, R: BufRead + 'a>(payload: R) -> io::Result<impl Read + use<'a, R>> {
    let mut decoder = Decoder::with_buffer(payload)?;
    decoder.window_log_max(MAX_WINDOW_LOG)?;
    Ok(decoder)
}
