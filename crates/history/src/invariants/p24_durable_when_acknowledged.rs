//! P24: when a produce is acknowledged, its records have been on min.insync.replicas disks, by the
//! disks' word: those that the sender asked to store, where the leader says that they stand. Up to
//! where a duplicate is stored is not for the leader to say.
//!
//! A disk counts that held them and was lost since: the leader cannot know of it. The minimum is
//! the lowest that was registered from the epoch in which the batch was appended to the one in
//! which its leader answers: a leader acts upon a registration only when it has heard of it, and a
//! duplicate of what was committed by a lower minimum is answered at once.

use std::collections::BTreeSet;
use std::sync::Arc;

use tidelog_types::{BrokerId, Offset};

use super::{Check, Moment, Verdict};
use crate::event::{Entry, Value, What};
use crate::world::{Partition, Replica, World};

#[derive(Default)]
pub(super) struct DurableWhenAcknowledged;

impl Check for DurableWhenAcknowledged {
    fn before(&mut self, moment: &Moment<'_>, world: &World) -> Verdict {
        let What::Acknowledges {
            broker,
            partition,
            base_offset,
            values,
        } = moment.what
        else {
            return Ok(());
        };
        let Some(known) = world.judged(*partition) else {
            return Ok(());
        };
        let (Some(leader), Some(minimum)) =
            (known.replicas.get(broker), minimum(known, *broker, *base_offset))
        else {
            return Ok(());
        };
        let end = *base_offset + values.len() as u64;
        let keeps = |(broker, replica): (&BrokerId, &Replica)| {
            let there = replica.durable_end >= end
                && same(leader, replica, *base_offset, end)
                && holds(replica, *base_offset, values);
            there.then_some(*broker)
        };
        let lost = known.lost.iter().map(|(broker, replica)| (broker, replica));
        let keeping: BTreeSet<_> = known.replicas.iter().chain(lost).filter_map(keeps).collect();
        if keeping.len() >= minimum {
            return Ok(());
        }
        let keeping: Vec<_> = keeping.iter().map(ToString::to_string).collect();
        Err(format!(
            "broker {broker} acknowledges {partition} from {base_offset} up to {end}, which is on the disks of brokers [{}], and {minimum} are needed",
            keeping.join(", ")
        ))
    }
}

fn minimum(known: &Partition, leader: BrokerId, base_offset: Offset) -> Option<usize> {
    let replica = known.replicas.get(&leader)?;
    let newest = || known.registration.as_ref();
    let in_epochs = replica.leads.and_then(|epoch| {
        let appended = replica.entries_from(base_offset).next();
        let first = appended.map_or(epoch, |entry| entry.leader_epoch.min(epoch));
        known
            .minimums
            .range(first..=epoch)
            .map(|(_, minimum)| *minimum)
            .min()
    });
    in_epochs.or_else(|| Some(newest()?.effective_min_insync_replicas()))
}

/// Whether these values stand in a log from an offset on, as far as it still has them.
fn holds(replica: &Replica, base_offset: Offset, values: &[Value]) -> bool {
    let gone = replica.log_start.distance_from(base_offset) as usize;
    let mut left = values.get(gone..).unwrap_or_default();
    let mut from = base_offset + gone as u64;
    for entry in replica.entries_from(from) {
        if left.is_empty() || entry.base_offset > from {
            break;
        }
        let inside = &entry.values[from.distance_from(entry.base_offset) as usize..];
        let shared = inside.len().min(left.len());
        if inside[..shared] != left[..shared] {
            return false;
        }
        left = &left[shared..];
        from = entry.end_offset();
    }
    left.is_empty()
}

/// Whether the two logs have the same batches there, as far as both still have them.
fn same(leader: &Replica, other: &Replica, from: Offset, until: Offset) -> bool {
    let from = from.max(leader.log_start).max(other.log_start);
    if from >= until {
        return true;
    }
    let inside = |entry: &&Arc<Entry>| entry.base_offset < until;
    let here = leader.entries_from(from).take_while(inside);
    let there = other.entries_from(from).take_while(inside);
    here.eq(there)
}
