//! What a member writes down. A line is written in one piece before anything builds on it, so that
//! a killed member's lines are true.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// A line that a member told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// Microseconds since 1970: all processes of a test share one clock.
    pub at_us: u64,
    pub what: Happened,
}

/// What happened to a member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Happened {
    /// It is in the group.
    Joined,
    /// Partitions are its own from now on.
    Assigned(Vec<u32>),
    /// It gave partitions up, and is about to say so.
    Revoked(Vec<u32>),
    /// Partitions were taken away.
    Lost(Vec<u32>),
    /// A record was handed to it.
    Delivered { partition: u32, offset: u64, row: u64 },
    /// A commit was acknowledged: partitions and offsets.
    Committed(Vec<(u32, u64)>),
    /// A commit was refused or failed.
    NotCommitted(String),
    /// It left in order.
    Left,
}

/// Writes lines down.
#[derive(Debug)]
pub struct Diary(Mutex<File>);

impl Diary {
    /// A new one.
    pub fn begin(path: &Path) -> Result<Self> {
        let file = File::create(path).with_context(|| format!("making {}", path.display()))?;
        Ok(Self(Mutex::new(file)))
    }

    /// Writes one line.
    ///
    /// # Panics
    /// If it cannot be written: a member that lost its diary cannot be judged.
    pub fn note(&self, what: Happened) {
        let mut file = self.0.lock();
        // Within the lock, so that lines stand in the order of their moments.
        let line = serde_json::to_string(&Told {
            at_us: now_us(),
            what,
        })
        .expect("a line is plain data");
        file.write_all(format!("{line}\n").as_bytes())
            .expect("the diary can be written");
    }
}

/// Every whole line of a diary. What was being written when its writer was killed is none.
pub fn read(path: &Path) -> Result<Vec<Told>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        // Its writer has not come to it yet.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
    };
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let line = |line: &str| serde_json::from_str(line).with_context(|| format!("reading {line:?}"));
    whole.lines().map(line).collect()
}

/// Microseconds since 1970.
pub fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_micros() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_lines_are_read_back_and_half_a_line_is_none() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("diary");
        assert!(read(&path)?.is_empty());
        let diary = Diary::begin(&path)?;
        diary.note(Happened::Joined);
        diary.note(Happened::Committed(vec![(3, 42)]));
        drop(diary);
        let mut text = std::fs::read_to_string(&path)?;
        text.push_str("{\"at_us\":1,\"wh");
        std::fs::write(&path, text)?;
        let told: Vec<Happened> = read(&path)?.into_iter().map(|told| told.what).collect();
        assert_eq!(told, [Happened::Joined, Happened::Committed(vec![(3, 42)])]);
        Ok(())
    }
}
