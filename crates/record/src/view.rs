//! A framed batch: one header, and exactly the payload that it announces.

use bytes::Bytes;
use tidelog_types::BatchInfo;

use crate::compress::decompress;
use crate::header::checksum;
use crate::iter::{RecordIter, Records};
use crate::{BatchError, BatchHeader, Compression, HEADER_BYTES, OpenError, RecordError};

/// One batch, borrowed. Framing is checked, the CRC only when asked for.
#[derive(Debug, Clone, Copy)]
pub struct BatchView<'a> {
    header: BatchHeader,
    bytes: &'a [u8],
}

impl<'a> BatchView<'a> {
    /// Looks at bytes that are exactly one batch.
    pub fn new(bytes: &'a [u8]) -> Result<Self, BatchError> {
        let header = BatchHeader::read(bytes)?;
        check_size(&header, bytes.len())?;
        Ok(Self { header, bytes })
    }

    /// The decoded header.
    pub const fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The header in the words that the other crates speak.
    pub fn info(&self) -> BatchInfo {
        self.header.info()
    }

    /// The whole batch.
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The records, as they are: perhaps compressed.
    pub fn payload(&self) -> &'a [u8] {
        &self.bytes[HEADER_BYTES..]
    }

    /// Whether the checksum is right: one pass over the batch, no allocation.
    pub fn check_crc(&self) -> Result<(), BatchError> {
        let computed = checksum(self.bytes);
        if computed == self.header.crc {
            Ok(())
        } else {
            Err(BatchError::Crc {
                stored: self.header.crc,
                computed,
            })
        }
    }

    /// The records of an uncompressed batch, borrowed from it; `None` if it is compressed and must
    /// be [opened](Batch::open).
    pub fn records(&self) -> Option<RecordIter<'a>> {
        (self.header.attributes.compression() == Some(Compression::None))
            .then(|| RecordIter::new(&self.header, self.payload()))
    }
}

/// One batch and its bytes. Cheap to clone. Framing is checked; how much else is known depends on
/// how it was made: [`Batch::from_producer`], [`Batch::from_log`], [`Batch::framed`], or by
/// building it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    header: BatchHeader,
    bytes: Bytes,
}

impl Batch {
    /// Takes bytes that are exactly one batch, without looking at the CRC: for bytes whose checksum
    /// was verified before, such as a cache's.
    pub fn framed(bytes: Bytes) -> Result<Self, BatchError> {
        let header = *BatchView::new(&bytes)?.header();
        Ok(Self { header, bytes })
    }

    /// A header and the bytes it was just written to.
    pub(crate) fn sealed(header: BatchHeader, bytes: Bytes) -> Self {
        debug_assert_eq!(BatchHeader::read(&bytes), Ok(header));
        Self { header, bytes }
    }

    /// The decoded header.
    pub const fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The header in the words that the other crates speak.
    pub fn info(&self) -> BatchInfo {
        self.header.info()
    }

    /// The whole batch.
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The whole batch, without a clone.
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// The same, borrowed.
    pub fn view(&self) -> BatchView<'_> {
        BatchView {
            header: self.header,
            bytes: &self.bytes,
        }
    }

    /// Makes the records readable: nothing is copied if they are uncompressed, else they are
    /// decompressed, into at most `limit_bytes` (and never more than
    /// [`MAX_OPENED_BYTES`](crate::MAX_OPENED_BYTES)). What would become larger is refused as soon
    /// as that shows.
    pub fn open(&self, limit_bytes: usize) -> Result<Records, OpenError> {
        let compression = self
            .header
            .attributes
            .compression()
            .ok_or(BatchError::Compression {
                number: self.header.attributes.compression_number(),
            })?;
        let payload = self.bytes.slice(HEADER_BYTES..);
        let payload = match compression {
            Compression::None => payload,
            // An emptied range keeps no payload, whatever it was compressed with.
            _ if self.header.record_count == 0 && payload.is_empty() => payload,
            _ => decompress(compression, &payload, limit_bytes)?.into(),
        };
        Ok(Records::new(self.header, payload))
    }

    /// Whether every record has a key, as a compacted topic asks. Walks all records, so that it
    /// also finds every malformed one.
    pub fn check_keys(&self, limit_bytes: usize) -> Result<(), OpenError> {
        let records = self.open(limit_bytes)?;
        for (index, record) in records.iter().enumerate() {
            if record?.key.is_none() {
                return Err(RecordError::NoKey { index: index as u32 }.into());
            }
        }
        Ok(())
    }
}

pub(crate) fn check_size(header: &BatchHeader, actual: usize) -> Result<(), BatchError> {
    let declared = header.size_bytes as usize;
    match actual {
        _ if actual < declared => Err(BatchError::Truncated { declared, actual }),
        _ if actual > declared => Err(BatchError::Trailing { declared, actual }),
        _ => Ok(()),
    }
}
