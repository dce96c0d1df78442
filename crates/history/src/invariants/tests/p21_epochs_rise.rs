//! Histories for P21.

use tidelog_types::{EpochEntry, Offset};

use super::Cases;
use crate::event::What;
use crate::script::*;

pub(super) fn cases() -> Cases {
    let derived = |epochs: &[(u32, u64)]| What::Derived {
        broker: broker(1),
        partition: p0(),
        epochs: epochs
            .iter()
            .map(|(epoch, start)| EpochEntry {
                epoch: tidelog_types::LeaderEpoch(*epoch),
                start_offset: Offset(*start),
            })
            .collect(),
        producers: vec![],
    };
    let log = || {
        vec![
            copies(1, entry(0, 1, &[10, 11])),
            copies(1, entry(2, 1, &[12])),
            copies(1, entry(3, 4, &[13, 14])),
        ]
    };
    Cases {
        bad: vec![
            (
                "an epoch falls",
                history(then(log(), [copies(1, entry(5, 3, &[15]))])),
            ),
            ("an epoch is missing", history(then(log(), [derived(&[(1, 0)])]))),
            (
                "an epoch begins elsewhere",
                history(then(log(), [derived(&[(1, 0), (4, 2)])])),
            ),
            (
                "what was truncated is remembered",
                history(then(log(), [truncated(1, 3), derived(&[(1, 0), (4, 3)])])),
            ),
            (
                "what holds the log start is forgotten",
                history(then(log(), [trimmed(1, 4), derived(&[])])),
            ),
        ],
        good: vec![
            (
                "as a scan has it",
                history(then(log(), [derived(&[(1, 0), (4, 3)])])),
            ),
            (
                "after a truncation",
                history(then(log(), [truncated(1, 3), derived(&[(1, 0)])])),
            ),
            (
                "after trimming, within a batch, between two epochs, and to the end",
                history(then(
                    log(),
                    [
                        trimmed(1, 1),
                        derived(&[(1, 1), (4, 3)]),
                        trimmed(1, 3),
                        derived(&[(4, 3)]),
                        trimmed(1, 5),
                        derived(&[(4, 5)]),
                        copies(1, entry(5, 6, &[15])),
                        derived(&[(4, 5), (6, 5)]),
                    ],
                )),
            ),
            (
                "of a log that begins anew",
                history(then(
                    log(),
                    [
                        truncated(1, 0),
                        trimmed(1, 9),
                        derived(&[]),
                        copies(1, entry(9, 7, &[19])),
                        derived(&[(7, 9)]),
                    ],
                )),
            ),
            (
                "of a log that is truncated to its start, in the midst of a batch",
                history(then(log(), [trimmed(1, 1), truncated(1, 1), derived(&[])])),
            ),
            (
                "of a log that was recovered empty",
                history([
                    recovered(1, 5, vec![]),
                    derived(&[(4, 5)]),
                    copies(1, entry(5, 4, &[15])),
                    copies(1, entry(6, 6, &[16])),
                    derived(&[(4, 5), (6, 6)]),
                ]),
            ),
        ],
    }
}
