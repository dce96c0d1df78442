//! Whether a group did what it promises, from what its members wrote down.
//!
//! 1. A partition goes to a new owner only after the old one gave it up, left, or was silent for
//!    its session: G14, by the checker of histories.
//! 2. A new owner begins at or behind everything that was committed before (G12), and leaves
//!    nothing out: what is delivered again was not committed, and nothing else is.
//! 3. Within one ownership every record comes once, in order.
//! 4. Who has lost a partition to another commits it no more (G13).

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use tidelog_history::event::Name;
use tidelog_history::{Event, What, check};
use tidelog_types::{PartitionIndex, TopicId, TopicIdPartition};

use super::told::{Happened, Told};

/// One line of one member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub member: String,
    pub told: Told,
}

/// Members that fell silent: since when, microseconds since 1970.
pub type Silent = BTreeMap<String, u64>;

/// What a group did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Summary {
    /// Records handed out, each as often as that was.
    pub delivered: usize,
    /// Records handed out again.
    pub again: usize,
    /// How often a partition got an owner.
    pub ownerships: usize,
    /// Commits acknowledged, a partition each.
    pub commits: usize,
}

#[derive(Debug, Default)]
struct Partition {
    owner: Option<String>,
    /// The next offset that the owner is handed; `None` until the first.
    next: Option<u64>,
    /// The highest offset acknowledged to be committed.
    committed: u64,
    /// The same when the owner took it on.
    committed_then: u64,
    /// Up to where anything was handed out.
    handed: u64,
}

/// Judges lines in the order of their moments. `patience_us`: how long a silent member keeps its
/// partitions at the least.
pub fn judge(mut lines: Vec<Line>, silent: &Silent, patience_us: u64) -> Result<Summary> {
    lines.sort_by_key(|line| line.told.at_us);
    check(&ownerships(&lines, silent, patience_us))?;
    let mut judge = Judge {
        silent,
        partitions: BTreeMap::new(),
        summary: Summary::default(),
    };
    for line in &lines {
        judge.take(&line.member, &line.told)?;
    }
    Ok(judge.summary)
}

/// Who owned what, as a history. That a silent member was removed nobody wrote down: it may have
/// been from the end of its session on.
fn ownerships(lines: &[Line], silent: &Silent, patience_us: u64) -> Vec<Event> {
    let mut events: Vec<(u64, What)> = Vec::new();
    for line in lines {
        let (group, member) = (group(), Name::from(line.member.as_str()));
        let at = line.told.at_us;
        match &line.told.what {
            Happened::Assigned(of) => {
                let partitions = partitions(of);
                events.push((
                    at,
                    What::Assigned {
                        group,
                        member,
                        partitions,
                    },
                ));
            }
            Happened::Revoked(of) => {
                let partitions = partitions(of);
                events.push((
                    at,
                    What::GaveUp {
                        group,
                        member,
                        partitions,
                    },
                ));
            }
            // Who hears that it was removed begins anew.
            Happened::Lost(_) | Happened::Left => events.push((at, What::MemberEnded { group, member })),
            Happened::Joined
            | Happened::Delivered { .. }
            | Happened::Committed(_)
            | Happened::NotCommitted(_) => {}
        }
    }
    for (member, since) in silent {
        let removed = What::MemberRemoved {
            group: group(),
            member: Name::from(member.as_str()),
        };
        events.push((since + patience_us, removed));
    }
    events.sort_by_key(|(at, _)| *at);
    let event = |(at, what)| Event {
        at: Duration::from_micros(at),
        what,
    };
    events.into_iter().map(event).collect()
}

fn group() -> Name {
    "group".into()
}

fn partitions(of: &[u32]) -> Vec<TopicIdPartition> {
    let named = |partition: &u32| TopicIdPartition {
        topic_id: TopicId(uuid::Uuid::nil()),
        partition: PartitionIndex(*partition),
    };
    of.iter().map(named).collect()
}

struct Judge<'a> {
    silent: &'a Silent,
    partitions: BTreeMap<u32, Partition>,
    summary: Summary,
}

impl Judge<'_> {
    fn take(&mut self, member: &str, told: &Told) -> Result<()> {
        match &told.what {
            Happened::Assigned(partitions) => {
                for partition in partitions {
                    self.assign(member, *partition);
                }
            }
            Happened::Revoked(partitions) | Happened::Lost(partitions) => {
                for partition in partitions {
                    let known = self.partitions.entry(*partition).or_default();
                    known.owner.take_if(|owner| owner == member);
                }
            }
            Happened::Delivered {
                partition, offset, ..
            } => self.deliver(member, *partition, *offset)?,
            Happened::Committed(offsets) => {
                for (partition, offset) in offsets {
                    self.commit(member, *partition, *offset)?;
                }
            }
            Happened::Left => {
                for known in self.partitions.values_mut() {
                    known.owner.take_if(|owner| owner == member);
                }
            }
            Happened::Joined | Happened::NotCommitted(_) => {}
        }
        Ok(())
    }

    fn assign(&mut self, member: &str, partition: u32) {
        let known = self.partitions.entry(partition).or_default();
        known.owner = Some(member.to_owned());
        known.next = None;
        known.committed_then = known.committed;
        self.summary.ownerships += 1;
    }

    fn deliver(&mut self, member: &str, partition: u32, offset: u64) -> Result<()> {
        let known = self.partitions.entry(partition).or_default();
        self.summary.delivered += 1;
        self.summary.again += usize::from(offset < known.handed);
        if known.owner.as_deref() != Some(member) {
            // One that was silent may hand out what it had fetched before it learns of its removal.
            ensure!(
                self.silent.contains_key(member),
                "{member} is handed {partition}@{offset} without owning the partition"
            );
            return Ok(());
        }
        match known.next {
            Some(next) => ensure!(
                offset == next,
                "{member} is handed {partition}@{offset} instead of @{next}"
            ),
            None => ensure!(
                (known.committed_then..=known.handed).contains(&offset),
                "{member} begins partition {partition} at {offset}: {} was committed, and nothing beyond {} handed out",
                known.committed_then,
                known.handed
            ),
        }
        known.next = Some(offset + 1);
        known.handed = known.handed.max(offset + 1);
        Ok(())
    }

    fn commit(&mut self, member: &str, partition: u32, offset: u64) -> Result<()> {
        let known = self.partitions.entry(partition).or_default();
        ensure!(
            known.owner.as_deref() == Some(member),
            "G13: {member} commits {partition}@{offset}, and {:?} owns the partition",
            known.owner
        );
        known.committed = known.committed.max(offset);
        self.summary.commits += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(told: &[(&str, u64, Happened)]) -> Vec<Line> {
        let line = |(member, at_us, what): &(&str, u64, Happened)| Line {
            member: (*member).to_owned(),
            told: Told {
                at_us: *at_us,
                what: what.clone(),
            },
        };
        told.iter().map(line).collect()
    }

    fn delivered(offset: u64) -> Happened {
        Happened::Delivered {
            partition: 0,
            offset,
            row: offset,
        }
    }

    fn assigned() -> Happened {
        Happened::Assigned(vec![0])
    }

    fn refusal(told: &[(&str, u64, Happened)], silent: &[(&str, u64)]) -> String {
        let silent = silent
            .iter()
            .map(|(name, at)| ((*name).to_owned(), *at))
            .collect();
        judge(lines(told), &silent, 100).unwrap_err().to_string()
    }

    #[test]
    fn what_was_not_committed_comes_again_and_is_counted() {
        let told = [
            ("a", 1, assigned()),
            ("a", 2, delivered(0)),
            ("a", 3, delivered(1)),
            ("a", 4, Happened::Committed(vec![(0, 1)])),
            ("a", 5, delivered(2)),
            ("b", 200, assigned()),
            ("b", 201, delivered(1)),
            ("b", 202, delivered(2)),
            ("b", 203, delivered(3)),
        ];
        let silent = Silent::from([("a".to_owned(), 6)]);
        let summary = judge(lines(&told), &silent, 100).unwrap();
        assert_eq!(
            summary,
            Summary {
                delivered: 6,
                again: 2,
                ownerships: 2,
                commits: 1,
            }
        );
    }

    #[test]
    fn an_owner_is_not_replaced_before_it_gave_up_or_was_silent_long_enough() {
        let taken = [("a", 1, assigned()), ("b", 50, assigned())];
        assert!(refusal(&taken, &[]).contains("G14"));
        assert!(
            refusal(&taken, &[("a", 2)]).contains("G14"),
            "silent for too short a time"
        );
        let given = [
            ("a", 1, assigned()),
            ("a", 9, Happened::Revoked(vec![0])),
            ("b", 50, assigned()),
        ];
        assert!(judge(lines(&given), &Silent::new(), 100).is_ok());
    }

    #[test]
    fn what_was_committed_does_not_come_again_and_nothing_is_left_out() {
        let begin_at = |offset| {
            vec![
                ("a", 1, assigned()),
                ("a", 2, delivered(0)),
                ("a", 3, delivered(1)),
                ("a", 4, Happened::Committed(vec![(0, 1)])),
                ("a", 5, Happened::Revoked(vec![0])),
                ("b", 6, assigned()),
                ("b", 7, delivered(offset)),
            ]
        };
        assert!(refusal(&begin_at(0), &[]).contains("was committed"));
        assert!(refusal(&begin_at(3), &[]).contains("nothing beyond 2"));
        assert!(judge(lines(&begin_at(1)), &Silent::new(), 100).is_ok());
        let gap = [
            ("a", 1, assigned()),
            ("a", 2, delivered(0)),
            ("a", 3, delivered(2)),
        ];
        assert!(refusal(&gap, &[]).contains("instead of @1"));
    }

    #[test]
    fn g13_who_lost_a_partition_commits_it_no_more() {
        let told = [
            ("a", 1, assigned()),
            ("a", 2, delivered(0)),
            ("b", 200, assigned()),
            ("a", 201, delivered(1)),
            ("a", 202, Happened::Committed(vec![(0, 1)])),
        ];
        assert!(refusal(&told, &[("a", 3)]).contains("G13"));
        assert!(refusal(&told, &[]).contains("G14"));
    }
}
