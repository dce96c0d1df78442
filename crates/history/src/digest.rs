//! A hash over a history, by which two runs are compared; and over anything else that can be
//! printed.

use std::fmt::{self, Debug, Write};

use crate::event::Event;

/// Takes events and gives a number: two histories that differ in anything give different ones, but
/// for an accident of 1 in 2^64. It is the same on every machine, for the same version of this
/// crate.
///
/// FNV-1a over the events' lines, each as [`Event`] renders itself. Text that is written to it is
/// taken as it is.
#[derive(Debug, Clone)]
pub struct Digest(u64);

impl Default for Digest {
    fn default() -> Self {
        Self::new()
    }
}

impl Digest {
    const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;

    /// Of no events.
    pub const fn new() -> Self {
        Self(Self::BASIS)
    }

    /// Takes the next event.
    pub fn take(&mut self, event: &Event) {
        writeln!(self, "{event}").expect("a hash takes every text");
    }

    /// Of everything taken so far.
    pub const fn value(&self) -> u64 {
        self.0
    }

    /// Of a whole history.
    pub fn of(history: &[Event]) -> u64 {
        let mut digest = Self::new();
        for event in history {
            digest.take(event);
        }
        digest.value()
    }

    /// Of how a value prints for people who debug.
    pub fn of_value(value: &impl Debug) -> u64 {
        let mut digest = Self::new();
        write!(digest, "{value:?}").expect("a hash takes every text");
        digest.value()
    }
}

impl Write for Digest {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(Self::PRIME);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::{history, read, send};

    #[test]
    fn the_digest_tells_histories_apart_and_is_the_same_in_every_process() {
        let one = history([send(1, 1, &[10, 11]), read(1, 0, 1, &[(0, 10)])]);
        let other = history([send(1, 1, &[10, 11]), read(1, 0, 1, &[(0, 11)])]);
        let mut later = one.clone();
        later[1].at += std::time::Duration::from_nanos(1);
        assert_ne!(Digest::of(&one), Digest::of(&other));
        assert_ne!(Digest::of(&one), Digest::of(&later));
        assert_ne!(Digest::of(&one), Digest::of(&one[..1]));
        assert_eq!(Digest::of(&[]), 0xcbf2_9ce4_8422_2325);
        // FNV-1a of "a", from its authors' test vectors.
        let mut digest = Digest::new();
        digest.write_str("a").unwrap();
        assert_eq!(digest.value(), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(Digest::of_value(&format_args!("a")), digest.value());
    }
}
