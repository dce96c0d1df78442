//! C9: a record that a reader was handed is there for every later one.

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
                records,
                ..
            } => (*partition, Offset::ZERO, Offset::MAX, records, *log_start),
            _ => return Ok(()),
        };
        let read = self.read.entry(partition).or_default();
        if !world.is_unclean(partition) {
            still_there(read, from.max(log_start), until, records)
                .map_err(|message| format!("{message} in {partition}, which starts at {log_start}"))?;
        }
        for record in records {
            read.get_or_insert(record.offset.0, moment.position);
        }
        Ok(())
    }
}

fn still_there(read: &Paged<usize>, from: Offset, until: Offset, records: &[ReadRecord]) -> Verdict {
    let mut records = records.iter().map(|record| record.offset.0).peekable();
    for offset in read.keys_from(from.0).take_while(|offset| *offset < until.0) {
        while records.next_if(|there| *there < offset).is_some() {}
        if records.next_if_eq(&offset).is_none() {
            let position = read.get(offset).unwrap_or_default();
            return Err(format!("offset {offset}, which #{position} read, is gone"));
        }
    }
    Ok(())
}

#[cfg(test)]
pub(super) fn cases() -> super::tests::Cases {
    use crate::script::*;
    let seen = || vec![send(1, 1, &[10, 11]), read(1, 0, 2, &[(0, 10), (1, 11)])];
    super::tests::Cases {
        bad: vec![(
            "what was read is behind the end",
            history(then(seen(), [read_to_end(0, 1, &[(0, 10)])])),
        )],
        good: vec![
            (
                "it is still there",
                history(then(
                    seen(),
                    [
                        read(2, 1, 2, &[(1, 11)]),
                        read(3, 0, 1, &[(0, 10)]),
                        read_to_end(0, 2, &[(0, 10), (1, 11)]),
                    ],
                )),
            ),
            (
                "retention deleted it",
                history(then(
                    seen(),
                    [read_from_start(2, 0, 2, &[], 2), read_to_end(2, 2, &[])],
                )),
            ),
            (
                "an unclean election lost it",
                history(then(seen(), [elected_uncleanly(3, 2, 2), read_to_end(0, 0, &[])])),
            ),
        ],
    }
}
