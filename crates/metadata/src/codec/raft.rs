//! Raft's own types: log ids, votes, entries, memberships.

use std::collections::{BTreeMap, BTreeSet};

use openraft::{BasicNode, CommittedLeaderId, EntryPayload};
use tidelog_proto::storage::v1 as pb;
use tidelog_proto::storage::v1::raft_entry::{Blank, Payload};

use super::DecodeError;
use crate::raft_types::{EncodedCommand, Entry, LogId, Membership, StoredMembership, Vote};

pub(crate) fn log_id_to(id: &LogId) -> pb::RaftLogId {
    pb::RaftLogId {
        term: id.leader_id.term,
        node_id: id.leader_id.node_id,
        index: id.index,
    }
}

pub(crate) fn log_id_from(id: &pb::RaftLogId) -> LogId {
    LogId::new(CommittedLeaderId::new(id.term, id.node_id), id.index)
}

pub(crate) fn vote_to(vote: &Vote) -> pb::RaftVote {
    let leader = vote.leader_id();
    pb::RaftVote {
        term: leader.term,
        node_id: leader.node_id,
        committed: vote.is_committed(),
    }
}

pub(crate) fn vote_from(vote: &pb::RaftVote) -> Vote {
    if vote.committed {
        Vote::new_committed(vote.term, vote.node_id)
    } else {
        Vote::new(vote.term, vote.node_id)
    }
}

/// The vote of a message, which must carry one.
pub(crate) fn required_vote(vote: Option<&pb::RaftVote>) -> Result<Vote, DecodeError> {
    vote.map(vote_from).ok_or(DecodeError::Field("vote"))
}

pub(crate) fn entry_to(entry: Entry) -> pb::RaftEntry {
    let payload = match entry.payload {
        EntryPayload::Blank => Payload::Blank(Blank {}),
        EntryPayload::Normal(EncodedCommand(bytes)) => Payload::Command(bytes.into()),
        EntryPayload::Membership(membership) => Payload::Membership(membership_to(&membership)),
    };
    pb::RaftEntry {
        log_id: Some(log_id_to(&entry.log_id)),
        payload: Some(payload),
    }
}

pub(crate) fn entry_from(entry: pb::RaftEntry) -> Result<Entry, DecodeError> {
    let payload = match entry.payload.ok_or(DecodeError::Field("payload"))? {
        Payload::Blank(Blank {}) => EntryPayload::Blank,
        Payload::Command(bytes) => EntryPayload::Normal(EncodedCommand(bytes.into())),
        Payload::Membership(membership) => EntryPayload::Membership(membership_from(membership)),
    };
    let log_id = log_id_from(entry.log_id.as_ref().ok_or(DecodeError::Field("log id"))?);
    Ok(Entry { log_id, payload })
}

pub(crate) fn membership_to(membership: &Membership) -> pb::RaftMembership {
    pb::RaftMembership {
        voters: membership
            .get_joint_config()
            .iter()
            .map(|voters| pb::RaftVoters {
                node_ids: voters.iter().copied().collect(),
            })
            .collect(),
        nodes: membership
            .nodes()
            .map(|(id, node)| pb::RaftNode {
                node_id: *id,
                address: node.addr.clone(),
            })
            .collect(),
    }
}

pub(crate) fn membership_from(membership: pb::RaftMembership) -> Membership {
    let voters: Vec<BTreeSet<u64>> = membership
        .voters
        .into_iter()
        .map(|voters| voters.node_ids.into_iter().collect())
        .collect();
    let nodes: BTreeMap<u64, BasicNode> = membership
        .nodes
        .into_iter()
        .map(|node| (node.node_id, BasicNode::new(node.address)))
        .collect();
    Membership::new(voters, nodes)
}

pub(crate) fn applied_to(last_applied: Option<&LogId>, membership: &StoredMembership) -> pb::AppliedState {
    pb::AppliedState {
        last_applied: last_applied.map(log_id_to),
        membership_log_id: membership.log_id().as_ref().map(log_id_to),
        membership: Some(membership_to(membership.membership())),
    }
}

pub(crate) fn applied_from(applied: pb::AppliedState) -> (Option<LogId>, StoredMembership) {
    let membership = applied.membership.map(membership_from).unwrap_or_default();
    let log_id = applied.membership_log_id.as_ref().map(log_id_from);
    (
        applied.last_applied.as_ref().map(log_id_from),
        StoredMembership::new(log_id, membership),
    )
}
