//! M30: a node votes for one candidate a term, never in a term before one it voted in, and never
//! after its disk was lost.

use super::{Check, Moment, Verdict};
use crate::event::What;
use crate::hash::Map;
use crate::world::World;

#[derive(Default)]
pub(super) struct VotesStay {
    /// Of each node the newest term it voted in, for whom, and the event.
    votes: Map<u64, (u64, u64, usize)>,
    /// Nodes whose disk was lost, and the event.
    lost: Map<u64, usize>,
}

impl Check for VotesStay {
    fn before(&mut self, moment: &Moment<'_>, _world: &World) -> Verdict {
        match moment.what {
            What::DiskLost { node, .. } => {
                self.lost.insert(*node, moment.position);
                Ok(())
            }
            What::Voted {
                node,
                term,
                candidate,
            } => {
                if let Some(position) = self.lost.get(node) {
                    return Err(format!(
                        "node {node} votes in term {term}, and its disk was lost by #{position}"
                    ));
                }
                let now = (*term, *candidate, moment.position);
                match self.votes.insert(*node, now) {
                    Some((before, other, position))
                        if before > *term || (before == *term && other != *candidate) =>
                    {
                        Err(format!(
                            "node {node} votes for {candidate} in term {term}, and voted for {other} in term {before} by #{position}"
                        ))
                    }
                    _ => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }
}
