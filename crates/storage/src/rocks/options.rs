//! How RocksDB is set up: what safety asks for, and what the budget allows.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DB, DBCompressionType, DBRecoveryMode, InfoLogger,
    LogLevel, Options,
};
use tidelog_types::{BrokerId, ClusterId, DirectoryId};

use super::db::Family;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Smallest memory budget that is taken; a smaller one is raised to it, bytes.
pub const MIN_MEMORY_BUDGET_BYTES: usize = 32 * MIB;
/// Values from this size on go to blob files, where compaction does not rewrite them, bytes.
const MIN_BLOB_BYTES: u64 = KIB as u64;
/// Memtable of a family that holds little: state, times, meta, bytes.
const SMALL_MEMTABLE_BYTES: usize = 4 * MIB;
/// Memtables of `records` are between these, bytes.
const RECORDS_MEMTABLE_BYTES: std::ops::RangeInclusive<usize> = 4 * MIB..=128 * MIB;
/// WALs together take at most this part of the filesystem, so that a small one is not filled by
/// what is on its way.
const WAL_PART_OF_DISK: u64 = 16;
/// A blob file is at most this part of the filesystem, within these bounds: collecting garbage from
/// one needs room for a copy of what lives in it, and must find it on a disk that is nearly full.
const BLOB_FILE_PART_OF_DISK: u64 = 256;
const BLOB_FILE_BYTES: std::ops::RangeInclusive<u64> = MIB as u64..=256 * MIB as u64;
/// RocksDB's own log, bytes a file and files kept.
const INFO_LOG_BYTES: usize = 8 * MIB;
const INFO_LOG_FILES: usize = 4;
/// So that no ulimit has to be raised.
const MAX_OPEN_FILES: i32 = 512;

/// What a [`super::RocksStore`] is opened with.
#[derive(Debug, Clone)]
pub struct RocksOptions {
    /// Whose directory it must be, or becomes.
    pub broker: BrokerId,
    /// The cluster it must belong to, if that is known yet.
    pub cluster: Option<ClusterId>,
    /// The directory id that a fresh directory gets.
    pub fresh_directory: DirectoryId,
    /// Roughly what memtables, block cache and the cache of recent batches may take together under
    /// load, bytes. Nothing is taken before it is needed.
    pub memory_budget: usize,
    /// How often the space below log starts is given back: trimming is rare and in bulk.
    pub reclaim_interval: Duration,
}

impl RocksOptions {
    /// 512 MiB, space reclaimed once a minute.
    pub fn new(broker: BrokerId, cluster: Option<ClusterId>, fresh_directory: DirectoryId) -> Self {
        Self {
            broker,
            cluster,
            fresh_directory,
            memory_budget: 512 * MIB,
            reclaim_interval: Duration::from_mins(1),
        }
    }
}

/// How a memory budget is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Budget {
    /// One memtable of `records`; at most three live at a time, bytes.
    pub(crate) records_memtable: usize,
    /// Index and key blocks, bytes.
    pub(crate) block_cache: usize,
    /// Recent batches, bytes.
    pub(crate) tail_cache: usize,
    /// All WALs, bytes.
    pub(crate) wals: u64,
    /// One blob file, bytes.
    pub(crate) blob_file: u64,
}

impl Budget {
    pub(crate) fn of(memory_budget: usize) -> Self {
        let total = memory_budget.max(MIN_MEMORY_BUDGET_BYTES);
        let records_memtable =
            (total / 8).clamp(*RECORDS_MEMTABLE_BYTES.start(), *RECORDS_MEMTABLE_BYTES.end());
        Self {
            records_memtable,
            block_cache: total / 16,
            tail_cache: total / 4,
            wals: 4 * records_memtable as u64,
            blob_file: *BLOB_FILE_BYTES.end(),
        }
    }

    /// What RocksDB allocates ahead of a new WAL, bytes: it takes that of the disk at once, and
    /// writes into it later.
    pub(crate) fn wal_ahead(&self) -> u64 {
        (self.records_memtable as u64 / 10 * 11).min(self.wals)
    }

    /// The same, with what is on its way on the disk bounded by the disk's size.
    pub(crate) fn on_disk(self, total_bytes: u64) -> Self {
        let smallest = SMALL_MEMTABLE_BYTES as u64;
        Self {
            wals: self.wals.min((total_bytes / WAL_PART_OF_DISK).max(smallest)),
            blob_file: (total_bytes / BLOB_FILE_PART_OF_DISK)
                .clamp(*BLOB_FILE_BYTES.start(), *BLOB_FILE_BYTES.end()),
            ..self
        }
    }
}

/// Database options that make a write survive, and a lost one be noticed. Both databases of a
/// broker are opened with them; memory and families are the caller's.
///
/// - The WAL is on, written out by every write, synced only when asked, never recycled.
/// - Recovery stops at the first damaged WAL record, so what is there is a prefix of what was
///   written; whether it is long enough is for [`super::SyncMark`] to say.
/// - Closed WALs are noted in the manifest and missed if they are gone.
/// - Two background jobs, so that flush and compaction leave a small machine its cores.
/// - RocksDB's own log is bounded, its periodic statistics are off.
pub fn safe_options() -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_paranoid_checks(true);
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    options.set_track_and_verify_wals_in_manifest(true);
    options.set_recycle_log_file_num(0);
    options.set_wal_bytes_per_sync(0);
    options.set_manual_wal_flush(false);
    options.set_unordered_write(false);
    options.set_allow_mmap_writes(false);
    options.set_compression_type(DBCompressionType::None);
    options.set_max_background_jobs(2);
    options.set_max_open_files(MAX_OPEN_FILES);
    options.set_max_log_file_size(INFO_LOG_BYTES);
    options.set_keep_log_file_num(INFO_LOG_FILES);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options
}

/// Opens a database to be looked into, without changing anything in it, not even RocksDB's own log.
/// It shows what there was when it was opened, as recovery would find it.
pub fn open_unchanged(path: &Path, families: Vec<ColumnFamilyDescriptor>) -> Result<DB, rocksdb::Error> {
    let mut options = safe_options();
    options.create_if_missing(false);
    options.create_missing_column_families(false);
    options.set_info_logger(InfoLogger::new_callback_logger(LogLevel::Fatal, |_, _| {}));
    DB::open_cf_descriptors_read_only(&options, path, families, false)
}

/// Whether files in a directory can be written past the page cache. Tried out, since it depends on
/// the filesystem: tmpfs and some overlays cannot.
pub fn direct_io_works(dir: &Path) -> bool {
    const BLOCK: usize = 4096;
    let path = dir.join(".direct-io-probe");
    let tried = || -> std::io::Result<()> {
        let flag = rustix::fs::OFlags::DIRECT.bits().cast_signed();
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .custom_flags(flag)
            .open(&path)?;
        let buffer = vec![0u8; 2 * BLOCK];
        let skip = buffer.as_ptr().align_offset(BLOCK);
        file.write_all(&buffer[skip..skip + BLOCK])
    };
    let works = tried().is_ok();
    // Not there if opening it failed; if it cannot be removed, an empty file is left, which hurts
    // nobody.
    let _ = std::fs::remove_file(&path);
    works
}

/// The options of the store's database.
pub(crate) fn store_options(budget: &Budget, direct_io: bool) -> Options {
    let mut options = safe_options();
    options.set_use_direct_io_for_flush_and_compaction(direct_io);
    // Families that are hardly written would pin WALs for ever without it.
    options.set_max_total_wal_size(budget.wals);
    options
}

/// The families, each with its options.
pub(crate) fn families(budget: &Budget) -> Vec<ColumnFamilyDescriptor> {
    let cache = Cache::new_lru_cache(budget.block_cache);
    let mut families: Vec<_> = Family::ALL
        .into_iter()
        .map(|family| {
            let options = match family {
                Family::Records => records_options(budget, &cache),
                Family::Times | Family::State | Family::Meta => small_options(&cache),
            };
            ColumnFamilyDescriptor::new(family.name(), options)
        })
        .collect();
    // RocksDB always has it; nothing is kept there.
    families.push(ColumnFamilyDescriptor::new(
        rocksdb::DEFAULT_COLUMN_FAMILY_NAME,
        small_options(&cache),
    ));
    families
}

fn records_options(budget: &Budget, cache: &Cache) -> Options {
    let mut options = family_options(cache);
    options.set_write_buffer_size(budget.records_memtable);
    options.set_max_write_buffer_number(3);
    options.set_enable_blob_files(true);
    options.set_min_blob_size(MIN_BLOB_BYTES);
    options.set_blob_file_size(budget.blob_file);
    options.set_blob_compression_type(DBCompressionType::None);
    // Switched on by the reclaim thread when it pays, and then for all files.
    options.set_enable_blob_gc(false);
    options.set_blob_gc_age_cutoff(1.0);
    options
}

fn small_options(cache: &Cache) -> Options {
    let mut options = family_options(cache);
    options.set_write_buffer_size(SMALL_MEMTABLE_BYTES);
    options.set_max_write_buffer_number(2);
    options
}

fn family_options(cache: &Cache) -> Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(cache);
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    let mut options = Options::default();
    options.set_block_based_table_factory(&blocks);
    options.set_compression_type(DBCompressionType::None);
    options.set_bottommost_compression_type(DBCompressionType::None);
    options.set_level_compaction_dynamic_level_bytes(true);
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_bounds_what_may_be_taken_together() {
        for budget in [64 * MIB, 256 * MIB, 512 * MIB, 4096 * MIB] {
            let parts = Budget::of(budget);
            let small = 4 * 2 * SMALL_MEMTABLE_BYTES;
            let most = 3 * parts.records_memtable + parts.block_cache + parts.tail_cache + small;
            assert!(most <= budget + small, "{budget}: {parts:?}");
        }
        assert_eq!(Budget::of(512 * MIB).records_memtable, 64 * MIB);
        assert_eq!(Budget::of(0), Budget::of(MIN_MEMORY_BUDGET_BYTES));
    }

    #[test]
    fn a_small_disk_is_not_filled_by_what_is_on_its_way() {
        let budget = Budget::of(512 * MIB);
        let large = budget.on_disk(1024 * 1024 * MIB as u64);
        assert_eq!(
            (large.wals, large.blob_file),
            (256 * MIB as u64, 256 * MIB as u64)
        );
        let small = budget.on_disk(320 * MIB as u64);
        assert_eq!(
            (small.wals, small.blob_file),
            (20 * MIB as u64, 5 * MIB as u64 / 4)
        );
        let tiny = budget.on_disk(MIB as u64);
        assert_eq!((tiny.wals, tiny.blob_file), (4 * MIB as u64, MIB as u64));
    }

    #[test]
    fn probing_direct_io_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let _ = direct_io_works(dir.path());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
