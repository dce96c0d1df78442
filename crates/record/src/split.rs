//! Several batches one after another, as a fetch answers them.

use std::iter::FusedIterator;

use bytes::Bytes;

use crate::{Batch, BatchError, BatchHeader};

/// Splits bytes that hold any number of whole batches into batches that share the buffer. Framing
/// is checked, CRCs are not ([`Batch::view`], then `check_crc`).
pub fn split(bytes: Bytes) -> Split {
    Split { rest: bytes }
}

/// The batches of [`split`]. Ends after the first error: what follows damage has no beginning.
#[derive(Debug, Clone)]
pub struct Split {
    rest: Bytes,
}

impl Iterator for Split {
    type Item = Result<Batch, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let batch = BatchHeader::read(&self.rest).and_then(|header| {
            let declared = header.size_bytes as usize;
            if declared > self.rest.len() {
                return Err(BatchError::Truncated {
                    declared,
                    actual: self.rest.len(),
                });
            }
            Ok(Batch::sealed(header, self.rest.split_to(declared)))
        });
        if batch.is_err() {
            self.rest.clear();
        }
        Some(batch)
    }
}

impl FusedIterator for Split {}
