//! A data directory: whose it is, and why it may not be opened.
//!
//! ```text
//! <dir>/lock   held by the process that has the directory open
//! <dir>/mark   the sync mark
//! <dir>/db/    RocksDB
//! ```

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use tidelog_log::StoreError;
use tidelog_types::{BrokerId, ClusterId, DirectoryId, LocalPartition, Offset, TopicIdPartition};

use super::codec::{self, DecodeError, DirectoryIdentity};
use super::db::{Db, Family};
use super::keys::{self, FORMAT_VERSION, MetaKind};
use super::options::RocksOptions;

/// Whose data directory it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirectoryMeta {
    /// The layout of keys and values.
    pub format_version: u32,
    /// The id of this directory's life.
    pub directory: DirectoryId,
    /// The broker it belongs to.
    pub broker: BrokerId,
    /// The cluster it belongs to, once that has formed.
    pub cluster: Option<ClusterId>,
    /// Whether it was closed in order before this opening. A fresh directory was.
    pub was_clean: bool,
}

/// What every remedy for a damaged directory comes down to.
const REMEDY: &str = "move the directory aside and start with an empty one: the broker then takes its old place under a new \
                      directory id and copies its partitions from the other replicas";

/// Why a data directory cannot be opened. Nothing in it was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("{dir} is in use by another process; stop it, or give this broker a data directory of its own")]
    Locked {
        /// The directory.
        dir: PathBuf,
    },
    /// It was written by another version of the program.
    #[error("{dir} has format {found}, this program knows {FORMAT_VERSION}; run the version that wrote it")]
    Format {
        /// The directory.
        dir: PathBuf,
        /// Its format version.
        found: u32,
    },
    /// It is another broker's.
    #[error("{dir} belongs to broker {found}, not {expected}; correct broker.id or broker.data_dir")]
    ForeignBroker {
        /// The directory.
        dir: PathBuf,
        /// Whose it is.
        found: BrokerId,
        /// Whose it should be.
        expected: BrokerId,
    },
    /// It is another cluster's.
    #[error(
        "{dir} belongs to cluster {found}, not {expected}; correct broker.data_dir or the list of voters"
    )]
    ForeignCluster {
        /// The directory.
        dir: PathBuf,
        /// Whose it is.
        found: ClusterId,
        /// Whose it should be.
        expected: ClusterId,
    },
    /// It holds no data directory (only when it is opened to be read).
    #[error("{dir} holds no data directory")]
    Missing {
        /// The directory.
        dir: PathBuf,
    },
    /// Files of it are gone.
    #[error("{dir} is incomplete: {what}; restore the missing files, or {REMEDY}")]
    Incomplete {
        /// The directory.
        dir: PathBuf,
        /// What is missing.
        what: String,
    },
    /// The disk lost writes that it had reported to be on stable storage.
    #[error(
        "{dir} lost synced writes: it ends at sequence {found}, {marked} was synced; check the disk and {REMEDY}"
    )]
    LostWrites {
        /// The directory.
        dir: PathBuf,
        /// RocksDB's sequence number there.
        found: u64,
        /// The one that was marked as synced.
        marked: u64,
    },
    /// A partition's log has a hole or a damaged batch at its end, or its state cannot be read.
    #[error(
        "{dir} is damaged in {partition} ({local}) at offset {offset}: {what}; check the disk and {REMEDY}"
    )]
    Damaged {
        /// The directory.
        dir: PathBuf,
        /// The partition.
        partition: TopicIdPartition,
        /// Its number in the directory.
        local: LocalPartition,
        /// Where.
        offset: Offset,
        /// What does not fit.
        what: String,
    },
    /// RocksDB cannot open its files.
    #[error("RocksDB cannot open {dir}: {detail}; if files are damaged, check the disk and {REMEDY}")]
    Database {
        /// The directory.
        dir: PathBuf,
        /// What it says.
        detail: String,
    },
    /// The operating system refused.
    #[error("{what} failed in {dir}: {source}")]
    Io {
        /// The directory.
        dir: PathBuf,
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
}

/// Makes a folder and those above it that are missing, their names on stable storage: a name lasts
/// no longer than the sync of the folder it stands in, whatever is synced below it.
pub fn create_dir_durably(path: &Path) -> io::Result<()> {
    let sync_name = |folder: &Path| {
        let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
    };
    let missing: Vec<_> = path
        .ancestors()
        .take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists())
        .collect();
    if missing.is_empty() {
        // It may have been made by a start that died before it came to the sync. Where that is not
        // ours to do, others made it.
        return sync_name(path).or_else(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => Ok(()),
            _ => Err(error),
        });
    }
    std::fs::create_dir_all(path)?;
    missing.into_iter().try_for_each(sync_name)
}

/// The paths of a directory, and its errors.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    pub(crate) dir: PathBuf,
}

impl Layout {
    pub(crate) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.dir.join("db")
    }

    pub(crate) fn mark(&self) -> PathBuf {
        self.dir.join("mark")
    }

    /// Whether there is a database.
    pub(crate) fn has_database(&self) -> bool {
        self.database().join("CURRENT").exists()
    }

    /// Whether there are files of a database, complete or not.
    pub(crate) fn has_database_files(&self) -> bool {
        std::fs::read_dir(self.database()).is_ok_and(|files| {
            files.filter_map(Result::ok).any(|file| {
                let name = file.file_name();
                let name = name.to_string_lossy();
                [".sst", ".blob", ".log"].iter().any(|end| name.ends_with(end))
                    || name.starts_with("MANIFEST")
            })
        })
    }

    /// Takes the directory for this process, until the file is dropped or the process ends.
    pub(crate) fn lock(&self) -> Result<File, OpenError> {
        create_dir_durably(&self.dir).map_err(|error| self.io("creating the directory", error))?;
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(self.dir.join("lock"))
            .map_err(|error| self.io("opening the lock file", error))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(OpenError::Locked {
                dir: self.dir.clone(),
            }),
            Err(error) => Err(self.io("locking the directory", error.into())),
        }
    }

    /// Makes the database's folder.
    pub(crate) fn make_database_folder(&self) -> Result<(), OpenError> {
        create_dir_durably(&self.database()).map_err(|error| self.io("making the database's folder", error))
    }

    pub(crate) fn io(&self, what: &'static str, source: io::Error) -> OpenError {
        OpenError::Io {
            dir: self.dir.clone(),
            what,
            source,
        }
    }

    pub(crate) fn database_error(&self, error: &rocksdb::Error) -> OpenError {
        OpenError::Database {
            dir: self.dir.clone(),
            detail: error.to_string(),
        }
    }

    pub(crate) fn store_error(&self, error: StoreError) -> OpenError {
        OpenError::Database {
            dir: self.dir.clone(),
            detail: error.to_string(),
        }
    }

    pub(crate) fn store_error_in(&self, partition: TopicIdPartition, error: StoreError) -> OpenError {
        match error {
            StoreError::Corrupt {
                partition: local,
                offset,
                what,
            } => OpenError::Damaged {
                dir: self.dir.clone(),
                partition,
                local,
                offset,
                what,
            },
            other => self.store_error(other),
        }
    }

    fn meta_error(&self, error: DecodeError) -> OpenError {
        OpenError::Incomplete {
            dir: self.dir.clone(),
            what: format!("its description is damaged ({error})"),
        }
    }

    /// Reads whose directory it is; `None` if its creation was never completed.
    pub(crate) fn read_meta(&self, db: &Db) -> Result<Option<(DirectoryMeta, u32)>, OpenError> {
        let get = |kind| {
            db.get(Family::Meta, &keys::meta_key(kind))
                .map_err(|error| self.database_error(&error))
        };
        let Some(version) = get(MetaKind::FormatVersion)? else {
            return Ok(None);
        };
        let found = version.try_into().map_or(0, u32::from_be_bytes);
        if found != FORMAT_VERSION {
            return Err(OpenError::Format {
                dir: self.dir.clone(),
                found,
            });
        }
        let missing = |what: &str| OpenError::Incomplete {
            dir: self.dir.clone(),
            what: what.to_owned(),
        };
        let identity = get(MetaKind::Directory)?.ok_or_else(|| missing("it does not say whose it is"))?;
        let identity = codec::decode_directory(&identity).map_err(|error| self.meta_error(error))?;
        let next =
            get(MetaKind::NextLocalPartition)?.ok_or_else(|| missing("it does not count partitions"))?;
        let next = codec::decode_next_local(&next).map_err(|error| self.meta_error(error))?;
        let was_clean = get(MetaKind::CleanShutdown)?.is_some();
        let DirectoryIdentity {
            directory,
            broker,
            cluster,
        } = identity;
        Ok(Some((
            DirectoryMeta {
                format_version: found,
                directory,
                broker,
                cluster,
                was_clean,
            },
            next,
        )))
    }

    /// Checks that a directory is the one it should be.
    pub(crate) fn check_owner(&self, meta: &DirectoryMeta, options: &RocksOptions) -> Result<(), OpenError> {
        if meta.broker != options.broker {
            let (found, expected) = (meta.broker, options.broker);
            return Err(OpenError::ForeignBroker {
                dir: self.dir.clone(),
                found,
                expected,
            });
        }
        match (meta.cluster, options.cluster) {
            (Some(found), Some(expected)) if found != expected => Err(OpenError::ForeignCluster {
                dir: self.dir.clone(),
                found,
                expected,
            }),
            _ => Ok(()),
        }
    }
}
