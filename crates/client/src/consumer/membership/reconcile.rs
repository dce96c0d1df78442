//! The pure part of reconciling: what is to be given up, what is to be begun, and what the
//! coordinator waits to hear.

use std::collections::BTreeSet;

use crate::wire::session::Assigned;

/// The way from what is owned to what may be owned.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Steps {
    /// To give up, first.
    pub(super) revoke: BTreeSet<Assigned>,
    /// To begin, afterwards.
    pub(super) begin: BTreeSet<Assigned>,
}

/// What stands between the two.
pub(super) fn steps(owned: &BTreeSet<Assigned>, target: &BTreeSet<Assigned>) -> Steps {
    Steps {
        revoke: owned.difference(target).cloned().collect(),
        begin: target.difference(owned).cloned().collect(),
    }
}

/// Which Revoked a stream's coordinator waits for.
///
/// It waits wherever an assignment leaves out something that it had pushed on this stream, or that
/// the member said to own when it joined, even if the member never came to begin it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Owed {
    told: BTreeSet<Assigned>,
    version: Option<u64>,
}

impl Owed {
    /// On a new stream.
    pub(super) fn at_join(owned: BTreeSet<Assigned>) -> Self {
        Self {
            told: owned,
            version: None,
        }
    }

    /// An assignment came.
    pub(super) fn assigned(&mut self, version: u64, target: &BTreeSet<Assigned>) {
        if !self.told.is_subset(target) {
            self.version = Some(version);
        }
        self.told.clone_from(target);
    }

    /// An assignment is reconciled: whether the coordinator waits to hear so. One that is older
    /// than what it waits for says nothing.
    pub(super) fn reconciled(&mut self, version: u64) -> bool {
        let waits = self.version.is_some_and(|owed| version >= owed);
        if waits {
            self.version = None;
        }
        waits
    }
}

#[cfg(test)]
mod tests {
    use tidelog_types::TopicId;

    use super::*;
    use crate::consumer::testing::partition;

    fn set(indexes: impl IntoIterator<Item = u32>) -> BTreeSet<Assigned> {
        of_topic(1, indexes)
    }

    fn of_topic(id: u128, indexes: impl IntoIterator<Item = u32>) -> BTreeSet<Assigned> {
        let one = |index| Assigned {
            partition: partition("t", index),
            topic_id: TopicId(uuid::Uuid::from_u128(id)),
        };
        indexes.into_iter().map(one).collect()
    }

    #[test]
    fn what_stays_is_not_touched() {
        let steps = steps(&set([0, 1, 2]), &set([1, 2, 3]));
        assert_eq!(
            steps,
            Steps {
                revoke: set([0]),
                begin: set([3]),
            }
        );
    }

    #[test]
    fn a_topic_made_anew_is_given_up_and_begun() {
        let steps = steps(&of_topic(1, [0]), &of_topic(2, [0]));
        assert_eq!((steps.revoke, steps.begin), (of_topic(1, [0]), of_topic(2, [0])));
    }

    #[test]
    fn revocations_are_owed_from_the_newest_that_took_something_on() {
        let mut owed = Owed::at_join(set([0, 1]));
        owed.assigned(1, &set([0, 1, 2]));
        assert!(!owed.reconciled(1), "nothing was taken away");
        owed.assigned(2, &set([0, 2]));
        owed.assigned(3, &set([0]));
        assert!(!owed.reconciled(2), "the coordinator waits for 3");
        owed.assigned(4, &set([0, 5]));
        assert!(owed.reconciled(4));
        assert!(!owed.reconciled(4), "it heard so already");
    }

    #[test]
    fn what_was_pushed_and_never_begun_is_owed_too() {
        let mut owed = Owed::at_join(set([]));
        owed.assigned(1, &set([7]));
        owed.assigned(2, &set([]));
        assert!(owed.reconciled(2));
    }

    #[test]
    fn what_a_resumed_member_said_to_own_is_owed() {
        let mut owed = Owed::at_join(set([0, 1]));
        owed.assigned(1, &set([1]));
        assert!(owed.reconciled(1));
    }
}
