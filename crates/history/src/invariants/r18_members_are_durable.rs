//! R18: every member of ISR and ELR has everything committed on its disk, by the disk's word.

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

#[cfg(test)]
pub(super) fn cases() -> super::tests::Cases {
    use crate::script::*;
    use tidelog_types::{BrokerEpoch, DirectoryId};
    let one = || replicated(&entry(0, 1, &[10]));
    let on_directory = |epoch, byte: u8| What::BrokerRegistered {
        broker: broker(3),
        epoch: BrokerEpoch(epoch),
        directory: DirectoryId::from_slice(&[byte; 16]).unwrap(),
    };
    let with_isr = |epoch, isr: &[u32]| registered(registration(Some(1), 1, epoch, isr, &[]));
    let lost = || then(then(vec![on_directory(1, 1)], one()), [disk_lost(3)]);
    let more = || {
        [
            appends(1, entry(1, 1, &[11])),
            copies(2, entry(1, 1, &[11])),
            durable(1, 2),
            durable(2, 2),
            commits(1, 1, 2),
        ]
    };
    super::tests::Cases {
        bad: vec![
            (
                "a member has not synced what is committed",
                history(then(one(), more())),
            ),
            (
                "a broker joins without it",
                history(then(
                    then(one(), then(vec![with_isr(2, &[1, 2])], more())),
                    [with_isr(3, &[1, 2, 3])],
                )),
            ),
            (
                "an eligible leader lacks it",
                history(then(
                    then(one(), then(vec![with_isr(2, &[1, 2])], more())),
                    [registered(registration(Some(1), 1, 3, &[1], &[3]))],
                )),
            ),
            (
                "an emptied disk is still a member after it registered",
                history(then(lost(), [on_directory(9, 2), with_isr(2, &[1, 2, 3])])),
            ),
        ],
        good: vec![
            (
                "who lags is no member",
                history(then(
                    then(one(), then(vec![with_isr(2, &[1, 2])], more())),
                    [
                        copies(3, entry(1, 1, &[11])),
                        durable(3, 2),
                        with_isr(3, &[1, 2, 3]),
                    ],
                )),
            ),
            (
                "a lost disk is a member until it registers anew",
                history(then(
                    lost(),
                    [with_isr(2, &[1, 2, 3]), on_directory(9, 2), with_isr(3, &[1, 2])],
                )),
            ),
        ],
    }
}
