//! L31: half a minute after healing every partition that can be read has been read, and every one
//! that can be written was written.
//!
//! A send or a read counts that began after healing. A reader asks for one thing at a time: what it
//! was answered first after healing it may have asked for before, and what it was answered later it
//! asked for since. Reading to the end begins after healing by definition.

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
