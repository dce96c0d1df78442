//! What the leader of the metadata log does: replicate, commit, and put new directories in the
//! place of lost ones.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidelog_cluster::Command;

use super::node::{Raft, Role, is_majority};
use super::{NodeId, Payload, RaftMessage, broker_of};
use crate::context::Context;
use crate::recorder::digest_of;

const HEARTBEAT: Duration = Duration::from_millis(200);
/// Most entries in a message.
const ENTRIES_AT_ONCE: usize = 64;

/// Another broker's node, as the leader sees it.
#[derive(Debug)]
pub(super) struct Peer {
    node: Option<NodeId>,
    next: u64,
    matched: u64,
    sent: Duration,
    is_answered: bool,
    /// When the newest message that it answered was sent.
    acked: Option<Duration>,
}

impl Raft {
    /// Puts a command into the log, if this node leads; answers its index and the term.
    pub(crate) fn propose(&mut self, command: &Arc<Command>, context: &mut Context) -> Option<(u64, u64)> {
        self.leads()?;
        let payload = Payload::Command(Arc::clone(command), digest_of(command));
        let index = self.push(payload, context);
        self.replicate(context);
        Some((index, self.term))
    }

    /// How long ago a majority of the voters answered, on a leader: counted from when it asked, as
    /// a lease is.
    pub(crate) fn since_quorum_ack(&self, context: &Context) -> Option<Duration> {
        let Role::Leader(peers) = &self.role else {
            return None;
        };
        let acked = |node: &NodeId| {
            if *node == self.node {
                return Some(context.now);
            }
            let peer = broker_of(*node).and_then(|broker| peers.get(&broker));
            peer.filter(|peer| peer.node == Some(*node))?.acked
        };
        let by_majority = |set: &Vec<NodeId>| {
            let mut times: Vec<_> = set.iter().map(acked).collect();
            times.sort_unstable();
            times.reverse();
            times.get(set.len() / 2).copied().flatten()
        };
        let sets = self.voters();
        let oldest = sets.iter().map(by_majority).min().flatten()?;
        Some(context.now.saturating_sub(oldest))
    }

    pub(super) fn lead(&mut self, context: &mut Context) {
        let next = self.last().0 + 1;
        let local = broker_of(self.node);
        let peers = context
            .config
            .broker_ids()
            .filter(|broker| Some(*broker) != local);
        let peer = || Peer {
            node: None,
            next,
            matched: 0,
            sent: Duration::ZERO,
            is_answered: true,
            acked: None,
        };
        let peers: BTreeMap<_, _> = peers.map(|broker| (broker, peer())).collect();
        self.role = Role::Leader(peers);
        self.durable = 0;
        context.history.seen.metadata_leaders += 1;
        self.push(Payload::Blank, context);
        self.replicate(context);
    }

    pub(super) fn tick_leader(&mut self, context: &mut Context) {
        self.replace_lost(context);
        let now = context.now;
        if let Role::Leader(peers) = &mut self.role {
            for peer in peers.values_mut() {
                // What was sent may be lost.
                if !peer.is_answered && now.saturating_sub(peer.sent) >= HEARTBEAT && peer.matched > 0 {
                    peer.next = peer.matched + 1;
                }
            }
        }
        self.replicate_if(context, HEARTBEAT);
    }

    pub(super) fn replicate(&mut self, context: &mut Context) {
        self.replicate_if(context, Duration::MAX);
    }

    /// Sends what is new, and to those to whom nothing was said for so long, that nothing is.
    fn replicate_if(&mut self, context: &mut Context, silence: Duration) {
        let end = self.last().0;
        let (now, mut messages) = (context.now, Vec::new());
        let Role::Leader(peers) = &mut self.role else {
            return;
        };
        for (broker, peer) in peers {
            let is_due = now.saturating_sub(peer.sent) >= silence;
            let has_more = peer.is_answered && peer.next <= end;
            if !is_due && !has_more {
                continue;
            }
            (peer.sent, peer.is_answered) = (now, false);
            messages.push((*broker, peer.next));
        }
        for (broker, next) in messages {
            let previous = next - 1;
            let previous_term = match previous {
                0 => 0,
                _ => self.log[previous as usize - 1].term,
            };
            let entries = self.log[previous as usize..].iter().take(ENTRIES_AT_ONCE);
            let message = RaftMessage::Append {
                term: self.term,
                leader: self.node,
                previous: (previous, previous_term),
                entries: entries.cloned().collect(),
                commit: self.commit,
                sent: now,
            };
            self.tell(broker, message, context);
        }
    }

    /// A node's log agrees with this one's up to there, or does not.
    pub(super) fn appended(
        &mut self,
        node: NodeId,
        matched: Result<u64, u64>,
        sent: Duration,
        context: &mut Context,
    ) {
        let end = self.last().0;
        let Role::Leader(peers) = &mut self.role else {
            return;
        };
        if let Some(peer) = broker_of(node).and_then(|broker| peers.get_mut(&broker)) {
            if peer.node != Some(node) {
                (peer.node, peer.matched, peer.acked) = (Some(node), 0, None);
            }
            peer.is_answered = true;
            peer.acked = peer.acked.max(Some(sent));
            match matched {
                Ok(index) => {
                    peer.matched = peer.matched.max(index);
                    peer.next = peer.next.max(peer.matched + 1).min(end + 1);
                }
                Err(next) => peer.next = next.clamp(1, end + 1),
            }
        }
        let before = self.commit;
        self.advance();
        if self.commit > before {
            // Everybody is told at once, whatever else is to be said.
            self.replicate_if(context, Duration::ZERO);
        } else {
            self.replicate(context);
        }
    }

    fn advance(&mut self) {
        let sets = self.voters();
        let Role::Leader(peers) = &self.role else {
            return;
        };
        let matched = |node: &NodeId| {
            if *node == self.node {
                return self.durable;
            }
            let peer = broker_of(*node).and_then(|broker| peers.get(&broker));
            peer.filter(|peer| peer.node == Some(*node))
                .map_or(0, |peer| peer.matched)
        };
        let mut index = self.last().0;
        while index > self.commit && self.log[index as usize - 1].term == self.term {
            if is_majority(&sets, |node| matched(node) >= index) {
                self.commit = index;
                return;
            }
            index -= 1;
        }
    }

    /// A directory that took a lost one's place takes its vote, too: first both sets decide, then
    /// the new one.
    fn replace_lost(&mut self, context: &mut Context) {
        let is_settled = self
            .log
            .iter()
            .rposition(|entry| matches!(entry.payload, Payload::Membership(_)))
            .is_none_or(|at| (at as u64) < self.commit);
        let sets = self.voters();
        let blank_committed = self.commit > 0 && self.log[self.commit as usize - 1].term == self.term;
        if !is_settled || !blank_committed {
            return;
        }
        if let [_, new] = sets.as_slice() {
            self.push(Payload::Membership(vec![new.clone()]), context);
            self.replicate(context);
            return;
        }
        let Role::Leader(peers) = &self.role else {
            return;
        };
        let Some(old) = sets.first() else { return };
        let replaced = |voter: &NodeId| {
            let peer = peers.get(&broker_of(*voter)?)?;
            let node = peer.node.filter(|node| node != voter)?;
            (peer.matched >= self.commit).then_some(node)
        };
        let new: Vec<_> = old
            .iter()
            .map(|voter| replaced(voter).unwrap_or(*voter))
            .collect();
        if new != *old {
            context.history.seen.voters_replaced += 1;
            self.push(Payload::Membership(vec![old.clone(), new]), context);
            self.replicate(context);
        }
    }
}
