//! Filesystems of a few hundred megabytes, to be filled.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// A filesystem of its own in memory, mounted at a folder until this is dropped. Only root may
/// mount.
#[derive(Debug)]
pub struct SmallDisk {
    at: PathBuf,
    is_kept: bool,
}

impl SmallDisk {
    /// Mounts one of so many MiB at a folder, which is made.
    ///
    /// Where nothing can be mounted this is an error: what a full disk does would go untested
    /// otherwise.
    pub fn mount(at: &Path, size_mib: u32) -> Result<Self> {
        std::fs::create_dir_all(at).with_context(|| format!("making {}", at.display()))?;
        let output = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size_mib}m"), "tidelog-test"])
            .arg(at)
            .output()
            .context("running mount")?;
        ensure!(
            output.status.success(),
            "a FULL DISK CANNOT BE TESTED here: this test mounts a small filesystem, which needs root (CAP_SYS_ADMIN); run the tests as \
             root. mount said: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(Self {
            at: at.to_owned(),
            is_kept: false,
        })
    }

    /// Takes all of it away but so many bytes, until [`Self::make_room`].
    pub fn fill(&self, leave_bytes: u64) -> Result<()> {
        let taken = self.free_bytes()?.saturating_sub(leave_bytes);
        let file = std::fs::File::create(self.ballast()).context("making the ballast")?;
        if taken > 0 {
            rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, taken)
                .context("filling a disk")?;
        }
        Ok(())
    }

    /// Gives back what [`Self::fill`] took, if it did.
    pub fn make_room(&self) -> Result<()> {
        match std::fs::remove_file(self.ballast()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).context("making room"),
            _ => Ok(()),
        }
    }

    /// Leaves it mounted when this is dropped.
    pub fn keep(&mut self) {
        self.is_kept = true;
    }

    fn ballast(&self) -> PathBuf {
        self.at.join("ballast")
    }

    /// What is free, bytes.
    pub fn free_bytes(&self) -> Result<u64> {
        let space = rustix::fs::statvfs(&self.at)?;
        Ok(space.f_bavail * space.f_frsize)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if self.is_kept {
            return;
        }
        // Lazily: a process that was killed just now may hold a file for a moment more.
        let unmounted = Command::new("umount").arg("--lazy").arg(&self.at).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("{} stays mounted", self.at.display());
        }
    }
}
