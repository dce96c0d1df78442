//! Opening a payload piece by piece, so that one may look at all of it without holding all of it.

use bytes::Bytes;

#[cfg(any(feature = "gzip", feature = "lz4", feature = "zstd"))]
use bytes::Buf as _;
#[cfg(any(feature = "gzip", feature = "lz4", feature = "zstd"))]
use std::io::Read;

use crate::{Compression, CompressionError};

/// What is asked of a decoder at a time, bytes.
#[cfg(any(feature = "gzip", feature = "lz4", feature = "zstd"))]
const PIECE_BYTES: usize = 64 * 1024;

/// A compressed payload that is being opened. Stricter than [`super::decompress`]: the payload must
/// be whole, with nothing behind it.
pub(crate) struct Opener {
    codec: Compression,
    limit_bytes: usize,
    opened_bytes: usize,
    decoder: Decoder,
}

enum Decoder {
    #[cfg(any(feature = "gzip", feature = "lz4", feature = "zstd"))]
    Stream(Box<dyn Read + Send>),
    #[cfg(feature = "snappy")]
    Blocks(super::snappy::Blocks, Bytes),
    #[cfg(not(any(feature = "gzip", feature = "snappy", feature = "lz4", feature = "zstd")))]
    None(std::convert::Infallible),
}

impl Opener {
    /// Begins to open `payload`, into at most `limit_bytes`.
    #[cfg_attr(
        not(any(feature = "gzip", feature = "snappy", feature = "lz4", feature = "zstd")),
        expect(unused_variables, reason = "unused where every feature is off")
    )]
    pub(crate) fn new(
        codec: Compression,
        payload: Bytes,
        limit_bytes: usize,
    ) -> Result<Self, CompressionError> {
        let decoder = match codec {
            #[cfg(feature = "gzip")]
            Compression::Gzip => Decoder::Stream(Box::new(super::gzip::reader(payload.reader()))),
            #[cfg(feature = "snappy")]
            Compression::Snappy => Decoder::Blocks(super::snappy::Blocks::of(&payload), payload),
            #[cfg(feature = "lz4")]
            Compression::Lz4 => {
                let stream = super::lz4::reader(&payload, payload.clone().reader())?;
                super::lz4::check_whole(&payload)?;
                Decoder::Stream(Box::new(stream))
            }
            #[cfg(feature = "zstd")]
            Compression::Zstd => {
                let stream = super::zstd::reader(payload.reader());
                Decoder::Stream(Box::new(
                    stream.map_err(|error| super::malformed(codec, error.to_string()))?,
                ))
            }
            #[allow(unreachable_patterns, reason = "reachable where a feature is off")]
            _ => return Err(CompressionError::NotBuiltIn { codec }),
        };
        Ok(Self {
            codec,
            limit_bytes,
            opened_bytes: 0,
            decoder,
        })
    }

    /// How much was opened so far, bytes.
    pub(crate) const fn opened_bytes(&self) -> usize {
        self.opened_bytes
    }

    /// Opens the next piece into `out`, whose first `filled` bytes are in use and stay; makes room
    /// where there is too little. Answers how many bytes came; 0 is the end of a whole payload.
    pub(crate) fn read(&mut self, out: &mut Vec<u8>, filled: usize) -> Result<usize, CompressionError> {
        let read = match &mut self.decoder {
            #[cfg(any(feature = "gzip", feature = "lz4", feature = "zstd"))]
            Decoder::Stream(stream) => {
                make_room(out, filled, PIECE_BYTES);
                read_piece(stream, &mut out[filled..])
                    .map_err(|error| super::malformed(self.codec, error.to_string()))?
            }
            #[cfg(feature = "snappy")]
            Decoder::Blocks(blocks, payload) => {
                let mut read = 0;
                // A block may be empty, which is not the end.
                while read == 0 {
                    let Some(block) = blocks.take(payload)? else {
                        break;
                    };
                    read = super::snappy::claimed_bytes(block)?;
                    if read <= self.limit_bytes - self.opened_bytes {
                        make_room(out, filled, read);
                        super::snappy::open_block(block, &mut out[filled..filled + read])?;
                    }
                }
                read
            }
            #[cfg(not(any(feature = "gzip", feature = "snappy", feature = "lz4", feature = "zstd")))]
            Decoder::None(never) => match *never {},
        };
        if read > self.limit_bytes - self.opened_bytes {
            return Err(CompressionError::TooLarge {
                codec: self.codec,
                limit_bytes: self.limit_bytes,
            });
        }
        self.opened_bytes += read;
        Ok(read)
    }
}

#[cfg(any(feature = "gzip", feature = "lz4", feature = "zstd"))]
fn read_piece(stream: &mut dyn Read, room: &mut [u8]) -> std::io::Result<usize> {
    loop {
        match stream.read(room) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}

/// Doubles, so that what comes piece by piece is moved a few times and not each time.
#[cfg(any(feature = "gzip", feature = "snappy", feature = "lz4", feature = "zstd"))]
fn make_room(out: &mut Vec<u8>, filled: usize, bytes: usize) {
    let needed = filled + bytes;
    if out.len() < needed {
        out.resize(needed.max(2 * filled), 0);
    }
}
