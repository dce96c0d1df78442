//! One node: follower, candidate or leader.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tidelog_history::What;
use tidelog_types::BrokerId;

use super::disk::{MetadataDisk, Save, Snapshot};
use super::leader::Peer;
use super::{LogEntry, NodeId, Payload, RaftMessage, broker_of};
use crate::broker::Timer;
use crate::context::{Context, Happening};
use crate::message::{Address, Message, Site};

/// Shortest time without a leader after which a node stands for election.
const ELECTION_MIN: Duration = Duration::from_millis(500);
/// The longest election timeout.
pub(crate) const ELECTION_MAX: Duration = Duration::from_secs(1);

/// A node of the metadata log.
pub(crate) struct Raft {
    pub(super) node: NodeId,
    pub(super) address: Address,
    pub(crate) disk: MetadataDisk,
    pub(super) term: u64,
    vote: Option<NodeId>,
    pub(super) log: Vec<Arc<LogEntry>>,
    pub(super) commit: u64,
    /// On a leader, up to where the log is on its own disk.
    pub(super) durable: u64,
    pub(super) role: Role,
    leader: Option<BrokerId>,
    heard: Duration,
    election_at: Duration,
    after: VecDeque<(u64, After)>,
}

/// What a node is.
#[derive(Debug)]
pub(super) enum Role {
    Follower,
    Candidate(BTreeSet<NodeId>),
    Leader(BTreeMap<BrokerId, Peer>),
}

/// What is done once everything enqueued before it is durable.
#[derive(Debug)]
enum After {
    AskVotes(u64),
    Answer(Address, RaftMessage),
    Matched(u64),
}

impl Raft {
    /// The node of a directory, as it was left.
    pub(crate) fn new(node: NodeId, address: Address, disk: MetadataDisk, context: &mut Context) -> Self {
        let saved = disk.saved.clone();
        Self {
            node,
            address,
            disk,
            term: saved.term,
            vote: saved.vote,
            // What is in a snapshot was committed.
            commit: saved.commit.max(saved.snapshot.index),
            durable: 0,
            log: saved.log,
            role: Role::Follower,
            leader: None,
            heard: Duration::ZERO,
            election_at: context.now + election_timeout(context),
            after: VecDeque::new(),
        }
    }

    /// The broker that leads the metadata, as far as this node knows.
    pub(crate) fn leader(&self) -> Option<BrokerId> {
        self.leader
    }

    /// The term in which this node leads, if it does.
    pub(crate) fn leads(&self) -> Option<u64> {
        matches!(self.role, Role::Leader(_)).then_some(self.term)
    }

    /// The committed entry at an index.
    pub(crate) fn committed(&self, index: u64) -> Option<Arc<LogEntry>> {
        if index == 0 || index > self.commit {
            return None;
        }
        self.log.get(index as usize - 1).cloned()
    }

    /// Notes up to where the log is applied, and with a snapshot what came of it, some time.
    pub(crate) fn save_applied(&mut self, index: u64, snapshot: Option<Snapshot>, context: &mut Context) {
        self.disk.save(Save::Commit(index));
        if let Some(snapshot) = snapshot {
            self.disk.save(Save::Snapshot(snapshot));
        }
        self.sync_later(context);
    }

    /// The sets of voters that this node goes by: the newest in its log, committed or not.
    pub(crate) fn voters(&self) -> Vec<Vec<NodeId>> {
        let membership = self.log.iter().rev().find_map(|entry| match &entry.payload {
            Payload::Membership(sets) => Some(sets.clone()),
            Payload::Blank | Payload::Command(..) => None,
        });
        membership.unwrap_or_default()
    }

    /// The id of this node.
    pub(crate) fn node(&self) -> NodeId {
        self.node
    }

    /// Whether a node is one of the voters by what is committed, and no change of them is under
    /// way.
    pub(crate) fn has_settled_voter(&self, node: NodeId) -> bool {
        let newest = self
            .log
            .iter()
            .rposition(|entry| matches!(entry.payload, Payload::Membership(_)));
        let is_settled = newest.is_some_and(|at| (at as u64) < self.commit);
        let sets = self.voters();
        is_settled && sets.len() == 1 && sets.iter().all(|set| set.contains(&node))
    }

    /// Does what is due by now.
    pub(crate) fn tick(&mut self, context: &mut Context) {
        if let Role::Leader(_) = self.role {
            self.tick_leader(context);
        } else if context.now >= self.election_at {
            self.election_at = context.now + election_timeout(context);
            if self.voters().iter().any(|set| set.contains(&self.node)) {
                self.campaign(context);
            }
        }
    }

    /// A sync of the metadata database is done.
    pub(crate) fn synced(&mut self, context: &mut Context) {
        self.disk.end_sync();
        let synced = self.disk.synced();
        while let Some((_, after)) = self.after.pop_front_if(|(ticket, _)| *ticket <= synced) {
            self.perform(after, context);
        }
        self.sync_later(context);
    }

    /// Another node says something.
    pub(crate) fn receive(&mut self, from: Address, message: RaftMessage, context: &mut Context) {
        match message {
            RaftMessage::AskVote {
                term,
                candidate,
                last,
            } => {
                self.asked(from, term, candidate, last, context);
            }
            RaftMessage::Vote { term, node, granted } => {
                self.see_term(term, context);
                if granted && term == self.term {
                    self.count(node, context);
                }
            }
            RaftMessage::Append {
                term,
                leader,
                previous,
                entries,
                commit,
                sent,
            } => {
                if term < self.term {
                    self.answer(from, Err(0), sent, context);
                    return;
                }
                self.see_term(term, context);
                self.follow(leader, context);
                let matched = self.take(previous, entries, context);
                if let Ok(index) = matched {
                    self.commit = self.commit.max(commit.min(index));
                }
                self.answer(from, matched, sent, context);
            }
            RaftMessage::Appended {
                term,
                node,
                matched,
                sent,
            } => {
                self.see_term(term, context);
                if term == self.term {
                    self.appended(node, matched, sent, context);
                }
            }
        }
    }

    pub(super) fn last(&self) -> (u64, u64) {
        (
            self.log.len() as u64,
            self.log.last().map_or(0, |entry| entry.term),
        )
    }

    pub(super) fn save(&mut self, save: Save, context: &mut Context) {
        self.disk.save(save);
        self.sync_later(context);
    }

    /// Appends entries of this term, as its leader.
    pub(super) fn push(&mut self, payload: Payload, context: &mut Context) -> u64 {
        let entry = Arc::new(LogEntry {
            term: self.term,
            payload,
        });
        self.log.push(Arc::clone(&entry));
        let index = self.log.len() as u64;
        self.save(Save::Entries(index, vec![entry]), context);
        self.when_durable(After::Matched(index), context);
        index
    }

    pub(super) fn tell(&self, to: BrokerId, message: RaftMessage, context: &mut Context) {
        context.send(self.address, Site::Broker(to), None, Message::Raft(message));
    }

    fn sync_later(&mut self, context: &mut Context) {
        if self.disk.begin_sync() {
            let Site::Broker(broker) = self.address.site else {
                return;
            };
            let after = context.random.micros(500, 4000);
            let life = self.address.life;
            context.later(
                after,
                Happening::Broker {
                    broker,
                    life,
                    timer: Timer::MetadataSynced,
                },
            );
        }
    }

    fn when_durable(&mut self, after: After, context: &mut Context) {
        let ticket = self.disk.enqueued();
        if ticket <= self.disk.synced() {
            self.perform(after, context);
        } else {
            self.after.push_back((ticket, after));
        }
    }

    fn perform(&mut self, after: After, context: &mut Context) {
        match after {
            After::AskVotes(term) => {
                if term != self.term || !matches!(self.role, Role::Candidate(_)) {
                    return;
                }
                context.record(What::Voted {
                    node: self.node,
                    term,
                    candidate: self.node,
                });
                let message = RaftMessage::AskVote {
                    term,
                    candidate: self.node,
                    last: self.last(),
                };
                for broker in context.config.broker_ids() {
                    if Some(broker) != broker_of(self.node) {
                        self.tell(broker, message.clone(), context);
                    }
                }
                self.count(self.node, context);
            }
            After::Answer(to, message) => {
                if let RaftMessage::Vote { term, node, granted } = message
                    && granted
                    && let Some(candidate) = self.vote.filter(|_| term == self.term)
                {
                    context.record(What::Voted {
                        node,
                        term,
                        candidate,
                    });
                }
                context.send(self.address, to.site, Some(to.life), Message::Raft(message));
            }
            After::Matched(index) => {
                let entry = self.log.get(index as usize - 1);
                if self.leads().is_some() && entry.is_some_and(|entry| entry.term == self.term) {
                    self.durable = self.durable.max(index);
                    self.appended(self.node, Ok(index), context.now, context);
                }
            }
        }
    }

    fn campaign(&mut self, context: &mut Context) {
        self.term += 1;
        self.vote = Some(self.node);
        self.role = Role::Candidate(BTreeSet::new());
        self.leader = None;
        self.save(Save::Vote(self.term, self.vote), context);
        self.when_durable(After::AskVotes(self.term), context);
    }

    fn asked(
        &mut self,
        from: Address,
        term: u64,
        candidate: NodeId,
        last: (u64, u64),
        context: &mut Context,
    ) {
        let follows = matches!(self.role, Role::Follower) && self.leader.is_some();
        if follows && context.now.saturating_sub(self.heard) < ELECTION_MIN && candidate != self.node {
            return;
        }
        self.see_term(term, context);
        let (index, last_term) = self.last();
        let is_current = (last.1, last.0) >= (last_term, index);
        let granted = term == self.term && is_current && self.vote.is_none_or(|vote| vote == candidate);
        if granted && self.vote.is_none() {
            self.vote = Some(candidate);
            self.save(Save::Vote(term, self.vote), context);
            self.election_at = context.now + election_timeout(context);
        }
        let message = RaftMessage::Vote {
            term: self.term,
            node: self.node,
            granted,
        };
        self.when_durable(After::Answer(from, message), context);
    }

    fn count(&mut self, node: NodeId, context: &mut Context) {
        let sets = self.voters();
        let Role::Candidate(votes) = &mut self.role else {
            return;
        };
        votes.insert(node);
        if is_majority(&sets, |voter| votes.contains(voter)) {
            self.lead(context);
            self.leader = broker_of(self.node);
        }
    }

    fn see_term(&mut self, term: u64, context: &mut Context) {
        if term > self.term {
            self.term = term;
            self.vote = None;
            self.role = Role::Follower;
            self.leader = None;
            self.save(Save::Vote(term, None), context);
        }
    }

    fn follow(&mut self, leader: NodeId, context: &mut Context) {
        assert!(
            !matches!(self.role, Role::Leader(_)),
            "a term has one leader: {leader:x} and {:x} in {}",
            self.node,
            self.term
        );
        self.role = Role::Follower;
        self.leader = broker_of(leader);
        self.heard = context.now;
        self.election_at = context.now + election_timeout(context);
    }

    fn take(
        &mut self,
        previous: (u64, u64),
        entries: Vec<Arc<LogEntry>>,
        context: &mut Context,
    ) -> Result<u64, u64> {
        let term_at = |log: &[Arc<LogEntry>], index: u64| match index {
            0 => Some(0),
            _ => log.get(index as usize - 1).map(|entry| entry.term),
        };
        if term_at(&self.log, previous.0) != Some(previous.1) {
            return Err((self.log.len() as u64 + 1).min(previous.0).max(1));
        }
        let end = previous.0 + entries.len() as u64;
        let known = entries
            .iter()
            .zip(previous.0 + 1..)
            .take_while(|(entry, index)| term_at(&self.log, *index) == Some(entry.term))
            .count();
        if known < entries.len() {
            let from = previous.0 + 1 + known as u64;
            assert!(from > self.commit, "M27: a committed entry stays");
            self.log.truncate(from as usize - 1);
            let new = entries[known..].to_vec();
            self.log.extend(new.iter().cloned());
            self.save(Save::Entries(from, new), context);
        }
        Ok(end)
    }

    fn answer(&mut self, to: Address, matched: Result<u64, u64>, sent: Duration, context: &mut Context) {
        let message = RaftMessage::Appended {
            term: self.term,
            node: self.node,
            matched,
            sent,
        };
        self.when_durable(After::Answer(to, message), context);
    }
}

/// Whether more than half of each set is meant.
pub(super) fn is_majority(sets: &[Vec<NodeId>], is_meant: impl Fn(&NodeId) -> bool) -> bool {
    let more_than_half = |set: &Vec<NodeId>| 2 * set.iter().filter(|node| is_meant(node)).count() > set.len();
    !sets.is_empty() && sets.iter().all(more_than_half)
}

fn election_timeout(context: &mut Context) -> Duration {
    context
        .random
        .micros(ELECTION_MIN.as_micros() as u64, ELECTION_MAX.as_micros() as u64)
}
