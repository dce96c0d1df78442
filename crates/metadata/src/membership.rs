//! What the membership of the Raft group says of a broker's nodes.

use std::collections::BTreeSet;

use crate::node_id::RaftNodeId;
use crate::raft_types::Membership;

/// The nodes of `node`'s broker on other directories, in a membership.
pub(crate) fn other_nodes(membership: &Membership, node: RaftNodeId) -> BTreeSet<u64> {
    membership
        .nodes()
        .map(|(member, _)| *member)
        .filter(|member| RaftNodeId(*member).broker() == node.broker() && *member != node.0)
        .collect()
}
