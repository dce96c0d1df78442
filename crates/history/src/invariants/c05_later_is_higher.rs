//! C5: what is sent after an acknowledgement stands behind what was acknowledged.

use tidelog_types::{Offset, TopicIdPartition};

use super::{Check, Moment, Verdict};
use crate::event::{ReadRecord, SendId, What};
use crate::hash::Map;
use crate::world::World;

#[derive(Default)]
pub(super) struct LaterIsHigher {
    /// Of each partition the highest end that was acknowledged, and the event that did so.
    ends: Map<TopicIdPartition, (Offset, usize)>,
    /// Of each send that end at its beginning.
    floors: Map<SendId, (Offset, usize)>,
}

impl Check for LaterIsHigher {
    fn after(&mut self, moment: &Moment<'_>, world: &World) -> Verdict {
        match moment.what {
            What::SendBegan { send, partition, .. } => {
                if let Some(floor) = self.ends.get(partition) {
                    self.floors.insert(*send, *floor);
                }
                Ok(())
            }
            What::SendAcknowledged {
                send, base_offset, ..
            } => {
                self.stands(*send, *base_offset, world)?;
                if let Some(sent) = world.send(*send) {
                    let end = *base_offset + sent.values.len() as u64;
                    let highest = self.ends.entry(sent.partition).or_default();
                    *highest = (*highest).max((end, moment.position));
                }
                Ok(())
            }
            What::Read { records, .. } | What::ReadToEnd { records, .. } => {
                records.iter().try_for_each(|record| self.read(*record, world))
            }
            _ => Ok(()),
        }
    }
}

impl LaterIsHigher {
    fn read(&self, record: ReadRecord, world: &World) -> Verdict {
        match world.sent(record.value) {
            Some((send, _, _)) => self.stands(send, record.offset, world),
            None => Ok(()),
        }
    }

    fn stands(&self, send: SendId, offset: Offset, world: &World) -> Verdict {
        let Some((floor, position)) = self.floors.get(&send).filter(|(floor, _)| offset < *floor) else {
            return Ok(());
        };
        let Some(sent) = world
            .send(send)
            .filter(|sent| world.judged(sent.partition).is_some())
        else {
            return Ok(());
        };
        Err(format!(
            "send {} stands at offset {offset} of {}, and began (#{}) after everything below offset {floor} was acknowledged (#{position})",
            send.0, sent.partition, sent.began
        ))
    }
}
