//! Histories for M28.

use tidelog_types::BrokerEpoch;

use super::Cases;
use crate::event::What;
use crate::script::*;

pub(super) fn cases() -> Cases {
    let state = |leader, leader_epoch, partition_epoch| {
        registered(registration(
            leader,
            leader_epoch,
            partition_epoch,
            &[1, 2, 3],
            &[],
        ))
    };
    let broker_registered = |id, epoch| What::BrokerRegistered {
        broker: broker(id),
        epoch: BrokerEpoch(epoch),
        directory: tidelog_types::DirectoryId::from_slice(&[1; 16]).unwrap(),
    };
    Cases {
        bad: vec![
            (
                "a change in one partition epoch",
                history([state(Some(1), 1, 1), state(Some(1), 2, 1)]),
            ),
            (
                "a new leader in one leader epoch",
                history([state(Some(1), 1, 1), state(Some(2), 1, 2)]),
            ),
            (
                "the leader epoch falls",
                history([state(Some(1), 2, 1), state(Some(1), 1, 2)]),
            ),
            (
                "two brokers share an epoch",
                history([broker_registered(1, 7), broker_registered(2, 7)]),
            ),
            (
                "a broker's epoch falls",
                history([broker_registered(1, 7), broker_registered(1, 6)]),
            ),
        ],
        good: vec![(
            "all rise",
            history([
                state(Some(1), 1, 1),
                state(Some(1), 1, 2),
                state(None, 2, 3),
                state(Some(1), 3, 4),
                state(Some(1), 4, 5),
                broker_registered(1, 7),
                broker_registered(2, 8),
                broker_registered(1, 9),
            ]),
        )],
    }
}
