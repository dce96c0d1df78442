//! Ids for idempotent producers, out of blocks that the metadata log reserves for this broker.

use std::time::Duration;

use tidelog_cluster::command::Command;
use tidelog_cluster::ids::BrokerIncarnation;
use tidelog_cluster::outcome::Accepted;
use tidelog_metadata::{Metadata, ProposeError};
use tidelog_proto::v1;
use tidelog_types::{ErrorCode, PartitionError, ProducerId};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};

use super::proposal_refused;

/// How long reserving a block may take, if its caller waits that long.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);

/// Hands out producer ids, each once in the cluster's life. What is left of a block when the broker
/// stops is never used.
pub struct ProducerIds {
    metadata: Metadata,
    block: Mutex<std::ops::Range<u64>>,
}

impl ProducerIds {
    /// With no block yet.
    pub fn new(metadata: Metadata) -> Self {
        Self {
            metadata,
            block: Mutex::new(0..0),
        }
    }

    /// The next id; reserves a block where the last one is used up.
    pub async fn next(
        &self,
        broker: BrokerIncarnation,
        within: Duration,
    ) -> Result<ProducerId, PartitionError> {
        let deadline = Instant::now() + within;
        // The lock is held while a block is reserved, so that a crowd of new producers reserves one
        // block and not one each.
        let Ok(mut block) = timeout_at(deadline, self.block.lock()).await else {
            return Err(proposal_refused(ProposeError::NoLeader(within)));
        };
        if let Some(id) = block.next() {
            return Ok(ProducerId(id));
        }
        let command = Command::AllocateProducerIds(broker);
        let outcome = self
            .metadata
            .propose(command, deadline.saturating_duration_since(Instant::now()))
            .await
            .map_err(proposal_refused)?;
        let Accepted::ProducerIdsAllocated { first, count } = outcome.result? else {
            let text = "the metadata log answered a request for producer ids with something else";
            return Err(PartitionError::new(ErrorCode::UnknownServerError, text));
        };
        *block = first.0 + 1..first.0 + count;
        Ok(first)
    }
}

/// The next epoch of an id that the asker already has; `None` where a new id is wanted, or the old
/// one has no epoch left.
///
/// Raising an epoch needs no agreement: the partitions fence the older one when they see the newer
/// (KIP-360). `given_away` is the first id that was not given away as far as this broker knows: one
/// from there on belongs to somebody else, later.
pub(super) fn raised(
    request: &v1::InitProducerRequest,
    given_away: ProducerId,
) -> Result<Option<v1::InitProducerResponse>, PartitionError> {
    let (producer_id, epoch) = match (request.producer_id, request.producer_epoch) {
        (None, None) => return Ok(None),
        (Some(id), Some(epoch)) => (id, epoch),
        (id, _) => {
            let only = if id.is_some() { "id" } else { "epoch" };
            let text = format!(
                "a producer's next epoch needs its id and its epoch, and this request has its {only} only: give both, or neither for \
                 a new id"
            );
            return Err(PartitionError::new(ErrorCode::InvalidRequest, text));
        }
    };
    let Some(epoch) = i16::try_from(epoch).ok() else {
        let text = format!(
            "producer epoch {epoch} is out of its range, which ends at {}",
            i16::MAX
        );
        return Err(PartitionError::new(ErrorCode::InvalidRequest, text));
    };
    if producer_id >= given_away.0 {
        let text = format!(
            "producer id {producer_id} was never given out, as far as this broker knows: ask without an id for a new one"
        );
        return Err(PartitionError::new(ErrorCode::UnknownProducerId, text));
    }
    Ok(epoch.checked_add(1).map(|next| v1::InitProducerResponse {
        error: None,
        producer_id,
        producer_epoch: next as u32,
    }))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tidelog_metadata::peer::PeerPool;
    use tidelog_metadata::{MetadataConfig, RaftConfig};
    use tidelog_types::{BrokerEpoch, BrokerId, DirectoryId};
    use uuid::Uuid;

    use super::*;

    /// Of the voters one runs: nobody leads.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn without_a_metadata_leader_each_caller_is_refused_in_its_own_time() {
        let folder = tempfile::tempdir().unwrap();
        let id = |broker| BrokerId::new(broker).unwrap();
        let voters: BTreeMap<_, _> = (1..=3).map(|at| (id(at), format!("127.0.0.1:{at}"))).collect();
        let config = MetadataConfig {
            broker: id(1),
            directory: DirectoryId(Uuid::new_v4()),
            cluster: None,
            path: folder.path().join("metadata"),
            voters: voters.clone(),
            peer_address: voters[&id(1)].clone(),
            raft: RaftConfig::default(),
        };
        let peers = PeerPool::new(id(1), voters);
        let metadata = Metadata::start(config, peers).await.unwrap();
        let ids = ProducerIds::new(metadata.clone());
        let broker = BrokerIncarnation {
            broker: id(1),
            epoch: BrokerEpoch(1),
        };
        let patient = ids.next(broker, Duration::from_secs(30));
        let hasty = async {
            // The other holds the lock by now, and would for all of its time.
            tokio::task::yield_now().await;
            ids.next(broker, Duration::from_millis(100)).await
        };
        let refused = tokio::select! {
            biased;
            id = patient => panic!("{id:?} comes first"),
            refused = hasty => refused.unwrap_err(),
        };
        assert_eq!(refused.code, ErrorCode::RequestTimedOut);
        let refused = ids.next(broker, Duration::from_millis(100)).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::RequestTimedOut);
        metadata.shutdown().await;
    }

    fn ask(producer_id: Option<u64>, producer_epoch: Option<u32>) -> Result<Option<(u64, u32)>, ErrorCode> {
        let request = v1::InitProducerRequest {
            producer_id,
            producer_epoch,
        };
        match raised(&request, ProducerId(1000)) {
            Ok(raised) => Ok(raised.map(|raised| (raised.producer_id, raised.producer_epoch))),
            Err(error) => Err(error.code),
        }
    }

    #[test]
    fn only_the_epoch_of_an_id_that_was_given_out_is_raised() {
        assert_eq!(ask(None, None), Ok(None));
        assert_eq!(ask(Some(0), Some(0)), Ok(Some((0, 1))));
        assert_eq!(ask(Some(999), Some(32_766)), Ok(Some((999, 32_767))));
        // No epoch is left: a new id.
        assert_eq!(ask(Some(999), Some(32_767)), Ok(None));
        for epoch in [32_768, 65_535, u32::MAX] {
            assert_eq!(
                ask(Some(999), Some(epoch)),
                Err(ErrorCode::InvalidRequest),
                "{epoch}"
            );
        }
        for id in [1000, i64::MAX as u64, 1 << 63, u64::MAX] {
            assert_eq!(ask(Some(id), Some(0)), Err(ErrorCode::UnknownProducerId), "{id}");
        }
        assert_eq!(ask(Some(5), None), Err(ErrorCode::InvalidRequest));
        assert_eq!(ask(None, Some(5)), Err(ErrorCode::InvalidRequest));
    }
}
