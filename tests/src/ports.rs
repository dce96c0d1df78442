//! Ports that stay a test's own: below the ephemeral range, so that no outgoing connection takes
//! one while a broker is down, and held against other test processes.
//!
//! A port is held by a Unix socket in Linux's abstract namespace. The kernel gives its name to one
//! process at a time and takes it back when that process ends, however it ends; no file is left
//! behind. Like ports, such names belong to one network namespace.

use std::io;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Below Linux's ephemeral range, which begins at 32768 by default.
const RANGE: std::ops::Range<u16> = 21_000..32_000;

/// The first port of `tidelog dev`.
const DOCUMENTED: u16 = 7171;
/// How long to wait for it, and how often to look.
const PATIENCE: Duration = Duration::from_mins(5);
const LOOK: Duration = Duration::from_millis(100);

/// A port that is this process's as long as the value lives.
#[derive(Debug)]
pub struct ReservedPort {
    port: u16,
    _hold: UnixListener,
}

impl ReservedPort {
    /// The port as a number.
    pub fn get(&self) -> u16 {
        self.port
    }
}

/// Reserves one free port.
pub fn reserve() -> Result<ReservedPort> {
    let mut ports = reserve_together(&[0])?;
    ports.pop().context("no port where one was reserved")
}

/// Reserves free ports that lie so far, rising, above the first of them.
pub fn reserve_together(offsets: &[u16]) -> Result<Vec<ReservedPort>> {
    // Processes that begin at different places rarely meet.
    let span = RANGE.end - RANGE.start - offsets.last().copied().unwrap_or_default();
    let begin = rand::random_range(0..span);
    for step in 0..span {
        let first = RANGE.start + (begin + step) % span;
        let taken: Option<Vec<_>> = offsets.iter().map(|offset| take(first + offset)).collect();
        if let Some(ports) = taken {
            return Ok(ports);
        }
    }
    bail!(
        "no free ports {offsets:?} apart between {} and {}",
        RANGE.start,
        RANGE.end
    )
}

/// This port, unless somebody has it.
fn take(port: u16) -> Option<ReservedPort> {
    let hold = hold(port).ok()?;
    let is_free = TcpListener::bind(("127.0.0.1", port)).is_ok();
    is_free.then_some(ReservedPort { port, _hold: hold })
}

/// The port at which `tidelog dev` and the documents begin. Whoever uses any of theirs holds this
/// one, and waits for it while another test has it.
pub fn documented() -> Result<ReservedPort> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Ok(hold) = hold(DOCUMENTED) {
            return Ok(ReservedPort {
                port: DOCUMENTED,
                _hold: hold,
            });
        }
        if Instant::now() > deadline {
            bail!(
                "another test has used port {DOCUMENTED} for {} s",
                PATIENCE.as_secs()
            );
        }
        std::thread::sleep(LOOK);
    }
}

/// Takes the name that stands for a port; fails while another value holds it.
fn hold(port: u16) -> io::Result<UnixListener> {
    let name = SocketAddr::from_abstract_name(format!("tidelog-test-port-{port}"))?;
    UnixListener::bind_addr(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_reserved_as_far_apart_as_asked() {
        let ports = reserve_together(&[0, 1, 100]).unwrap();
        let numbers: Vec<u16> = ports.iter().map(ReservedPort::get).collect();
        assert_eq!(numbers, [numbers[0], numbers[0] + 1, numbers[0] + 100]);
    }

    #[test]
    fn a_reserved_port_is_given_once() {
        let ports: Vec<_> = (0..20).map(|_| reserve().unwrap()).collect();
        let distinct: std::collections::HashSet<_> = ports.iter().map(ReservedPort::get).collect();
        assert_eq!(distinct.len(), 20);
        assert!(distinct.iter().all(|port| RANGE.contains(port)));
    }

    #[test]
    fn a_port_is_held_as_long_as_its_value_lives() {
        let port = reserve().unwrap();
        assert!(hold(port.get()).is_err());
        let number = port.get();
        drop(port);
        assert!(hold(number).is_ok());
    }
}
