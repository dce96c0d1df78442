//! Histories for G14.

use super::Cases;
use crate::event::What;
use crate::script::*;

pub(super) fn cases() -> Cases {
    let assigned = |member, partition| What::Assigned {
        group: name("g"),
        member: name(member),
        partitions: vec![topic(partition)],
    };
    let gave_up = |member, partition| What::GaveUp {
        group: name("g"),
        member: name(member),
        partitions: vec![topic(partition)],
    };
    let member = || (name("g"), name("a"));
    let ended = || What::MemberEnded {
        group: member().0,
        member: member().1,
    };
    let removed = || What::MemberRemoved {
        group: member().0,
        member: member().1,
    };
    let joined = || What::MemberJoined {
        group: member().0,
        member: member().1,
    };
    let other_group = What::Assigned {
        group: name("h"),
        member: name("b"),
        partitions: vec![p0()],
    };
    Cases {
        bad: vec![
            ("two own it", history([assigned("a", 0), assigned("b", 0)])),
            (
                "it gave another one up",
                history([
                    assigned("a", 0),
                    assigned("a", 1),
                    gave_up("a", 1),
                    assigned("b", 0),
                ]),
            ),
            (
                "a member that was removed once has joined again",
                history([removed(), ended(), assigned("a", 0), assigned("b", 0)]),
            ),
            (
                "it gave itself up before it was removed, and has joined again under its name",
                history([ended(), removed(), joined(), assigned("a", 0), assigned("b", 0)]),
            ),
            (
                "one who does not own it gives it up",
                history([assigned("a", 0), gave_up("c", 0), assigned("b", 0)]),
            ),
        ],
        good: vec![
            (
                "after it was given up",
                history([assigned("a", 0), gave_up("a", 0), assigned("b", 0)]),
            ),
            (
                "after the owner ended",
                history([assigned("a", 0), ended(), assigned("b", 0)]),
            ),
            (
                "after the owner was removed",
                history([assigned("a", 0), removed(), assigned("b", 0)]),
            ),
            ("each group has its own", history([assigned("a", 0), other_group])),
            (
                "a removed member takes on what it was assigned long ago, before and after somebody else",
                history([
                    removed(),
                    assigned("a", 0),
                    assigned("b", 0),
                    assigned("b", 1),
                    assigned("a", 1),
                    ended(),
                ]),
            ),
            (
                "a member is removed after it joined, and does not know yet",
                history([joined(), removed(), assigned("b", 0), assigned("a", 0)]),
            ),
            (
                "a removed member that does not know yet changes nothing",
                history([
                    assigned("a", 0),
                    removed(),
                    assigned("b", 0),
                    gave_up("a", 0),
                    assigned("b", 1),
                ]),
            ),
        ],
    }
}
