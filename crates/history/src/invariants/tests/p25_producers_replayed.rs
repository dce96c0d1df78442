//! Histories for P25.

use tidelog_types::{Offset, ProducerEpoch, ProducerId, ProducerState, RememberedBatch, Sequence};

use super::Cases;
use crate::event::What;
use crate::script::*;

pub(super) fn cases() -> Cases {
    let state = |batches: &[(i32, u64)]| ProducerState {
        id: ProducerId(9),
        epoch: ProducerEpoch(0),
        batches: batches
            .iter()
            .map(|(sequence, offset)| RememberedBatch {
                base_sequence: Sequence::from_wire(*sequence).unwrap(),
                base_offset: Offset(*offset),
                last_offset: Offset(*offset),
                timestamp_ms: 0,
            })
            .collect(),
        last_timestamp_ms: 0,
    };
    let derived = |producers: Vec<ProducerState>| What::Derived {
        broker: broker(1),
        partition: p0(),
        epochs: vec![tidelog_types::EpochEntry {
            epoch: tidelog_types::LeaderEpoch(1),
            start_offset: Offset(0),
        }],
        producers,
    };
    let log = |count: u64| -> Vec<What> {
        (0..count)
            .map(|at| copies(1, produced(at, 1, &[at], at as i32)))
            .collect()
    };
    let two = || state(&[(0, 0), (1, 1)]);
    Cases {
        bad: vec![
            (
                "a batch is forgotten",
                history(then(log(2), [derived(vec![state(&[(0, 0)])])])),
            ),
            (
                "a producer is forgotten",
                history(then(log(2), [derived(vec![])])),
            ),
            (
                "what was truncated is remembered",
                history(then(log(2), [truncated(1, 1), derived(vec![two()])])),
            ),
            (
                "a batch has another offset",
                history(then(log(2), [derived(vec![state(&[(0, 0), (1, 2)])])])),
            ),
        ],
        good: vec![
            (
                "as a replay has it",
                history(then(log(2), [derived(vec![two()])])),
            ),
            (
                "five batches are remembered",
                history(then(
                    log(6),
                    [derived(vec![state(&[(1, 1), (2, 2), (3, 3), (4, 4), (5, 5)])])],
                )),
            ),
            (
                "of what was trimmed more or less",
                history(then(
                    log(2),
                    [
                        trimmed(1, 1),
                        derived(vec![two()]),
                        derived(vec![state(&[(1, 1)])]),
                    ],
                )),
            ),
        ],
    }
}
