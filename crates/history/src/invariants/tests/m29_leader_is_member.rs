//! Histories for M29.

use tidelog_types::LeaderEpoch;

use super::Cases;
use crate::event::What;
use crate::script::*;

pub(super) fn cases() -> Cases {
    let state =
        |leader, epoch, isr: &[u32], elr: &[u32]| registered(registration(leader, epoch, epoch, isr, elr));
    let counts = |epoch, members: &[u32]| What::Counts {
        broker: broker(1),
        partition: p0(),
        epoch: LeaderEpoch(epoch),
        members: brokers(members),
    };
    Cases {
        bad: vec![
            (
                "one is elected that a leader long ago waited for",
                history([
                    state(Some(1), 1, &[1, 2], &[]),
                    counts(1, &[1, 2, 3]),
                    state(Some(1), 2, &[1, 2], &[]),
                    counts(2, &[1, 2]),
                    state(Some(3), 3, &[3], &[]),
                ]),
            ),
            (
                "a leader outside of its ISR",
                history([state(Some(3), 1, &[1, 2], &[])]),
            ),
            (
                "one is elected that was no member",
                history([state(Some(1), 1, &[1, 2], &[]), state(Some(3), 2, &[3], &[])]),
            ),
            (
                "one is elected that was no member, after a time without a leader",
                history([
                    state(Some(1), 1, &[1], &[]),
                    state(None, 2, &[], &[1]),
                    state(Some(3), 3, &[3], &[]),
                ]),
            ),
            (
                "another topic allows it",
                history([
                    What::UncleanElection {
                        topic: tidelog_types::TopicId::from_slice(&[8; 16]).unwrap(),
                        allowed: true,
                    },
                    state(Some(1), 1, &[1], &[]),
                    state(Some(3), 2, &[3], &[]),
                ]),
            ),
            (
                "the topic allows it no more",
                history(then(
                    elected_uncleanly(),
                    [
                        unclean_election(false),
                        registered(registration(Some(2), 3, 10, &[2], &[])),
                    ],
                )),
            ),
        ],
        good: vec![
            (
                "from the ISR, then from the ELR",
                history([
                    state(Some(1), 1, &[1, 2, 3], &[]),
                    state(Some(2), 2, &[2], &[1]),
                    state(None, 3, &[], &[1, 2]),
                    state(Some(1), 4, &[1], &[2]),
                ]),
            ),
            (
                "one that joins and takes over at once",
                history([
                    state(Some(1), 1, &[1, 2], &[]),
                    counts(1, &[1, 2, 3]),
                    state(Some(3), 2, &[2, 3], &[]),
                ]),
            ),
            (
                "an unclean one, where the topic allows it",
                history(elected_uncleanly()),
            ),
        ],
    }
}
