//! gzip, at zlib's usual level. A payload of several members is read as one, as Java does.

use std::io::{self, BufRead, Read, Write};

use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;

/// zlib's default level, and Kafka's.
const LEVEL: u32 = 6;

pub(super) fn compress(payload: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    let mut encoder = GzEncoder::new(out, flate2::Compression::new(LEVEL));
    encoder.write_all(payload)?;
    encoder.finish()?;
    Ok(())
}

pub(super) fn reader<R: BufRead>(payload: R) -> impl Read + use<R> {
    MultiGzDecoder::new(payload)
}
