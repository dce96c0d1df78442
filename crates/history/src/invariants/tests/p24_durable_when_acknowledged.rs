//! Histories for P24.

use super::Cases;
use crate::script::*;

pub(super) fn cases() -> Cases {
    let led = || {
        vec![
            registered(registration(Some(1), 1, 1, &[1, 2, 3], &[])),
            leads(1, 1, 1),
        ]
    };
    let with_min = |minimum, leader_epoch, partition_epoch| {
        let mut registration = registration(Some(1), leader_epoch, partition_epoch, &[1, 2, 3], &[]);
        registration.min_insync_replicas = minimum;
        registered(registration)
    };
    let alone = |minimum, leader_epoch, partition_epoch| {
        let mut registration = registration(Some(1), leader_epoch, partition_epoch, &[1], &[]);
        registration.min_insync_replicas = minimum;
        registered(registration)
    };
    let everywhere = || {
        let entry = entry(0, 1, &[10]);
        vec![
            appends(1, entry.clone()),
            copies(2, entry.clone()),
            copies(3, entry),
        ]
    };
    let one = || replicated(&entry(0, 1, &[10]));
    Cases {
        bad: vec![
            (
                "only the leader's disk has it",
                history(then(
                    then(led(), everywhere()),
                    [durable(1, 1), acknowledges(1, 0, &[10])],
                )),
            ),
            (
                "a duplicate is answered before what it repeats is on enough disks",
                history(then(
                    then(led(), everywhere()),
                    [
                        durable(1, 1),
                        appends(1, entry(1, 1, &[11, 12])),
                        copies(2, entry(1, 1, &[11, 12])),
                        durable(2, 2),
                        acknowledges(1, 1, &[11, 12]),
                    ],
                )),
            ),
            (
                "something else is on all disks there",
                history(then(one(), [acknowledges(1, 0, &[11])])),
            ),
            (
                "half of it is on all disks",
                history(then(one(), [acknowledges(1, 0, &[10, 11])])),
            ),
            (
                "another disk has something else there",
                history(then(
                    led(),
                    [
                        appends(1, entry(0, 1, &[10])),
                        durable(1, 1),
                        recovered(2, 0, vec![entry(0, 0, &[11])]),
                        acknowledges(1, 0, &[10]),
                    ],
                )),
            ),
            (
                "a second life of one broker is no second disk",
                history(then(
                    then(led(), everywhere()),
                    [
                        durable(2, 1),
                        disk_lost(2),
                        recovered(2, 0, vec![entry(0, 1, &[10])]),
                        acknowledges(1, 0, &[10]),
                    ],
                )),
            ),
            (
                "the minimum was raised by the epoch it leads in",
                history(then(
                    vec![with_min(1, 1, 1), with_min(2, 2, 2), leads(1, 1, 2)],
                    [
                        appends(1, entry(0, 2, &[10])),
                        durable(1, 1),
                        acknowledges(1, 0, &[10]),
                    ],
                )),
            ),
        ],
        good: vec![
            (
                "a duplicate of what was committed before the minimum was raised",
                history(then(
                    vec![alone(1, 1, 1), leads(1, 1, 1)],
                    [
                        appends(1, entry(0, 1, &[10])),
                        durable(1, 1),
                        commits(1, 1, 1),
                        alone(2, 2, 2),
                        leads(1, 1, 2),
                        acknowledges(1, 0, &[10]),
                    ],
                )),
            ),
            (
                "the middle of a batch, and two batches in a row",
                history(then(
                    replicated(&entry(0, 1, &[10, 11, 12])),
                    [
                        appends(1, entry(3, 1, &[13])),
                        copies(2, entry(3, 1, &[13])),
                        durable(1, 4),
                        durable(2, 4),
                        acknowledges(1, 1, &[11, 12, 13]),
                        trimmed(1, 2),
                        acknowledges(1, 1, &[11, 12, 13]),
                    ],
                )),
            ),
            (
                "two disks have it",
                history(then(
                    then(led(), everywhere()),
                    [durable(1, 1), durable(3, 1), acknowledges(1, 0, &[10])],
                )),
            ),
            (
                "two followers' disks have it, and not yet the leader's",
                history(then(
                    then(led(), everywhere()),
                    [durable(2, 1), durable(3, 1), acknowledges(1, 0, &[10])],
                )),
            ),
            (
                "a duplicate is answered after disks were lost and records deleted",
                history(then(
                    one(),
                    [
                        disk_lost(2),
                        disk_lost(3),
                        acknowledges(1, 0, &[10]),
                        trimmed(1, 1),
                        acknowledges(1, 0, &[10]),
                    ],
                )),
            ),
            (
                "the leader has not heard yet that the minimum was raised",
                history(then(
                    vec![
                        with_min(1, 1, 1),
                        leads(1, 1, 1),
                        appends(1, entry(0, 1, &[10])),
                        durable(1, 1),
                    ],
                    [with_min(2, 1, 2), acknowledges(1, 0, &[10])],
                )),
            ),
        ],
    }
}
