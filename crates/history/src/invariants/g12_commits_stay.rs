//! G12: committed offsets behave like one register that is read and written at once.
//!
//! The deletion of a group is a commit of nothing for each of its partitions.
//!
//! Each commit takes effect at some moment after it began: an acknowledged one before its
//! acknowledgement, one of unknown fate whenever, or never. An answer is wrong if every commit of
//! its offset was certainly overwritten before the question was asked: some other commit began
//! after that one had taken effect, and had itself taken effect by then. So of the past two numbers
//! are enough: the latest beginning among the commits that are in effect for certain, and for each
//! offset the latest moment at which a commit of it may have taken effect. Two commits of one
//! offset cannot be told apart, and the check does not try to.

use tidelog_types::{Offset, TopicIdPartition};

use super::{Check, Moment, Verdict};
use crate::event::{CommitResult, Name, Request, What};
use crate::hash::Map;
use crate::world::World;

#[derive(Default)]
pub(super) struct CommitsStay {
    registers: Map<(Name, TopicIdPartition), Register>,
    commits: Map<Request, Commit>,
    asked: Map<Request, Asked>,
}

/// What is known of one group's offset of one partition.
#[derive(Default)]
struct Register {
    /// The latest beginning of a commit that is in effect for certain.
    overwritten_before: Option<usize>,
    /// By what was committed; `None` is nothing.
    offsets: Map<Option<Offset>, Candidates>,
}

/// The commits of one offset.
#[derive(Default)]
struct Candidates {
    /// The latest moment by which one of them had taken effect, of those that are known to have.
    effective_by: Option<usize>,
    /// Those that may take effect yet.
    open: Vec<Request>,
}

struct Commit {
    key: (Name, TopicIdPartition),
    offset: Option<Offset>,
    began: usize,
    /// The answer that proved it.
    proven_by: Option<usize>,
}

struct Asked {
    key: (Name, TopicIdPartition),
    /// Commits that had taken effect by then were overwritten before it was asked.
    overwritten_before: Option<usize>,
}

impl Check for CommitsStay {
    fn before(&mut self, moment: &Moment<'_>, _world: &World) -> Verdict {
        match moment.what {
            What::CommitBegan {
                request,
                group,
                partition,
                offset,
            } => {
                let key = (Name::clone(group), *partition);
                let register = self.registers.entry(key.clone()).or_default();
                register.offsets.entry(*offset).or_default().open.push(*request);
                let commit = Commit {
                    key,
                    offset: *offset,
                    began: moment.position,
                    proven_by: None,
                };
                self.commits.insert(*request, commit);
                Ok(())
            }
            What::CommitEnded { request, result } => self.ended(*request, *result, moment.position),
            What::OffsetAsked {
                request,
                group,
                partition,
            } => {
                let key = (Name::clone(group), *partition);
                let overwritten_before = self
                    .registers
                    .get(&key)
                    .and_then(|register| register.overwritten_before);
                let asked = Asked {
                    key,
                    overwritten_before,
                };
                self.asked.insert(*request, asked);
                Ok(())
            }
            What::OffsetAnswered { request, offset } => match self.asked.remove(request) {
                Some(asked) => self.answered(&asked, *offset, moment.position),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }
}

impl CommitsStay {
    fn ended(&mut self, request: Request, result: CommitResult, position: usize) -> Verdict {
        let Some(commit) = self.commits.get(&request) else {
            return Ok(());
        };
        match (result, commit.proven_by) {
            (CommitResult::Unknown, _) | (CommitResult::Acknowledged, Some(_)) => {}
            (CommitResult::Acknowledged, None) => self.took_effect(request, position),
            (CommitResult::Refused, Some(proof)) => {
                let (group, partition) = &commit.key;
                return Err(format!(
                    "the commit of {} of {partition} for group {group} (#{}) is refused, and #{proof} answered with it",
                    told(commit.offset),
                    commit.began
                ));
            }
            (CommitResult::Refused, None) => {
                let register = self.registers.get_mut(&commit.key);
                if let Some(candidates) =
                    register.and_then(|register| register.offsets.get_mut(&commit.offset))
                {
                    candidates.open.retain(|open| *open != request);
                }
            }
        }
        Ok(())
    }

    /// Takes note that a commit had taken effect by that event.
    fn took_effect(&mut self, request: Request, position: usize) {
        let Some(commit) = self.commits.get(&request) else {
            return;
        };
        let Some(register) = self.registers.get_mut(&commit.key) else {
            return;
        };
        register.overwritten_before = register.overwritten_before.max(Some(commit.began));
        if let Some(candidates) = register.offsets.get_mut(&commit.offset) {
            candidates.effective_by = candidates.effective_by.max(Some(position));
            candidates.open.retain(|open| *open != request);
        }
    }

    fn answered(&mut self, asked: &Asked, offset: Option<Offset>, position: usize) -> Verdict {
        let (group, partition) = &asked.key;
        let overwritten = |answer: String| {
            let by = asked.overwritten_before.unwrap_or_default();
            Err(format!(
                "group {group} is told {answer} for {partition}, and a later commit (#{by}) was in effect before it asked"
            ))
        };
        // Nothing is committed in the beginning.
        if offset.is_none() && asked.overwritten_before.is_none() {
            return Ok(());
        }
        let register = self.registers.get(&asked.key);
        let Some(candidates) = register
            .and_then(|register| register.offsets.get(&offset))
            .filter(|candidates| candidates.effective_by.is_some() || !candidates.open.is_empty())
        else {
            return match offset {
                Some(_) => Err(format!(
                    "group {group} is told {} for {partition}, which nobody committed",
                    told(offset)
                )),
                None => overwritten(told(offset)),
            };
        };
        if candidates.effective_by.is_some() && candidates.effective_by >= asked.overwritten_before {
            return Ok(());
        }
        match candidates.open[..] {
            [] => overwritten(told(offset)),
            // It can be no other: so it had taken effect by now.
            [proven] => {
                self.took_effect(proven, position);
                if let Some(commit) = self.commits.get_mut(&proven) {
                    commit.proven_by = Some(position);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

fn told(offset: Option<Offset>) -> String {
    offset.map_or_else(
        || "that nothing is committed".to_owned(),
        |offset| format!("offset {offset}"),
    )
}
