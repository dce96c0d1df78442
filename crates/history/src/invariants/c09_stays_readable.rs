//! C9: a record that a reader was handed is there for every later one.
//!
//! Reading to the end is demanded to find what was read before healing: a record that is committed
//! late may be handed to somebody else while the last answer is on its way.

use tidelog_types::{Offset, TopicIdPartition};

use super::{Check, Moment, Verdict};
use crate::event::{ReadRecord, What};
use crate::hash::Map;
use crate::paged::Paged;
use crate::world::World;

#[derive(Default)]
pub(super) struct StaysReadable {
    /// Of each offset that was read the event that did so first.
    read: Map<TopicIdPartition, Paged<usize>>,
    healed: Option<usize>,
}

/// What an answer says something of.
struct Answer<'a> {
    from: Offset,
    /// Everything below is there or is gone.
    until: Offset,
    records: &'a [ReadRecord],
}

impl Check for StaysReadable {
    fn before(&mut self, moment: &Moment<'_>, world: &World) -> Verdict {
        let (partition, from, until, records, log_start) = match moment.what {
            What::Read {
                partition,
                from,
                next,
                records,
                log_start,
                ..
            } => (*partition, *from, *next, records, *log_start),
            // An end says that nothing is there behind it.
            What::ReadToEnd {
                partition,
                log_start,
                end,
                records,
            } => (*partition, Offset::ZERO, *end, records, *log_start),
            What::Healed { .. } => {
                self.healed = Some(moment.position);
                return Ok(());
            }
            _ => return Ok(()),
        };
        let read = self.read.entry(partition).or_default();
        if world.judged(partition).is_some() {
            let is_end = matches!(moment.what, What::ReadToEnd { .. });
            let answer = Answer {
                from: from.max(log_start),
                until,
                records,
            };
            let behind = is_end.then_some(self.healed.unwrap_or(moment.position));
            still_there(read, &answer, behind)
                .map_err(|message| format!("{message} in {partition}, which starts at {log_start}"))?;
        }
        for record in records {
            read.get_or_insert(record.offset.0, moment.position);
        }
        Ok(())
    }
}

/// Whether what was read is among the records; of a log that ends there also what lies behind its
/// end, if it was read before the event `behind`.
fn still_there(read: &Paged<usize>, answer: &Answer<'_>, behind: Option<usize>) -> Verdict {
    let mut records = answer.records.iter().map(|record| record.offset.0).peekable();
    for offset in read.keys_from(answer.from.0) {
        let position = read.get(offset).unwrap_or_default();
        if offset >= answer.until.0 {
            match behind {
                None => break,
                Some(before) if position >= before => continue,
                Some(_) => {}
            }
        }
        while records.next_if(|there| *there < offset).is_some() {}
        if records.next_if_eq(&offset).is_none() {
            return Err(format!("offset {offset}, which #{position} read, is gone"));
        }
    }
    Ok(())
}
