//! C1: what was acknowledged is found by a reader that reads everything, at its offset, with its
//! values.

use tidelog_types::Offset;

use super::{Check, Moment, Verdict};
use crate::event::{ReadRecord, SendId, What};
use crate::world::{Outcome, Send, World};

#[derive(Default)]
pub(super) struct NoneLost;

impl Check for NoneLost {
    fn before(&mut self, moment: &Moment<'_>, world: &World) -> Verdict {
        let What::ReadToEnd {
            partition,
            log_start,
            end,
            records,
        } = moment.what
        else {
            return Ok(());
        };
        let Some(known) = world.judged(*partition) else {
            return Ok(());
        };
        for (base, id) in &known.acknowledged {
            let Some(send) = world.send(*id) else { continue };
            found(send, *id, *base, *log_start, records)
                .map_err(|message| format!("{message}; {partition} was read to its end, offset {end}"))?;
        }
        Ok(())
    }
}

fn found(send: &Send, id: SendId, base: Offset, log_start: Offset, records: &[ReadRecord]) -> Verdict {
    let Outcome::Acknowledged { position, .. } = send.outcome else {
        return Ok(());
    };
    let gone = log_start.distance_from(base).min(send.values.len() as u64);
    let first = records.partition_point(|record| record.offset < base + gone);
    for (index, value) in send.values.iter().enumerate().skip(gone as usize) {
        let offset = base + index as u64;
        let record = records.get(first + index - gone as usize);
        let there = record.filter(|record| record.offset == offset);
        if there.map(|record| record.value) == Some(*value) {
            continue;
        }
        let instead = there.map_or_else(
            || "nothing stands there".to_owned(),
            |record| format!("value {} stands there", record.value.0),
        );
        return Err(format!(
            "value {} of send {} was acknowledged at offset {offset} by #{position}, and {instead}",
            value.0, id.0
        ));
    }
    Ok(())
}
