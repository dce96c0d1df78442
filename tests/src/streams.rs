//! Standard streams that do not take what is written.

use std::fs::File;
use std::io::{PipeReader, PipeWriter, Write};
use std::process::Stdio;

use anyhow::Result;

/// A pipe without any room. The reader keeps it open.
pub fn full_pipe() -> Result<(PipeReader, PipeWriter)> {
    let (reader, writer) = std::io::pipe()?;
    rustix::io::ioctl_fionbio(&writer, true)?;
    while (&writer).write(&[b'x'; 64]).is_ok() {}
    while (&writer).write(b"x").is_ok() {}
    rustix::io::ioctl_fionbio(&writer, false)?;
    Ok((reader, writer))
}

/// A pipe that nobody can read any more.
pub fn closed_pipe() -> Result<Stdio> {
    let (reader, writer) = std::io::pipe()?;
    drop(reader);
    Ok(writer.into())
}

/// A disk without any room.
pub fn full_disk() -> Result<Stdio> {
    Ok(File::options().write(true).open("/dev/full")?.into())
}
