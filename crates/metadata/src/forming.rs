//! How a node finds its cluster, or makes one.
//!
//! Every node asks the configured voters who they are. One that was part of a cluster before goes
//! on when one of them answers as part of the same (alone it could do nothing anyway). It refuses
//! when most of them belong to another cluster: its data directory, or its configuration, comes
//! from elsewhere; and when most of them know its broker on a newer directory: its place was taken
//! while it was away, and it never votes again. For a pristine node:
//!
//! 1. Somebody knows the group, and this node is in it: wait, the leader will send the log.
//! 2. Somebody knows the group, and no node of this broker votes in it: join as a learner.
//! 3. Somebody knows *another* node of this broker as a voter: its disk was emptied. It never votes
//!    as the node it was (M30); it asks the leader to be taken in that node's place
//!    (`taking_in.rs`). Without a majority of the voters on the directories that the cluster knows,
//!    nothing may be decided, and it waits and says so: what only the lost directories held must
//!    not be forgotten silently.
//! 4. Every configured voter answers that it is pristine too: the one with the lowest id makes the
//!    cluster, the others wait.
//! 5. Anything else, such as a voter that does not answer: ask again.
//!
//! A node that is part of the cluster while the cluster still knows its broker on another
//! directory, too, keeps asking until that is over: whoever led may have died in the middle.
//!
//! # A member without a log
//!
//! The first case covers two nodes that look alike from here. One is being formed right now: the
//! node that made the cluster lists every voter in the log's first entry, and the others learn of
//! it with the first call of the leader; a node that never voted is safe to wait. The other was a
//! member and lost its metadata database: it might vote a second time in a term, and it
//! acknowledged entries that it no longer has. So the second is refused before it gets here, when
//! the folder is opened (`store/identity.rs`): a database that is blank in a data directory that
//! adopted a cluster is lost.
//!
//! What remains is the time between a node's first vote and the adoption, which the broker does as
//! soon as the first command, the cluster's name, is applied: about a second in the life of a
//! directory. A directory whose metadata database alone is lost within it comes back as the voter
//! that it was. It cannot be shorter: the name that is adopted is agreed upon by the votes. A sync
//! mark or a snapshot that outlived the database gives it away even then.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::BasicNode;
use thiserror::Error;
use tidelog_proto::internal::v1 as pb;
use tidelog_proto::internal::v1::raft_client::RaftClient;
use tidelog_types::BrokerId;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::MetadataConfig;
use crate::membership::other_nodes;
use crate::node_id::RaftNodeId;
use crate::peer::{Lane, PeerPool, is_of_other_cluster};
use crate::raft_types::Raft;

const ASK_AGAIN: Duration = Duration::from_millis(100);
const ASK_TIMEOUT: Duration = Duration::from_secs(1);
const JOIN_TIMEOUT: Duration = Duration::from_secs(12);

/// Why a node takes no part in its cluster.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FormError {
    /// Another directory took this one's place.
    #[error(
        "broker {broker} starts on a data directory (node {found}) whose place another one has taken (node {known}). Start it on that \
         one; or move this one aside and start on an empty one, which takes the place in turn"
    )]
    Replaced {
        broker: BrokerId,
        found: RaftNodeId,
        /// The node that the group's members know.
        known: RaftNodeId,
    },
    /// Most voters are part of another cluster.
    #[error(
        "broker {broker} has the data directory of another cluster than the one that --cluster names: {refusal}. Put this cluster's \
         directory back, or name the brokers of the directory's own cluster"
    )]
    OtherCluster {
        broker: BrokerId,
        /// What a voter said.
        refusal: String,
    },
    #[error("the metadata of this broker stopped: {0}")]
    Stopped(String),
}

/// How far a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Formation {
    /// Still looking; says what for.
    Waiting(String),
    /// Part of a cluster.
    Formed,
    /// Never will be.
    Refused(FormError),
}

pub(crate) struct Forming {
    pub(crate) config: MetadataConfig,
    pub(crate) raft: Raft,
    pub(crate) peers: PeerPool,
    pub(crate) progress: watch::Sender<Formation>,
}

/// What a voter said when it was asked who it is.
#[derive(Debug, Clone)]
enum Heard {
    Hello(pb::HelloResponse),
    /// It belongs to another cluster, and refused.
    OtherCluster(String),
    Nothing,
}

impl Heard {
    fn hello(&self) -> Option<&pb::HelloResponse> {
        match self {
            Self::Hello(hello) => Some(hello),
            Self::OtherCluster(_) | Self::Nothing => None,
        }
    }
}

type Answers = BTreeMap<BrokerId, Heard>;

/// What to do after one round of questions.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    GoOn,
    Initialize(BTreeMap<u64, String>),
    Join { leader: BrokerId },
    Refuse(FormError),
    Wait(String),
}

impl Forming {
    /// Runs until the node is part of a cluster, is refused, or is stopped.
    pub(crate) async fn run(self, stop: CancellationToken) {
        loop {
            let done = match self.raft.is_initialized().await {
                Ok(initialized) => self.round(initialized).await,
                Err(error) => {
                    self.progress
                        .send_replace(Formation::Refused(FormError::Stopped(error.to_string())));
                    true
                }
            };
            if done {
                return;
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(ASK_AGAIN) => {}
            }
        }
    }

    /// One round; whether there need be no other.
    async fn round(&self, initialized: bool) -> bool {
        if *self.progress.borrow() == Formation::Formed {
            return self.is_alone().await;
        }
        let answers = self.ask_all().await;
        let step = if initialized {
            go_on(&self.config, self.membership_index(), &answers)
        } else {
            decide(&self.config, &answers)
        };
        match step {
            Step::GoOn => {
                self.progress.send_replace(Formation::Formed);
            }
            Step::Initialize(nodes) => {
                let nodes: BTreeMap<u64, BasicNode> = nodes
                    .into_iter()
                    .map(|(id, address)| (id, BasicNode::new(address)))
                    .collect();
                tracing::info!(voters = ?self.config.voters.keys(), "forming a new cluster");
                if let Err(error) = self.raft.initialize(nodes).await {
                    tracing::warn!(%error, "forming the cluster failed");
                }
            }
            Step::Join { leader } => {
                if let Err(why) = self.join(leader).await {
                    self.wait(format!(
                        "broker {leader}, which leads the metadata, to take this one in: {why}"
                    ));
                }
            }
            Step::Refuse(error) => {
                tracing::error!(%error, "this broker takes no part in the metadata");
                self.progress.send_replace(Formation::Refused(error));
                return true;
            }
            Step::Wait(what) => self.wait(what),
        }
        false
    }

    fn wait(&self, what: String) {
        self.progress.send_if_modified(|progress| {
            let next = Formation::Waiting(what);
            let changed = *progress != next;
            if changed {
                tracing::info!(waiting = ?next, "this broker is not part of its cluster yet");
                *progress = next;
            }
            changed
        });
    }

    /// The log index of the membership that this node knows; 0 if it knows none.
    fn membership_index(&self) -> u64 {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        metrics.membership_config.log_id().map_or(0, |id| id.index)
    }

    /// Whether the group knows this broker on this directory and no other. While it knows another,
    /// the leader is asked to go on with the replacement.
    async fn is_alone(&self) -> bool {
        let (member, others, leader) = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow();
            let membership = metrics.membership_config.membership();
            let node = self.config.node_id();
            // A new directory that was sent nothing but the leader's vote yet knows nobody.
            let member = membership.get_node(&node.0).is_some();
            (member, other_nodes(membership, node), metrics.current_leader)
        };
        let leader = leader.and_then(|node| RaftNodeId(node).broker());
        if let Some(leader) = leader.filter(|leader| !others.is_empty() && *leader != self.config.broker)
            && let Err(why) = self.join(leader).await
        {
            tracing::debug!(%leader, why, "the old directory is not replaced yet");
        }
        member && others.is_empty()
    }

    async fn ask_all(&self) -> Answers {
        let others = self.config.voters.keys().filter(|id| **id != self.config.broker);
        let mut asked = tokio::task::JoinSet::new();
        for id in others.copied() {
            let (peers, node, directory) = (self.peers.clone(), self.config.node_id(), self.config.directory);
            asked.spawn(async move {
                let Ok(channel) = peers.channel(id, Lane::Control) else {
                    return (id, Heard::Nothing);
                };
                let hello = pb::HelloRequest {
                    node_id: node.0,
                    directory_id: directory.as_bytes().to_vec().into(),
                };
                let mut client = RaftClient::new(channel);
                let answer = tokio::time::timeout(ASK_TIMEOUT, client.hello(hello)).await;
                match answer {
                    Ok(Ok(answer)) => (id, Heard::Hello(answer.into_inner())),
                    Ok(Err(status)) if is_of_other_cluster(&status) => {
                        (id, Heard::OtherCluster(status.message().to_owned()))
                    }
                    Ok(Err(status)) => {
                        tracing::debug!(broker = %id, %status, "a voter does not answer");
                        (id, Heard::Nothing)
                    }
                    Err(_) => (id, Heard::Nothing),
                }
            });
        }
        asked.join_all().await.into_iter().collect()
    }

    /// Asks the leader to be taken in. An error says why not yet.
    async fn join(&self, leader: BrokerId) -> Result<(), String> {
        let node = self.config.node_id();
        let channel = self.peers.channel(leader, Lane::Control);
        let channel = channel.map_err(|error| error.to_string())?;
        let join = pb::JoinRequest {
            node_id: node.0,
            address: self.config.peer_address.clone(),
        };
        let mut client = RaftClient::new(channel);
        match tokio::time::timeout(JOIN_TIMEOUT, client.join(join)).await {
            Ok(Ok(answer)) if answer.get_ref().accepted => Ok(()),
            Ok(Ok(_)) => Err("it does not lead any more".to_owned()),
            Ok(Err(status)) => Err(status.message().to_owned()),
            Err(_) => Err("it gives no answer".to_owned()),
        }
    }
}

/// For a node that was part of a cluster before, and knows a membership of a log index.
fn go_on(config: &MetadataConfig, membership_index: u64, answers: &Answers) -> Step {
    if let Some(step) = replaced(config, membership_index, answers) {
        return step;
    }
    let strangers: Vec<&String> = answers
        .values()
        .filter_map(|heard| match heard {
            Heard::OtherCluster(refusal) => Some(refusal),
            Heard::Hello(_) | Heard::Nothing => None,
        })
        .collect();
    if answers.is_empty() || answers.values().any(|heard| heard.hello().is_some()) {
        return Step::GoOn;
    }
    match strangers.first() {
        // One stranger alone may be the one that is wrong here.
        Some(refusal) if strangers.len() * 2 > config.voters.len() => Step::Refuse(FormError::OtherCluster {
            broker: config.broker,
            refusal: (*refusal).clone(),
        }),
        Some(refusal) => Step::Wait(format!("a voter of this cluster: {refusal}")),
        None => Step::Wait("another voter to answer".to_owned()),
    }
}

/// Whether another directory took this one's place, by what the voters know that is newer than what
/// this node knows. One alone may know of a change that never came about.
fn replaced(config: &MetadataConfig, membership_index: u64, answers: &Answers) -> Option<Step> {
    let me = config.node_id();
    let hellos = || answers.values().filter_map(Heard::hello);
    // Whoever lags behind may not have heard yet that this node was taken in.
    let newest = hellos().max_by_key(|answer| answer.membership_index)?;
    if newest.member_node_ids.contains(&me.0) {
        return None;
    }
    let successors: Vec<RaftNodeId> = hellos()
        .filter(|answer| {
            answer.membership_index > membership_index && !answer.member_node_ids.contains(&me.0)
        })
        .filter_map(|answer| {
            answer
                .member_node_ids
                .iter()
                .copied()
                .map(RaftNodeId)
                .find(|node| node.broker() == me.broker())
        })
        .collect();
    let known = *successors.first()?;
    Some(if successors.len() * 2 > config.voters.len() {
        Step::Refuse(FormError::Replaced {
            broker: config.broker,
            found: me,
            known,
        })
    } else {
        Step::Wait(format!(
            "more voters to answer: one of them knows this broker on another data directory (node {known})"
        ))
    })
}

/// Why a group can decide nothing, if too few of its voters are there on the directories that it
/// knows.
fn lost_majority(config: &MetadataConfig, voters: &[u64], answers: &Answers) -> Option<String> {
    let broker_of = |node: &u64| RaftNodeId(*node).broker();
    let brokers: BTreeSet<BrokerId> = voters.iter().filter_map(broker_of).collect();
    let answering = |broker: &BrokerId| answers.get(broker).and_then(Heard::hello);
    let here: BTreeSet<BrokerId> = brokers
        .iter()
        .copied()
        .filter(|broker| answering(broker).is_some_and(|answer| voters.contains(&answer.node_id)))
        .collect();
    if here.len() * 2 > brokers.len() {
        return None;
    }
    let missing = brokers.difference(&here).map(|broker| match answering(broker) {
        _ if *broker == config.broker => format!("{broker} (this one) and its directory is a new one"),
        Some(_) => format!("{broker} and its directory is a new one"),
        None => format!("{broker} and it does not answer"),
    });
    Some(format!(
        "a majority of the voters on the data directories that the cluster knows: it needs broker {}. Start those that are down, and put \
         the old directories back where they are new, until {} of {} are there; a cluster that lost more of them for good has lost \
         metadata that it acknowledged, and does not go on by itself",
        missing.collect::<Vec<_>>().join(", broker "),
        brokers.len() / 2 + 1,
        brokers.len(),
    ))
}

/// For a pristine node.
fn decide(config: &MetadataConfig, answers: &Answers) -> Step {
    let me = config.node_id();
    let members = |answer: &pb::HelloResponse| answer.member_node_ids.clone();
    let known: Vec<u64> = answers
        .values()
        .filter_map(Heard::hello)
        .flat_map(members)
        .collect();
    let leaders = || {
        let hellos = answers.values().filter_map(Heard::hello);
        hellos.filter_map(|answer| BrokerId::new(answer.leader))
    };
    let leader = leaders().find(|leader| *leader != config.broker);
    let leads_on_another = leaders().next().is_some();
    if known.contains(&me.0) {
        return Step::Wait("the metadata leader to send the log".to_owned());
    }
    if !known.is_empty() {
        let newest = answers
            .values()
            .filter_map(Heard::hello)
            .max_by_key(|answer| answer.membership_index);
        let voters = newest.map_or(&[][..], |answer| &answer.voter_node_ids);
        let lost = lost_majority(config, voters, answers);
        return match (lost, leader) {
            (Some(what), _) => Step::Wait(what),
            (None, Some(leader)) => Step::Join { leader },
            (None, None) if leads_on_another => Step::Wait(format!(
                "another broker to lead the metadata: to its voters broker {} leads, on another data directory; if that runs, stop one of the two",
                config.broker
            )),
            (None, None) => Step::Wait("a metadata leader, to join".to_owned()),
        };
    }
    if !config.voters.contains_key(&config.broker) {
        return Step::Wait("a cluster to join: no configured voter is part of one yet".to_owned());
    }
    let silent = answers
        .iter()
        .find(|(id, answer)| !answer.hello().is_some_and(|answer| fits(**id, answer)));
    if let Some((id, _)) = silent {
        let address = config.voters.get(id).map_or("", String::as_str);
        return Step::Wait(format!(
            "broker {id} at {address}: every configured voter must be there to form a cluster"
        ));
    }
    if config.voters.keys().next() != Some(&config.broker) {
        return Step::Wait("the broker with the lowest id to form the cluster".to_owned());
    }
    let others = answers
        .iter()
        .filter_map(|(id, answer)| Some((id, answer.hello()?.node_id)));
    let nodes = others.chain([(&config.broker, me.0)]);
    Step::Initialize(
        nodes
            .map(|(id, node)| (node, config.voters[id].clone()))
            .collect(),
    )
}

/// Whether a voter says that it is pristine, and is who it should be.
fn fits(id: BrokerId, answer: &pb::HelloResponse) -> bool {
    answer.pristine && RaftNodeId(answer.node_id).broker() == Some(id)
}

#[cfg(test)]
mod tests;
