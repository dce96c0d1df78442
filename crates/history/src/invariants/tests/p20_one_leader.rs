//! Histories for P20.

use super::Cases;
use crate::script::*;

pub(super) fn cases() -> Cases {
    Cases {
        bad: vec![
            (
                "two brokers lead in one epoch",
                history([leads(1, 1, 5), leads(2, 2, 5)]),
            ),
            (
                "a restarted broker resumes its old epoch",
                history([leads(1, 1, 5), recovered(1, 0, vec![]), leads(1, 2, 5)]),
            ),
            ("who never led appends", history([appends(1, entry(0, 5, &[10]))])),
            (
                "a restarted broker appends before it leads again",
                history([
                    leads(1, 1, 5),
                    recovered(1, 0, vec![]),
                    appends(1, entry(0, 5, &[10])),
                ]),
            ),
            (
                "a leader appends in another epoch",
                history([leads(1, 1, 5), appends(1, entry(0, 6, &[10]))]),
            ),
        ],
        good: vec![(
            "one leader after the other",
            history([
                leads(1, 1, 5),
                appends(1, entry(0, 5, &[10])),
                copies(2, entry(0, 5, &[10])),
                leads(2, 2, 6),
                appends(2, entry(1, 6, &[11])),
                appends(1, entry(1, 5, &[12])),
                leads(1, 1, 7),
            ]),
        )],
    }
}
