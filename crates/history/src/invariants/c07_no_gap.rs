//! C7: a reader is handed offsets that rise, and every one of them: only what lies below the log
//! start may be missing, and a log start that a reader was told is one that a replica had by then.

use tidelog_types::{Offset, TopicIdPartition};

use super::{Check, Moment, Verdict};
use crate::event::{ReadRecord, Reader, What};
use crate::hash::Map;
use crate::world::World;

#[derive(Default)]
pub(super) struct NoGap {
    /// How far each reader is, and the event that told it so.
    positions: Map<(Reader, TopicIdPartition), (Offset, usize)>,
}

impl Check for NoGap {
    fn before(&mut self, moment: &Moment<'_>, world: &World) -> Verdict {
        match moment.what {
            What::Read {
                reader,
                partition,
                from,
                next,
                records,
                log_start,
            } => {
                begun(world, *partition, *log_start)?;
                let reached = self.positions.entry((*reader, *partition));
                let reached = reached.or_insert((*from, moment.position));
                let (expected, before) = *reached;
                // A reader may go back and read again; one that goes on further must not have
                // skipped a record.
                if *from > expected.max(*log_start) {
                    return Err(format!(
                        "reader {} reads {partition} from offset {from}, and was told by #{before} to read on from {expected}",
                        reader.0
                    ));
                }
                *reached = (*reached).max((*next, moment.position));
                complete(*from, *next, *log_start, records)
                    .map_err(|message| format!("reader {} of {partition}: {message}", reader.0))
            }
            What::ReadToEnd {
                partition,
                log_start,
                end,
                records,
            } => {
                begun(world, *partition, *log_start)?;
                complete(Offset::ZERO, *end, *log_start, records)
                    .map_err(|message| format!("reading {partition} to its end: {message}"))
            }
            _ => Ok(()),
        }
    }
}

/// Whether some replica's log began there, or further on. Where the history shows no replicas, as
/// that of real processes, nobody can tell.
fn begun(world: &World, partition: TopicIdPartition, log_start: Offset) -> Verdict {
    let shown = world
        .partition(partition)
        .filter(|known| !known.replicas.is_empty());
    match shown.map(|known| known.log_start) {
        Some(furthest) if log_start > furthest => Err(format!(
            "a reader was told that {partition} begins at {log_start}, and no replica of it begins after {furthest}"
        )),
        _ => Ok(()),
    }
}

/// Whether the records are all that lie between `from` and `next`, in order, but for what is below
/// the log start.
fn complete(from: Offset, next: Offset, log_start: Offset, records: &[ReadRecord]) -> Verdict {
    let mut expected = from;
    for record in records {
        if record.offset < expected {
            return Err(format!("offset {} comes after {expected} was due", record.offset));
        }
        no_record_between(expected, record.offset, log_start)?;
        expected = record.offset.next();
    }
    if next < expected {
        return Err(format!(
            "everything below {expected} is answered, and the next offset is {next}"
        ));
    }
    no_record_between(expected, next, log_start)
}

fn no_record_between(from: Offset, until: Offset, log_start: Offset) -> Verdict {
    let from = from.max(log_start);
    if from < until {
        return Err(format!(
            "the offsets from {from} up to {until} are missing, and the log starts at {log_start}"
        ));
    }
    Ok(())
}
