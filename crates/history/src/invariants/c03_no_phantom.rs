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

#[cfg(test)]
pub(super) fn cases() -> super::tests::Cases {
    use crate::script::*;
    let elsewhere = || What::SendBegan {
        sender: crate::event::Sender(1),
        send: SendId(1),
        partition: topic(1),
        values: values(&[10]),
        idempotent: false,
    };
    super::tests::Cases {
        bad: vec![
            ("a record from nowhere", history([read(1, 0, 1, &[(0, 10)])])),
            (
                "a record of another partition",
                history([elsewhere(), read(1, 0, 1, &[(0, 10)])]),
            ),
            (
                "a record that was refused",
                history([send(1, 1, &[10]), refused(1), read_to_end(0, 1, &[(0, 10)])]),
            ),
            (
                "a record that is refused after it was read",
                history([send(1, 1, &[10]), read(1, 0, 1, &[(0, 10)]), refused(1)]),
            ),
        ],
        good: vec![
            (
                "what is read before its acknowledgement, or without one",
                history([
                    send(1, 1, &[10]),
                    send(2, 2, &[20]),
                    read(1, 0, 2, &[(0, 10), (1, 20)]),
                    acked(1, 0, 1),
                    What::SendUnknown { send: SendId(2) },
                    read(2, 0, 2, &[(0, 10), (1, 20)]),
                ]),
            ),
            (
                "what is refused and not read",
                history([send(1, 1, &[10]), refused(1), read_to_end(0, 0, &[])]),
            ),
        ],
    }
}
