//! How far a partition must be replayed before its coordinator serves (G12).
//!
//! Everything below where the leadership began (the leader-epoch start offset) belongs to the
//! state: nothing is appended in this epoch before the coordinator does so itself. And it must be
//! committed: the state answers clients, and what is not committed yet may be lost.

use tidelog_types::Offset;
use tidelog_types::mutant::{self, Mutant};

/// A replay under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loading {
    end: Offset,
    next: Offset,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadStep {
    /// Read on from there, replay what is read, and tell [`Loading::read`].
    Read(Offset),
    /// What is left is not committed yet: wait until the high watermark is above this, then read
    /// on.
    Wait(Offset),
    /// Everything was replayed: [`crate::Turn::new`].
    Ready,
    /// The partition ends there, below where it must reach, and all of it is committed: it lacks
    /// records.
    Damaged(Offset),
}

impl Loading {
    /// A replay of a partition from its start, for a state that reaches up to `end`.
    pub const fn new(end: Offset) -> Self {
        Self {
            end,
            next: Offset::ZERO,
        }
    }

    /// Up to where the log belongs to the state.
    pub const fn end(&self) -> Offset {
        self.end
    }

    /// The first step.
    pub fn first(&self) -> LoadStep {
        if self.next >= self.end {
            LoadStep::Ready
        } else {
            LoadStep::Read(self.next)
        }
    }

    /// Everything below `next` was replayed; the high watermark was there when it was read.
    pub fn read(&mut self, next: Offset, high_watermark: Offset) -> LoadStep {
        let got_nothing = next <= self.next;
        self.next = self.next.max(next);
        if self.next >= self.end || mutant::is_on(Mutant::ServeBeforeReplayed) {
            LoadStep::Ready
        } else if !got_nothing {
            LoadStep::Read(self.next)
        } else if high_watermark < self.end {
            LoadStep::Wait(high_watermark)
        } else {
            LoadStep::Damaged(self.next)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_partition_is_ready_at_once() {
        assert_eq!(Loading::new(Offset::ZERO).first(), LoadStep::Ready);
    }

    #[test]
    fn g12_it_reads_on_until_the_leadership_s_start_and_waits_for_what_is_not_committed() {
        let mut loading = Loading::new(Offset(30));
        assert_eq!(loading.first(), LoadStep::Read(Offset::ZERO));
        assert_eq!(loading.read(Offset(10), Offset(20)), LoadStep::Read(Offset(10)));
        assert_eq!(loading.read(Offset(20), Offset(20)), LoadStep::Read(Offset(20)));
        assert_eq!(loading.read(Offset(20), Offset(20)), LoadStep::Wait(Offset(20)));
        assert_eq!(loading.read(Offset(30), Offset(30)), LoadStep::Ready);
    }

    #[test]
    fn a_partition_that_ends_too_early_is_damaged() {
        let mut loading = Loading::new(Offset(30));
        assert_eq!(
            loading.read(Offset::ZERO, Offset(30)),
            LoadStep::Damaged(Offset::ZERO)
        );
    }
}
