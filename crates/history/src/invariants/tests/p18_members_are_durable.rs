//! Histories for P18.

use tidelog_types::{BrokerEpoch, DirectoryId};

use super::Cases;
use crate::event::What;
use crate::script::*;

pub(super) fn cases() -> Cases {
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
    Cases {
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
