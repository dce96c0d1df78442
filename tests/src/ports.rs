//! Ports that stay a test's own: below the ephemeral range, so that no outgoing connection takes one while a broker is down,
//! and held by a lock file against other test processes.

use std::fs::File;
use std::net::TcpListener;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

/// Below Linux's ephemeral range, which begins at 32768 by default.
const RANGE: std::ops::Range<u16> = 21_000..32_000;

/// A port that is this process's as long as the value lives.
#[derive(Debug)]
pub struct ReservedPort {
    port: u16,
    _lock: File,
}

impl ReservedPort {
    /// The number.
    pub fn get(&self) -> u16 {
        self.port
    }
}

/// Reserves one free port.
pub fn reserve() -> Result<ReservedPort> {
    let folder = folder()?;
    // Processes that begin at different places rarely meet.
    let span = RANGE.end - RANGE.start;
    let begin = rand::random_range(0..span);
    for step in 0..span {
        let port = RANGE.start + (begin + step) % span;
        let lock = File::create(folder.join(port.to_string())).context("creating a port's lock file")?;
        if lock.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(ReservedPort { port, _lock: lock });
        }
    }
    bail!("no free port between {} and {}", RANGE.start, RANGE.end)
}

fn folder() -> Result<PathBuf> {
    let folder = std::env::temp_dir().join("tidelog-ports");
    std::fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserved_port_is_given_once() {
        let ports: Vec<_> = (0..20).map(|_| reserve().unwrap()).collect();
        let distinct: std::collections::HashSet<_> = ports.iter().map(ReservedPort::get).collect();
        assert_eq!(distinct.len(), 20);
        assert!(distinct.iter().all(|port| RANGE.contains(port)));
    }
}
