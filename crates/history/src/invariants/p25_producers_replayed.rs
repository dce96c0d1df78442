//! P25: what a replica remembers of idempotent producers equals a replay of its log.
//!
//! Of each producer the newest epoch counts, and of that its last batches. A replica may remember
//! batches that were trimmed since, so only batches that begin at or above the log start are
//! compared. Times are not part of a history.

use std::collections::{BTreeMap, VecDeque};

use tidelog_types::{Offset, ProducerEpoch, ProducerId, ProducerState, Sequence};

use super::{Check, Moment, Verdict};
use crate::event::What;
use crate::world::{Replica, World};

#[derive(Default)]
pub(super) struct ProducersReplayed;

/// A producer's epoch, and of each batch the first sequence, the first and the last offset.
type Remembered = (ProducerEpoch, VecDeque<(Sequence, Offset, Offset)>);

impl Check for ProducersReplayed {
    fn before(&mut self, moment: &Moment<'_>, world: &World) -> Verdict {
        let What::Derived {
            broker,
            partition,
            producers,
            ..
        } = moment.what
        else {
            return Ok(());
        };
        let Some(replica) = world.replica(*partition, *broker) else {
            return Ok(());
        };
        let remembered = in_log(producers, replica);
        let replayed = replay(replica);
        let mut ids = remembered.keys().chain(replayed.keys());
        match ids.find(|id| remembered.get(id) != replayed.get(id)) {
            Some(id) => Err(format!(
                "broker {broker} remembers of producer {id} in {partition} {}, and its log has {}",
                tell(remembered.get(id)),
                tell(replayed.get(id))
            )),
            None => Ok(()),
        }
    }
}

/// What is remembered, without batches that are no longer in the log.
fn in_log(producers: &[ProducerState], replica: &Replica) -> BTreeMap<ProducerId, Remembered> {
    producers
        .iter()
        .filter_map(|state| {
            let batches: VecDeque<_> = state
                .batches
                .iter()
                .filter(|batch| batch.base_offset >= replica.log_start)
                .map(|batch| (batch.base_sequence, batch.base_offset, batch.last_offset))
                .collect();
            (!batches.is_empty()).then_some((state.id, (state.epoch, batches)))
        })
        .collect()
}

fn replay(replica: &Replica) -> BTreeMap<ProducerId, Remembered> {
    let mut producers = BTreeMap::<ProducerId, Remembered>::new();
    for entry in &replica.entries {
        let Some(stamp) = entry.producer else { continue };
        let (epoch, batches) = producers
            .entry(stamp.id)
            .or_insert_with(|| (stamp.epoch, VecDeque::new()));
        if *epoch != stamp.epoch {
            *epoch = stamp.epoch;
            batches.clear();
        }
        batches.push_back((stamp.base_sequence, entry.base_offset, entry.end_offset() - 1));
        if batches.len() > ProducerState::REMEMBERED_BATCHES {
            batches.pop_front();
        }
    }
    for (_, batches) in producers.values_mut() {
        batches.retain(|(_, base_offset, _)| *base_offset >= replica.log_start);
    }
    producers.retain(|_, (_, batches)| !batches.is_empty());
    producers
}

fn tell(remembered: Option<&Remembered>) -> String {
    let Some((epoch, batches)) = remembered else {
        return "nothing".to_owned();
    };
    let batches: Vec<_> = batches
        .iter()
        .map(|(sequence, first, last)| format!("sequence {sequence} at {first} to {last}"))
        .collect();
    format!("epoch {epoch} with [{}]", batches.join(", "))
}
