//! Taking a node in: a learner, or the new directory of a broker whose old one is gone.
//!
//! The leader does it, when the node asks (`forming.rs`); whoever asked keeps asking until it is
//! done, so a leader that dies in the middle leaves nothing that the next one does not finish:
//!
//! 1. Is the old node gone? Not while it is this one, while its directory has a session with the
//!    cluster, or while anything but the new node answers where the group reaches that broker.
//! 2. The new node becomes a learner, and has caught up with the log.
//! 3. A membership change puts it in the old one's place. That takes a majority of the old voters
//!    *and* of the new ones (joint consensus), so what was committed with the old node's help is
//!    known to a majority that does not need it.
//! 4. Nodes of the same broker that do not vote are forgotten.
//!
//! The first step is there so that two processes that were given one broker id do not take the
//! place from each other: the living one keeps it. What keeps the log safe is the third, with a
//! node id of its own for every directory (M30).

use std::collections::BTreeSet;
use std::time::Duration;

use openraft::{BasicNode, ChangeMembers};
use tidelog_proto::internal::v1 as pb;
use tidelog_proto::internal::v1::raft_client::RaftClient;
use tidelog_types::BrokerId;
use tonic::Status;

use crate::handle::Metadata;
use crate::membership::other_nodes;
use crate::node_id::RaftNodeId;
use crate::peer::Lane;
use crate::raft_types::Membership;

/// How long a broker may take to say which node it is.
const HELLO_TIMEOUT: Duration = Duration::from_secs(1);

/// Takes a node in. An error says why not yet, and what to do.
pub(crate) async fn take_in(metadata: &Metadata, node: RaftNodeId, address: &str) -> Result<(), Status> {
    let broker = node
        .broker()
        .ok_or_else(|| Status::invalid_argument(format!("{node} is no node of a broker")))?;
    let before = membership(metadata);
    let others = other_nodes(&before, node);
    if others.is_empty() {
        if before.get_node(&node.0).is_none() {
            add_learner(metadata, node, address, false).await?;
        }
        return Ok(());
    }
    others_are_gone(metadata, broker, node, &others).await?;
    // Of a change that was begun and not finished, what it was to lead to.
    let voters = before.get_joint_config().last().cloned().unwrap_or_default();
    let voted = before.voter_ids().any(|voter| others.contains(&voter));
    if voted || voters.contains(&node.0) {
        add_learner(metadata, node, address, true).await?;
        let next: BTreeSet<u64> = voters
            .iter()
            .filter(|voter| !others.contains(voter))
            .copied()
            .chain([node.0])
            .collect();
        change(metadata, node, ChangeMembers::ReplaceAllVoters(next)).await?;
        tracing::info!(%node, replaced = ?others, "a new directory votes in the place of one that is gone");
    } else {
        add_learner(metadata, node, address, false).await?;
    }
    let after = membership(metadata);
    let forgotten: BTreeSet<u64> = other_nodes(&after, node)
        .into_iter()
        .filter(|other| !after.voter_ids().any(|voter| voter == *other))
        .collect();
    if !forgotten.is_empty() {
        change(metadata, node, ChangeMembers::RemoveNodes(forgotten)).await?;
        tracing::info!(%node, "a learner with a lost directory was replaced");
    }
    Ok(())
}

fn membership(metadata: &Metadata) -> Membership {
    let metrics = metadata.raft().metrics();
    let metrics = metrics.borrow();
    metrics.membership_config.membership().clone()
}

fn not_taken(node: RaftNodeId, error: &dyn std::fmt::Display) -> Status {
    Status::unavailable(format!("node {node} was not taken in: {error}"))
}

async fn add_learner(
    metadata: &Metadata,
    node: RaftNodeId,
    address: &str,
    caught_up: bool,
) -> Result<(), Status> {
    let added = metadata
        .raft()
        .add_learner(node.0, BasicNode::new(address), caught_up)
        .await;
    added.map(|_| ()).map_err(|error| not_taken(node, &error))
}

async fn change(
    metadata: &Metadata,
    node: RaftNodeId,
    change: ChangeMembers<u64, BasicNode>,
) -> Result<(), Status> {
    // A voter that is replaced does not stay as a learner; of a change of learners the rest stays.
    let retain = matches!(change, ChangeMembers::RemoveNodes(_));
    let changed = metadata.raft().change_membership(change, retain).await;
    changed.map(|_| ()).map_err(|error| not_taken(node, &error))
}

/// Refuses unless the broker's other nodes are gone, as far as the cluster can know.
async fn others_are_gone(
    metadata: &Metadata,
    broker: BrokerId,
    node: RaftNodeId,
    others: &BTreeSet<u64>,
) -> Result<(), Status> {
    let alive = |how: String| {
        Status::failed_precondition(format!(
            "broker {broker} is known on another data directory, which {how}. Two processes may not have one broker id: the one that was \
             there first keeps it"
        ))
    };
    if broker == metadata.broker() {
        return Err(alive("leads the metadata".to_owned()));
    }
    let image = metadata.image();
    let registered = image.broker(broker).filter(|broker| !broker.fenced);
    if let Some(old) = registered.filter(|registered| RaftNodeId::new(broker, registered.directory) != node) {
        return Err(alive(format!(
            "still has a session (directory {}): a session ends within seconds of its broker",
            old.directory
        )));
    }
    let place = metadata.peers().address(broker).unwrap_or_default();
    match who_is_at(metadata, broker).await {
        Ok(found) if found == node => Ok(()),
        Ok(found) if others.contains(&found.0) => Err(alive(format!("answers at {place}"))),
        Ok(found) => Err(Status::failed_precondition(format!(
            "node {found} answers at {place}, where broker {broker} is reached, and not node {node}"
        ))),
        Err(why) => Err(Status::failed_precondition(format!(
            "broker {broker} is reached at {place}, and node {node} does not answer there: {why}; check the addresses in --cluster"
        ))),
    }
}

/// Which node answers where the group reaches a broker.
async fn who_is_at(metadata: &Metadata, broker: BrokerId) -> Result<RaftNodeId, String> {
    let channel = metadata
        .peers()
        .channel(broker, Lane::Control)
        .map_err(|error| error.to_string())?;
    let hello = pb::HelloRequest {
        node_id: metadata.node_id().0,
        directory_id: metadata.directory().as_bytes().to_vec().into(),
    };
    let mut client = RaftClient::new(channel);
    match tokio::time::timeout(HELLO_TIMEOUT, client.hello(hello)).await {
        Ok(Ok(answer)) => Ok(RaftNodeId(answer.into_inner().node_id)),
        Ok(Err(status)) => Err(status.message().to_owned()),
        Err(elapsed) => Err(elapsed.to_string()),
    }
}
