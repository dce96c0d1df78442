//! Virtual time: what happens when.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::time::Duration;

/// What is going to happen, in the order of time; at one moment, in the order in which it was
/// planned.
#[derive(Debug)]
pub(crate) struct Schedule<T> {
    heap: BinaryHeap<Planned<T>>,
    next_sequence: u64,
}

#[derive(Debug)]
struct Planned<T> {
    at: Duration,
    sequence: u64,
    what: T,
}

impl<T> Schedule<T> {
    /// A schedule with nothing planned.
    pub(crate) fn new() -> Self {
        Self {
            heap: BinaryHeap::new(),
            next_sequence: 0,
        }
    }

    /// Plans `what` for the time `at`.
    pub(crate) fn plan(&mut self, at: Duration, what: T) {
        self.heap.push(Planned {
            at,
            sequence: self.next_sequence,
            what,
        });
        self.next_sequence += 1;
    }

    /// Takes what happens next, if that is no later than `until`.
    pub(crate) fn pop(&mut self, until: Duration) -> Option<(Duration, T)> {
        if self.heap.peek()?.at > until {
            return None;
        }
        self.heap.pop().map(|planned| (planned.at, planned.what))
    }
}

impl<T> PartialEq for Planned<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T> Eq for Planned<T> {}

impl<T> PartialOrd for Planned<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Planned<T> {
    /// The heap gives the greatest first: that is the earliest here.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.sequence).cmp(&(self.at, self.sequence))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_planned_for_one_moment_happens_in_the_order_of_planning() {
        let mut schedule = Schedule::new();
        let at = Duration::from_millis;
        for (when, what) in [(5, 'c'), (1, 'a'), (5, 'd'), (2, 'b')] {
            schedule.plan(at(when), what);
        }
        let order: String = std::iter::from_fn(|| schedule.pop(at(5)).map(|(_, what)| what)).collect();
        assert_eq!(order, "abcd");
        schedule.plan(at(9), 'e');
        assert!(schedule.pop(at(8)).is_none());
    }
}
