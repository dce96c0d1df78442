//! Compression of whole payloads. Reading is bounded: a decoder is asked for a little at a time,
//! and stopped at the limit.

#[cfg(any(feature = "gzip", feature = "lz4", feature = "zstd"))]
use std::io::{self, Read as _};

use crate::compression::{Compression, MAX_OPENED_BYTES};
use crate::{CompressionError, HEADER_BYTES};

pub(crate) use opener::Opener;

#[cfg(feature = "gzip")]
mod gzip;
#[cfg(feature = "lz4")]
mod lz4;
mod opener;
#[cfg(feature = "snappy")]
mod snappy;
#[cfg(feature = "zstd")]
mod zstd;

/// Compresses `payload` into a new buffer, behind room for a batch's header.
pub(crate) fn compress(codec: Compression, payload: &[u8]) -> Result<Vec<u8>, CompressionError> {
    let mut out = Vec::with_capacity(HEADER_BYTES + payload.len() / 2);
    out.resize(HEADER_BYTES, 0);
    match codec {
        Compression::None => out.extend_from_slice(payload),
        #[cfg(feature = "gzip")]
        Compression::Gzip => gzip::compress(payload, &mut out).map_err(|error| failed(codec, &error))?,
        #[cfg(feature = "snappy")]
        Compression::Snappy => snappy::compress(payload, &mut out)?,
        #[cfg(feature = "lz4")]
        Compression::Lz4 => lz4::compress(payload, &mut out).map_err(|error| failed(codec, &error))?,
        #[cfg(feature = "zstd")]
        Compression::Zstd => zstd::compress(payload, &mut out).map_err(|error| failed(codec, &error))?,
        #[allow(unreachable_patterns, reason = "reachable where a feature is off")]
        _ => return Err(CompressionError::NotBuiltIn { codec }),
    }
    Ok(out)
}

/// Decompresses `payload` into at most `limit_bytes`, never more than [`MAX_OPENED_BYTES`]. Memory
/// stays within twice that and what the codec itself needs, whatever the payload claims.
pub(crate) fn decompress(
    codec: Compression,
    payload: &[u8],
    limit_bytes: usize,
) -> Result<Vec<u8>, CompressionError> {
    #[allow(unused_variables, reason = "unused where every feature is off")]
    let limit_bytes = limit_bytes.min(MAX_OPENED_BYTES);
    match codec {
        #[cfg(feature = "gzip")]
        Compression::Gzip => read_limited(codec, gzip::reader(payload), limit_bytes),
        #[cfg(feature = "snappy")]
        Compression::Snappy => snappy::decompress(payload, limit_bytes),
        #[cfg(feature = "lz4")]
        Compression::Lz4 => read_limited(codec, lz4::reader(payload, payload)?, limit_bytes),
        #[cfg(feature = "zstd")]
        Compression::Zstd => {
            let reader = zstd::reader(payload).map_err(|error| malformed(codec, error.to_string()))?;
            read_limited(codec, reader, limit_bytes)
        }
        Compression::None if payload.len() <= limit_bytes => Ok(payload.to_vec()),
        Compression::None => Err(CompressionError::TooLarge { codec, limit_bytes }),
        #[allow(unreachable_patterns, reason = "reachable where a feature is off")]
        _ => Err(CompressionError::NotBuiltIn { codec }),
    }
}

/// Reads to the end, or to one byte past the limit, which proves that there is more.
#[cfg(any(feature = "gzip", feature = "lz4", feature = "zstd"))]
fn read_limited(
    codec: Compression,
    reader: impl io::Read,
    limit_bytes: usize,
) -> Result<Vec<u8>, CompressionError> {
    let mut out = Vec::new();
    let read = reader.take(limit_bytes as u64 + 1).read_to_end(&mut out);
    if out.len() > limit_bytes {
        return Err(CompressionError::TooLarge { codec, limit_bytes });
    }
    read.map_err(|error| malformed(codec, error.to_string()))?;
    Ok(out)
}

#[cfg(any(feature = "gzip", feature = "snappy", feature = "lz4", feature = "zstd"))]
fn malformed(codec: Compression, what: impl Into<String>) -> CompressionError {
    CompressionError::Malformed {
        codec,
        what: what.into(),
    }
}

#[cfg(any(feature = "gzip", feature = "lz4", feature = "zstd"))]
fn failed(codec: Compression, error: &io::Error) -> CompressionError {
    CompressionError::Failed {
        codec,
        what: error.to_string(),
    }
}
