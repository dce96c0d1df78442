//! How far a database was synced, written beside it: what tells a lost WAL tail from none.
//!
//! RocksDB drops silently what follows the first damaged record of its WAL. So the last synced
//! sequence number stands in a small file of its own, in two slots written in turn, each with a
//! checksum: a torn write leaves the other one. The file is preallocated; a note of it is one block
//! write and one fdatasync.
//!
//! 1. Before the database is created, the mark is, at sequence 0.
//! 2. While it runs, the mark follows the syncs, at most about a second behind; after an orderly
//!    stop it is exact.
//! 3. Before it is opened again, it is opened read-only: what it has must reach the mark.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use tidelog_types::crash::point;

/// Slots lie in blocks of their own, bytes.
const SLOT_SPACING: u64 = 4096;
const SLOT_BYTES: usize = 32;
const SLOT_COUNT: u64 = 2;
/// Names the format and its version.
const MAGIC: [u8; 8] = *b"tidemrk1";

/// An open mark file.
#[derive(Debug)]
pub struct SyncMark {
    file: File,
    counter: u64,
    sequence: u64,
}

impl SyncMark {
    /// Opens the mark at a path, or creates it at sequence 0, durably.
    ///
    /// A file in which no slot is intact is [`io::ErrorKind::InvalidData`].
    pub fn open(path: &Path) -> io::Result<Self> {
        match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => Self::read(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::create(path),
            Err(error) => Err(error),
        }
    }

    /// The last sequence recorded; 0 if none ever was.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Records a sequence that a sync covered, durably. Call it only after that sync returned.
    pub fn record(&mut self, sequence: u64) -> io::Result<()> {
        assert!(
            sequence >= self.sequence,
            "the mark never goes back: {sequence} after {}",
            self.sequence
        );
        let counter = self.counter + 1;
        self.file
            .write_all_at(&encode(counter, sequence), counter % SLOT_COUNT * SLOT_SPACING)?;
        point("crash:storage/mark/written");
        self.file.sync_data()?;
        point("crash:storage/mark/synced");
        self.counter = counter;
        self.sequence = sequence;
        Ok(())
    }

    fn create(path: &Path) -> io::Result<Self> {
        // Made aside and renamed, so that a crash in between leaves no half-made file.
        let aside = path.with_extension("new");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&aside)?;
        file.write_all_at(&vec![0; (SLOT_COUNT * SLOT_SPACING) as usize], 0)?;
        file.write_all_at(&encode(0, 0), 0)?;
        file.sync_all()?;
        std::fs::rename(&aside, path)?;
        if let Some(parent) = path.parent() {
            File::open(parent)?.sync_all()?;
        }
        Ok(Self {
            file,
            counter: 0,
            sequence: 0,
        })
    }

    fn read(file: File) -> io::Result<Self> {
        let mut newest = None;
        for slot in 0..SLOT_COUNT {
            let mut bytes = [0; SLOT_BYTES];
            match file.read_exact_at(&mut bytes, slot * SLOT_SPACING) {
                Ok(()) => newest = newest.max(decode(&bytes)),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
                Err(error) => return Err(error),
            }
        }
        let Some((counter, sequence)) = newest else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "neither slot of the sync mark is intact",
            ));
        };
        Ok(Self {
            file,
            counter,
            sequence,
        })
    }
}

fn encode(counter: u64, sequence: u64) -> [u8; SLOT_BYTES] {
    let mut bytes = [0; SLOT_BYTES];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..16].copy_from_slice(&counter.to_be_bytes());
    bytes[16..24].copy_from_slice(&sequence.to_be_bytes());
    let checksum = crc32c::crc32c(&bytes[..24]);
    bytes[24..28].copy_from_slice(&checksum.to_be_bytes());
    bytes
}

fn decode(bytes: &[u8; SLOT_BYTES]) -> Option<(u64, u64)> {
    let (covered, checksum) = bytes.split_at(24);
    let intact = crc32c::crc32c(covered).to_be_bytes() == checksum[..4] && covered[..8] == MAGIC;
    let number = |at: usize| u64::from_be_bytes(covered[at..at + 8].try_into().expect("eight bytes"));
    intact.then(|| (number(8), number(16)))
}

/// A slot that may be anything; for the crate's fuzz target.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn fuzz(data: &[u8]) {
    if let Some(slot) = data.first_chunk()
        && let Some((counter, sequence)) = decode(slot)
    {
        assert_eq!(encode(counter, sequence)[..24], slot[..24]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_intact_slot_counts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mark");
        let mut mark = SyncMark::open(&path).unwrap();
        assert_eq!(mark.sequence(), 0);
        mark.record(10).unwrap();
        mark.record(25).unwrap();
        drop(mark);
        let mark = SyncMark::open(&path).unwrap();
        assert_eq!((mark.counter, mark.sequence()), (2, 25));

        // Torn while it was written: the one before it is what there is.
        mark.file.write_all_at(&[0xff; 9], 16).unwrap();
        assert_eq!(SyncMark::open(&path).unwrap().sequence(), 10);
        mark.file.write_all_at(&[0xff; 9], SLOT_SPACING).unwrap();
        assert_eq!(
            SyncMark::open(&path).unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
    }

    #[test]
    fn slot_bytes_are_as_released() {
        let slot = encode(1, 0x0203);
        assert_eq!(slot[..24], *b"tidemrk1\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\x02\x03");
        assert_eq!(decode(&slot), Some((1, 0x0203)));
    }
}
