//! P21: epochs in a log never fall, and the cache of where each begins equals a scan of the log.
//!
//! What lies below the log start has collapsed into the epoch that held it, which counts from the
//! log start.

use tidelog_types::{EpochEntry, Offset};

use super::{Check, Moment, Verdict};
use crate::event::What;
use crate::world::{Floor, Replica, World};

#[derive(Default)]
pub(super) struct EpochsRise;

impl Check for EpochsRise {
    fn before(&mut self, moment: &Moment<'_>, world: &World) -> Verdict {
        match moment.what {
            What::Appended {
                broker,
                partition,
                entry,
                ..
            } => {
                let Some(replica) = world.replica(*partition, *broker) else {
                    return Ok(());
                };
                let last = replica.last_epoch();
                if last > Some(entry.leader_epoch) {
                    return Err(format!(
                        "broker {broker} puts a batch of epoch {} at offset {} of {partition}, behind epoch {}",
                        entry.leader_epoch,
                        entry.base_offset,
                        last.unwrap_or_default()
                    ));
                }
                Ok(())
            }
            What::Derived {
                broker,
                partition,
                epochs,
                ..
            } => {
                let Some(replica) = world.replica(*partition, *broker) else {
                    return Ok(());
                };
                equals_scan(replica, epochs).map_err(|message| {
                    format!("the epoch cache of broker {broker} for {partition} is not its log's: {message}")
                })
            }
            _ => Ok(()),
        }
    }
}

fn equals_scan(replica: &Replica, cache: &[EpochEntry]) -> Verdict {
    // Of a log that was recovered without a batch only the cache knows what stood there.
    if replica.floor == Floor::Unknown && replica.entries.is_empty() && cache.len() <= 1 {
        return Ok(());
    }
    let cached = collapse(cache, replica.log_start);
    let scanned = scan(replica);
    if cached == scanned {
        return Ok(());
    }
    Err(format!("{} and {}", list(&cached), list(&scanned)))
}

/// The epochs of what stands in the log, and of what stood below its start.
fn scan(replica: &Replica) -> Vec<EpochEntry> {
    let mut epochs = Vec::new();
    if let Floor::Epoch(epoch) = replica.floor {
        epochs.push(EpochEntry {
            epoch,
            start_offset: replica.log_start,
        });
    }
    for entry in &replica.entries {
        if epochs.last().map(|last| last.epoch) < Some(entry.leader_epoch) {
            epochs.push(EpochEntry {
                epoch: entry.leader_epoch,
                start_offset: entry.base_offset.max(replica.log_start),
            });
        }
    }
    collapse(&epochs, replica.log_start)
}

/// Of the epochs that begin at or below the log start the last one counts, from the log start.
fn collapse(epochs: &[EpochEntry], log_start: Offset) -> Vec<EpochEntry> {
    let below = epochs.partition_point(|entry| entry.start_offset <= log_start);
    let mut collapsed = epochs[below.saturating_sub(1)..].to_vec();
    if below > 0 {
        collapsed[0].start_offset = log_start;
    }
    collapsed
}

fn list(epochs: &[EpochEntry]) -> String {
    let entries: Vec<_> = epochs
        .iter()
        .map(|entry| format!("{} from {}", entry.epoch, entry.start_offset))
        .collect();
    format!("[{}]", entries.join(", "))
}
