//! P18: every member of ISR and ELR has everything committed on its disk, by the disk's word.

use std::fmt;

use tidelog_types::TopicIdPartition;

use super::{Check, Moment, Verdict};
use crate::event::What;
use crate::world::World;

#[derive(Default)]
pub(super) struct MembersAreDurable;

impl Check for MembersAreDurable {
    fn after(&mut self, moment: &Moment<'_>, world: &World) -> Verdict {
        match moment.what {
            What::HighWatermark {
                broker,
                partition,
                to,
                leading: true,
                ..
            } => look(
                *partition,
                world,
                format_args!("the high watermark of broker {broker} is {to}"),
            ),
            What::Registered {
                partition,
                registration,
                ..
            } => {
                let epoch = registration.partition_epoch;
                look(
                    *partition,
                    world,
                    format_args!("registered in partition epoch {epoch}"),
                )
            }
            _ => Ok(()),
        }
    }
}

fn look(partition: TopicIdPartition, world: &World, why: fmt::Arguments<'_>) -> Verdict {
    let Some(known) = world.judged(partition) else {
        return Ok(());
    };
    let Some(registration) = &known.registration else {
        return Ok(());
    };
    let committed = known.committed.end();
    // Of a lost disk metadata can know only by the next registration of its broker.
    let mut members = registration
        .isr
        .iter()
        .chain(&registration.elr)
        .filter(|member| !world.is_disk_lost(**member));
    let durable = |member| known.replicas.get(member).map(|replica| replica.durable_end);
    let Some(lacking) = members.find(|member| durable(member).unwrap_or_default() < committed) else {
        return Ok(());
    };
    let list = if registration.isr.contains(lacking) {
        "ISR"
    } else {
        "ELR"
    };
    Err(format!(
        "broker {lacking} is in the {list} of {partition}, committed up to {committed}, and its disk keeps up to {}: {why}",
        durable(lacking).unwrap_or_default()
    ))
}
