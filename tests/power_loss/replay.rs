//! What is left of a folder after a power loss: made anew out of what shim.c kept.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// What a disk writes in one go, bytes.
const PAGE_BYTES: usize = 4096;

/// Numbers from a seed, the same every time.
#[derive(Debug)]
pub(crate) struct Draw(u64);

impl Draw {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end.max(1)
    }

    fn coin(&mut self) -> bool {
        self.below(2) == 0
    }
}

/// How much of what was never synced reached the disk all the same.
#[derive(Debug)]
pub(crate) enum Unsynced {
    Lost,
    /// Some of it: of each file any of the pages that were written over, and some beginning of what
    /// was appended; of each folder either the names that were synced or those of the last moment.
    ///
    /// No file is longer than its bytes: ext4 (in its ordered mode, the default) and XFS write
    /// those before the length. RocksDB counts on it: a MANIFEST that ends in zeros is damaged to
    /// it.
    Partly(Draw),
}

/// A folder that the shim watched, whose process was killed.
pub(crate) struct PowerLoss<'a> {
    state: &'a Path,
    unsynced: Unsynced,
    /// Where the files of the last moment are, by inode, those without a name included.
    last: HashMap<u64, PathBuf>,
    /// Bytes that were written and are gone.
    lost_bytes: u64,
}

impl<'a> PowerLoss<'a> {
    /// Makes the folder what a power loss left of it, and the shim's notes empty. Gives how many
    /// bytes were lost.
    pub(crate) fn strike(root: &Path, state: &'a Path, unsynced: Unsynced) -> Result<u64> {
        let mut loss = Self {
            state,
            unsynced,
            last: HashMap::new(),
            lost_bytes: 0,
        };
        loss.find(root)?;
        loss.find(&state.join("trash"))?;
        let anew = root.with_extension("anew");
        fs::create_dir(&anew)?;
        loss.make_folder(fs::metadata(root)?.ino(), Some(root), &anew)?;
        fs::remove_dir_all(root)?;
        fs::rename(&anew, root)?;
        fs::remove_dir_all(state)?;
        fs::create_dir(state)?;
        Ok(loss.lost_bytes)
    }

    fn find(&mut self, folder: &Path) -> Result<()> {
        for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                self.find(&entry.path())?;
            } else {
                self.last.insert(entry.metadata()?.ino(), entry.path());
            }
        }
        Ok(())
    }

    fn make_folder(&mut self, inode: u64, last: Option<&Path>, to: &Path) -> Result<()> {
        let keeps_last = match &mut self.unsynced {
            Unsynced::Lost => false,
            Unsynced::Partly(draw) => draw.coin(),
        };
        let names = match last {
            Some(last) if keeps_last => names_now(last)?,
            _ => self.names_synced(inode)?,
        };
        for (name, inode, is_folder) in names {
            let to = to.join(&name);
            if is_folder {
                fs::create_dir(&to)?;
                let last = last.map(|last| last.join(&name)).filter(|last| last.is_dir());
                self.make_folder(inode, last.as_deref(), &to)?;
            } else {
                let bytes = self.content(inode)?;
                File::create(&to)?.write_all(&bytes)?;
            }
        }
        Ok(())
    }

    fn names_synced(&self, inode: u64) -> Result<Vec<(String, u64, bool)>> {
        // A folder that was never synced has no names.
        let lines = fs::read_to_string(self.state.join(format!("folder-{inode}"))).unwrap_or_default();
        let parse = |line: &str| {
            let mut parts = line.splitn(3, ' ');
            let is_folder = parts.next()? == "d";
            let inode = parts.next()?.parse().ok()?;
            Some((parts.next()?.to_owned(), inode, is_folder))
        };
        lines
            .lines()
            .map(|line| parse(line).with_context(|| format!("the shim wrote {line:?}")))
            .collect()
    }

    fn content(&mut self, inode: u64) -> Result<Vec<u8>> {
        let synced = fs::read(self.state.join(format!("file-{inode}"))).unwrap_or_default();
        let last = match self.last.get(&inode) {
            Some(path) => fs::read(path).with_context(|| format!("reading {}", path.display()))?,
            None => synced.clone(),
        };
        let left = match &mut self.unsynced {
            Unsynced::Lost => synced,
            Unsynced::Partly(draw) => mix(synced, &last, draw),
        };
        let same = left.iter().zip(&last).filter(|(left, last)| left == last).count();
        self.lost_bytes += (last.len() - same) as u64;
        Ok(left)
    }
}

fn names_now(folder: &Path) -> Result<Vec<(String, u64, bool)>> {
    fs::read_dir(folder)?
        .map(|entry| {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            Ok((name, entry.metadata()?.ino(), entry.file_type()?.is_dir()))
        })
        .collect()
}

/// A file between what was synced and what was written last.
fn mix(synced: Vec<u8>, last: &[u8], draw: &mut Draw) -> Vec<u8> {
    let mut left = synced;
    if last.len() < left.len() && draw.coin() {
        left.truncate(last.len());
    }
    for (page, written) in left.chunks_mut(PAGE_BYTES).zip(last.chunks(PAGE_BYTES)) {
        let common = page.len().min(written.len());
        if page[..common] != written[..common] && draw.coin() {
            page[..common].copy_from_slice(&written[..common]);
        }
    }
    if let Some(appended) = last.get(left.len()..) {
        left.extend_from_slice(&appended[..draw.below(appended.len() + 1)]);
    }
    left
}
