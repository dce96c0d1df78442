//! Histories for P19.

use tidelog_types::LeaderEpoch;

use super::Cases;
use crate::event::What;
use crate::script::*;

pub(super) fn cases() -> Cases {
    let counts = |epoch, members: &[u32]| What::Counts {
        broker: broker(1),
        partition: p0(),
        epoch: LeaderEpoch(epoch),
        members: brokers(members),
    };
    let with_isr = |epoch, isr: &[u32]| registered(registration(Some(1), 1, epoch, isr, &[]));
    Cases {
        bad: vec![
            (
                "a member joins that the leader does not wait for",
                history([with_isr(1, &[1, 2]), counts(1, &[1, 2]), with_isr(2, &[1, 2, 3])]),
            ),
            (
                "the leader leaves one out before it has left",
                history([with_isr(1, &[1, 2, 3]), counts(1, &[1, 2])]),
            ),
        ],
        good: vec![
            (
                "it waits for one that is joining, and drops one that left",
                history([
                    with_isr(1, &[1, 2]),
                    counts(1, &[1, 2]),
                    counts(1, &[1, 2, 3]),
                    with_isr(2, &[1, 2, 3]),
                    with_isr(3, &[1, 3]),
                    counts(1, &[1, 3]),
                ]),
            ),
            (
                "another epoch has another leader",
                history([
                    with_isr(1, &[1, 2]),
                    counts(1, &[1, 2]),
                    registered(registration(Some(2), 2, 2, &[2, 3], &[])),
                    counts(1, &[1]),
                ]),
            ),
        ],
    }
}
