//! C3: what is read was sent before, there, and its send was not refused.

use tidelog_types::TopicIdPartition;

use super::{Check, Moment, Verdict};
use crate::event::{SendId, Value, What};
use crate::hash::Map;
use crate::world::{Outcome, World};

#[derive(Default)]
pub(super) struct NoPhantom {
    /// Sends whose fate was open when they were read, and the event that read them first.
    read: Map<SendId, usize>,
}

impl Check for NoPhantom {
    fn before(&mut self, moment: &Moment<'_>, world: &World) -> Verdict {
        match moment.what {
            What::Read {
                partition, records, ..
            }
            | What::ReadToEnd {
                partition, records, ..
            } => records
                .iter()
                .try_for_each(|record| self.look(record.value, *partition, moment, world)),
            What::SendRefused { send } => match self.read.get(send) {
                Some(position) => Err(format!(
                    "send {} is refused, as if never appended, and was read by #{position}",
                    send.0
                )),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }
}

impl NoPhantom {
    fn look(
        &mut self,
        value: Value,
        partition: TopicIdPartition,
        moment: &Moment<'_>,
        world: &World,
    ) -> Verdict {
        let Some((id, send, _)) = world.sent(value) else {
            return Err(format!(
                "value {} is read in {partition} and was never sent",
                value.0
            ));
        };
        if send.partition != partition {
            let (to, began) = (send.partition, send.began);
            return Err(format!(
                "value {} is read in {partition} and was sent to {to} by #{began}",
                value.0
            ));
        }
        match send.outcome {
            Outcome::Refused { position } => Err(format!(
                "value {} is read in {partition}, and its send {} was refused by #{position}",
                value.0, id.0
            )),
            Outcome::Pending => {
                self.read.entry(id).or_insert(moment.position);
                Ok(())
            }
            Outcome::Acknowledged { .. } | Outcome::Unknown => Ok(()),
        }
    }
}
