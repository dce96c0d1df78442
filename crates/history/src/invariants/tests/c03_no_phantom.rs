//! Histories for C3.

use super::Cases;
use crate::event::{SendId, What};
use crate::script::*;

pub(super) fn cases() -> Cases {
    let elsewhere = || What::SendBegan {
        sender: crate::event::Sender(1),
        send: SendId(1),
        partition: topic(1),
        values: values(&[10]),
        idempotent: false,
    };
    Cases {
        bad: vec![
            ("a record from nowhere", history([read(1, 0, 1, &[(0, 10)])])),
            (
                "a record of another partition",
                history([elsewhere(), read(1, 0, 1, &[(0, 10)])]),
            ),
            (
                "a record that was refused",
                history([send(1, 1, &[10]), refused(1), read_to_end(0, 1, &[(0, 10)])]),
            ),
            (
                "a record that is refused after it was read",
                history([send(1, 1, &[10]), read(1, 0, 1, &[(0, 10)]), refused(1)]),
            ),
        ],
        good: vec![
            (
                "what is read before its acknowledgement, or without one",
                history([
                    send(1, 1, &[10]),
                    send(2, 2, &[20]),
                    read(1, 0, 2, &[(0, 10), (1, 20)]),
                    acked(1, 0, 1),
                    What::SendUnknown { send: SendId(2) },
                    read(2, 0, 2, &[(0, 10), (1, 20)]),
                ]),
            ),
            (
                "what is refused and not read",
                history([send(1, 1, &[10]), refused(1), read_to_end(0, 0, &[])]),
            ),
        ],
    }
}
