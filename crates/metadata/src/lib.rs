//! Cluster metadata, replicated by Raft.
//!
//! openraft carries the commands of [`tidelog_cluster`]; this crate is what stands around it: the
//! log and the state on a RocksDB of their own, the calls between nodes, and how a node finds its
//! cluster.
//!
//! ```no_run
//! # async fn start(config: tidelog_metadata::MetadataConfig) -> Result<(), Box<dyn std::error::Error>> {
//! use tidelog_metadata::Metadata;
//! use tidelog_metadata::peer::PeerPool;
//!
//! let peers = PeerPool::new(config.broker, config.voters.clone());
//! let metadata = Metadata::start(config, peers).await?;
//! let peer_services = tonic::transport::Server::builder()
//!     .add_service(metadata.raft_service())
//!     .add_service(metadata.propose_service());
//! // … serve them on the peer listener, then:
//! metadata.formed().await?;
//! let image = metadata.image();
//! # drop((peer_services, image));
//! # Ok(())
//! # }
//! ```
//!
//! - [`handle`]: [`Metadata`], which the rest of the broker holds
//! - [`mod@propose`]: commands handed to the leader, wherever it is
//! - [`peer`]: channels between brokers, with an identity on every call
//! - [`forming`]: the first start of a cluster, emptied disks, learners; `taking_in`: the leader's
//!   side of it
//! - [`service`]: what the peer listener serves
//! - `store`: log, vote, state and snapshots on disk
//! - `codec`: protobuf, on disk and between brokers
//! - `network`, `elect`, `contact`: Raft's calls, and elections when the leader's process is gone

mod codec;
mod config;
mod contact;
mod elect;
pub mod forming;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
pub mod handle;
mod membership;
mod network;
mod node_id;
pub mod peer;
pub mod propose;
mod raft_types;
pub mod service;
mod store;
mod taking_in;

#[cfg(test)]
mod tests;

pub use config::{MetadataConfig, RaftConfig};
pub use forming::{FormError, Formation};
pub use handle::{Metadata, MetadataLeader, StartError};
pub use node_id::RaftNodeId;
pub use propose::ProposeError;
pub use store::DbError;
