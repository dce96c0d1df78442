//! What the node lives through, and what it must hold after each step of it.

use std::collections::BTreeMap;

use openraft::{BasicNode, CommittedLeaderId};
use tidelog_cluster::command::RegisterBroker;
use tidelog_cluster::{ClusterImage, decide};

use super::*;
use crate::raft_types::{Membership, StoredMembership};
use crate::store::snapshot::SnapshotState;

/// This node, and the two that lead it.
pub(super) const ME: u64 = 9;
pub(super) const FIRST: (u64, u64) = (1, 7);
pub(super) const SECOND: (u64, u64) = (2, 8);
/// Index of the last entry of the history.
pub(super) const LAST: u64 = 14;
/// How many entries that a snapshot covers stay in the log.
pub(super) const KEEP: u64 = 1;

pub(super) fn id_of(leader: (u64, u64), index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(leader.0, leader.1), index)
}

/// The entry of the committed history at an index: the first leader's up to 3, the second one's
/// after it.
pub(super) fn committed_entry(index: u64) -> Entry {
    entry_of(if index <= 3 { FIRST } else { SECOND }, index)
}

pub(super) fn entry_of(leader: (u64, u64), index: u64) -> Entry {
    let payload = if index == 0 {
        let nodes: BTreeMap<u64, BasicNode> = [ME, FIRST.1, SECOND.1]
            .map(|node| (node, BasicNode::new("nowhere:1")))
            .into();
        EntryPayload::Membership(Membership::new(vec![nodes.keys().copied().collect()], nodes))
    } else {
        let register = RegisterBroker {
            broker: BrokerId::new((leader.0 * 100 + index) as u32).unwrap(),
            directory: DirectoryId::from_slice(&[index as u8; 16]).unwrap(),
            peer_address: "nowhere:1".to_owned(),
            listeners: Vec::new(),
            feature_level: 1,
        };
        EntryPayload::Normal(EncodedCommand(command::to_bytes(&Command::RegisterBroker(
            register,
        ))))
    };
    Entry {
        log_id: id_of(leader, index),
        payload,
    }
}

/// The state after the committed history up to an index.
pub(super) fn state_at(index: Option<u64>) -> SnapshotState {
    let mut state = SnapshotState {
        last_applied: None,
        membership: StoredMembership::default(),
        image: Arc::new(ClusterImage::default()),
    };
    for entry in (0..=LAST)
        .take_while(|at| Some(*at) <= index)
        .map(committed_entry)
    {
        state.last_applied = Some(entry.log_id);
        let at = MetadataIndex(entry.log_id.index);
        match entry.payload {
            EntryPayload::Membership(membership) => {
                state.membership = StoredMembership::new(Some(entry.log_id), membership);
            }
            EntryPayload::Normal(bytes) => {
                let (changes, _) = decide(&state.image, at, &command::from_bytes(&bytes.0).unwrap());
                Arc::make_mut(&mut state.image).replay(at, &changes);
            }
            EntryPayload::Blank => {}
        }
    }
    state
}

/// What the node is asked, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// For whom, and how long the candidate's log is.
    Vote((u64, u64), Option<u64>),
    /// By whom, after which entry, how many of its own entries, committed up to where.
    Append((u64, u64), Option<u64>, u64, u64),
    Build(u64),
    Install(u64),
}

pub(super) const SCRIPT: [Step; 11] = [
    Step::Vote(FIRST, None),
    Step::Append(FIRST, None, 4, 1),
    // 4 and 5 never get a majority,
    Step::Append(FIRST, Some(3), 2, 3),
    // and are replaced.
    Step::Append(SECOND, Some(3), 3, 3),
    Step::Append(SECOND, Some(6), 0, 6),
    Step::Build(6),
    Step::Append(SECOND, Some(6), 2, 7),
    Step::Install(12),
    Step::Append(SECOND, Some(12), 2, LAST),
    Step::Build(LAST),
    Step::Vote((3, 7), Some(LAST)),
];

/// What a node must hold after the first `answered` steps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Model {
    pub(super) vote: Vote,
    pub(super) log: BTreeMap<u64, LogId>,
    pub(super) committed: Option<u64>,
}

impl Model {
    pub(super) fn after(answered: usize) -> Self {
        let mut model = Self::default();
        for step in &SCRIPT[..answered] {
            match *step {
                Step::Vote((term, node), _) => model.vote = Vote::new(term, node),
                Step::Append(leader, prev, count, committed) => {
                    model.vote = Vote::new_committed(leader.0, leader.1);
                    let first = prev.map_or(0, |prev| prev + 1);
                    if count > 0 {
                        model.log.split_off(&first);
                    }
                    model
                        .log
                        .extend((first..first + count).map(|index| (index, id_of(leader, index))));
                    model.committed = Some(committed);
                }
                Step::Build(_) => {}
                Step::Install(last) => {
                    model.log = (0..=last)
                        .map(|index| (index, committed_entry(index).log_id))
                        .collect();
                    model.committed = Some(last);
                }
            }
        }
        model
    }
}
