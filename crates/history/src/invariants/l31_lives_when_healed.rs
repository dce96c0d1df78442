//! L31: half a minute after healing every partition that can be read has been read, and every one that can be written was written.
//!
//! A send or a read counts that began after healing. A reader asks for one thing at a time: what it was answered first after healing it
//! may have asked for before, and what it was answered later it asked for since. Reading to the end begins after healing by definition.

use std::collections::BTreeSet;
use std::time::Duration;

use tidelog_types::TopicIdPartition;

use super::{Check, Moment, Verdict};
use crate::event::{Reader, What};
use crate::world::World;

/// How long a healed cluster may take to serve.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Default)]
pub(super) struct LivesWhenHealed {
    owed: Vec<Debt>,
    /// Readers that had an answer since healing.
    answered: BTreeSet<Reader>,
}

/// What a partition still owes.
struct Debt {
    partition: TopicIdPartition,
    reads: bool,
    writes: bool,
    healed_at: Duration,
    position: usize,
}

impl Check for LivesWhenHealed {
    fn before(&mut self, moment: &Moment<'_>, world: &World) -> Verdict {
        let overdue = |debt: &Debt| moment.at > debt.healed_at + PATIENCE;
        if let Some(debt) = self.owed.iter().find(|debt| overdue(debt)) {
            return Err(debt.message(moment.at));
        }
        match moment.what {
            What::Healed { owed } => {
                self.answered.clear();
                let debts = owed.iter().map(|owed| Debt {
                    partition: owed.partition,
                    reads: owed.reads,
                    writes: owed.writes,
                    healed_at: moment.at,
                    position: moment.position,
                });
                self.owed.extend(debts.filter(|debt| debt.reads || debt.writes));
            }
            What::Read {
                reader, partition, ..
            } => self.answered(*reader, *partition),
            What::ReadToEnd { partition, .. } => self.read(*partition),
            What::SendAcknowledged { send, .. } => {
                if let Some(send) = world.send(*send) {
                    self.written(send.partition, send.began);
                }
            }
            What::Ended { .. } => {
                if let Some(debt) = self.owed.first() {
                    return Err(debt.message(moment.at));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self, at: Duration) -> Verdict {
        match self.owed.iter().find(|debt| at >= debt.healed_at + PATIENCE) {
            Some(debt) => Err(debt.message(at)),
            None => Ok(()),
        }
    }
}

impl LivesWhenHealed {
    fn answered(&mut self, reader: Reader, partition: TopicIdPartition) {
        let is_first = self.answered.insert(reader);
        if !is_first {
            self.read(partition);
        }
    }

    fn read(&mut self, partition: TopicIdPartition) {
        for debt in self.owed.iter_mut().filter(|debt| debt.partition == partition) {
            debt.reads = false;
        }
        self.owed.retain(|debt| debt.reads || debt.writes);
    }

    fn written(&mut self, partition: TopicIdPartition, began: usize) {
        for debt in self.owed.iter_mut().filter(|debt| debt.partition == partition) {
            debt.writes &= began < debt.position;
        }
        self.owed.retain(|debt| debt.reads || debt.writes);
    }
}

impl Debt {
    fn message(&self, now: Duration) -> String {
        let what = match (self.reads, self.writes) {
            (true, true) => "neither read nor written",
            (true, false) => "not read",
            (false, _) => "not written",
        };
        format!(
            "{} was {what} until {now:?}, and the cluster is healed since {:?} (#{})",
            self.partition, self.healed_at, self.position
        )
    }
}

#[cfg(test)]
pub(super) fn cases() -> super::tests::Cases {
    use crate::event::Owed;
    use crate::script::*;
    let healed = |reads, writes| What::Healed {
        owed: vec![Owed {
            partition: p0(),
            reads,
            writes,
        }],
    };
    let ended = || What::Ended { up: brokers(&[1]) };
    super::tests::Cases {
        bad: vec![
            (
                "it is not read in time",
                timed([(5, healed(true, false)), (36, read(1, 0, 0, &[]))]),
            ),
            (
                "it is not written in time",
                timed([
                    (5, healed(false, true)),
                    (6, send(1, 1, &[10])),
                    (36, acked(1, 0, 1)),
                ]),
            ),
            (
                "the run breaks off when the time is up",
                timed([(5, healed(true, false)), (35, send(1, 1, &[10]))]),
            ),
            (
                "a send from before healing does not count",
                timed([
                    (4, send(1, 1, &[10])),
                    (5, healed(false, true)),
                    (6, acked(1, 0, 1)),
                    (7, ended()),
                ]),
            ),
            (
                "the run ends without it",
                timed([
                    (5, healed(true, true)),
                    (6, read(1, 0, 0, &[])),
                    (6, read(1, 0, 0, &[])),
                    (7, ended()),
                ]),
            ),
            (
                "the answer to a read from before healing does not count",
                timed([(5, healed(true, false)), (6, read(1, 0, 0, &[])), (7, ended())]),
            ),
            (
                "nor does one of each of two readers",
                timed([
                    (5, healed(true, false)),
                    (6, read(1, 0, 0, &[])),
                    (6, read(2, 0, 0, &[])),
                    (7, ended()),
                ]),
            ),
            (
                "to be told where it ends is not to read it",
                timed([
                    (5, healed(true, false)),
                    (6, end_asked(1, None)),
                    (7, end_answered(1, 0, 1)),
                    (8, ended()),
                ]),
            ),
        ],
        good: vec![
            (
                "it is read and written in time",
                timed([
                    (5, healed(true, true)),
                    (6, send(1, 1, &[10])),
                    (20, acked(1, 0, 1)),
                    (34, read(1, 0, 1, &[(0, 10)])),
                    (35, read(1, 1, 1, &[])),
                    (90, ended()),
                ]),
            ),
            (
                "it is read to its end",
                timed([
                    (5, healed(true, false)),
                    (6, read_to_end(0, 0, &[])),
                    (90, ended()),
                ]),
            ),
            (
                "nothing is owed",
                timed([(5, healed(false, false)), (90, ended())]),
            ),
            (
                "the run breaks off",
                timed([(5, healed(true, true)), (6, send(1, 1, &[10]))]),
            ),
        ],
    }
}
