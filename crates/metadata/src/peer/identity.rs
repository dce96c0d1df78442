//! Who calls whom, as metadata of every call between brokers.

use std::sync::{Arc, OnceLock};

use tidelog_proto::keys::{CLUSTER_ID, OTHER_CLUSTER};
use tidelog_types::{BrokerId, ClusterId};
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::service::Interceptor;
use tonic::{Request, Status};
use uuid::Uuid;

const FROM: &str = "tidelog-from";
const TO: &str = "tidelog-to";

/// Whether a call was refused because the called broker belongs to another cluster.
pub(crate) fn is_of_other_cluster(status: &Status) -> bool {
    status.metadata().contains_key(OTHER_CLUSTER)
}

/// Puts this broker's identity on calls to one other.
#[derive(Debug, Clone)]
pub struct Identity {
    pub(super) cluster_id: Arc<OnceLock<ClusterId>>,
    pub(super) from: BrokerId,
    pub(super) to: BrokerId,
}

impl Interceptor for Identity {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let metadata = request.metadata_mut();
        metadata.insert(FROM, MetadataValue::from(self.from.get()));
        metadata.insert(TO, MetadataValue::from(self.to.get()));
        // Before the cluster has formed there is no id to carry.
        if let Some(id) = self.cluster_id.get() {
            let text = id.to_string();
            let value = text
                .parse()
                .map_err(|_| Status::internal("a cluster id is not ASCII"))?;
            metadata.insert(CLUSTER_ID, value);
        }
        Ok(request)
    }
}

/// Who is calling, as the check found it: an extension of every request that passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerRequest {
    /// The calling broker.
    pub from: BrokerId,
}

impl PeerRequest {
    /// The caller of a request that passed the check.
    pub fn of<T>(request: &Request<T>) -> Result<Self, Status> {
        let known = request.extensions().get::<Self>().copied();
        known
            .ok_or_else(|| Status::internal("a service of the peer listener runs without its identity check"))
    }
}

/// Refuses calls that are meant for another broker or come from another cluster.
#[derive(Debug, Clone)]
pub struct IdentityCheck {
    pub(super) cluster_id: Arc<OnceLock<ClusterId>>,
    pub(super) me: BrokerId,
}

impl Interceptor for IdentityCheck {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let metadata = request.metadata();
        let from = broker(metadata, FROM)?;
        let to = broker(metadata, TO)?;
        if to != self.me {
            return Err(Status::failed_precondition(format!(
                "broker {from} called broker {to} but reached broker {}; check the addresses in --cluster",
                self.me
            )));
        }
        if let (Some(theirs), Some(ours)) = (cluster(metadata)?, self.cluster_id.get())
            && theirs != *ours
        {
            let mut refusal = Status::failed_precondition(format!(
                "broker {from} belongs to cluster {theirs}, broker {} to cluster {ours}; check the addresses in --cluster, and \
                 that no data directory comes from another cluster",
                self.me
            ));
            refusal
                .metadata_mut()
                .insert(OTHER_CLUSTER, MetadataValue::from_static("true"));
            return Err(refusal);
        }
        request.extensions_mut().insert(PeerRequest { from });
        Ok(request)
    }
}

/// Whether a call says that a broker makes it; a client's does not.
pub fn is_from_broker<T>(request: &Request<T>) -> bool {
    request.metadata().contains_key(FROM)
}

fn broker(metadata: &MetadataMap, key: &'static str) -> Result<BrokerId, Status> {
    let text = metadata.get(key).and_then(|value| value.to_str().ok());
    text.and_then(|text| text.parse().ok())
        .and_then(BrokerId::new)
        .ok_or_else(|| {
            Status::failed_precondition(format!(
                "the call has no valid {key}: this listener is for brokers; clients use a client listener"
            ))
        })
}

fn cluster(metadata: &MetadataMap) -> Result<Option<ClusterId>, Status> {
    let Some(value) = metadata.get(CLUSTER_ID) else {
        return Ok(None);
    };
    let id = value.to_str().ok().and_then(|text| Uuid::parse_str(text).ok());
    id.map(|id| Some(ClusterId(id)))
        .ok_or_else(|| Status::failed_precondition(format!("the call has no valid {CLUSTER_ID}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(id: Option<u8>) -> Arc<OnceLock<ClusterId>> {
        let lock = OnceLock::new();
        if let Some(id) = id {
            lock.get_or_init(|| ClusterId::from_slice(&[id; 16]).unwrap());
        }
        Arc::new(lock)
    }

    fn call(to: u32, theirs: Option<u8>, me: u32, ours: Option<u8>) -> Result<Request<()>, Status> {
        let id = |id| BrokerId::new(id).unwrap();
        let mut sender = Identity {
            cluster_id: lock(theirs),
            from: id(1),
            to: id(to),
        };
        let mut check = IdentityCheck {
            cluster_id: lock(ours),
            me: id(me),
        };
        check.call(sender.call(Request::new(())).unwrap())
    }

    #[test]
    fn calls_reach_only_the_broker_and_the_cluster_they_are_meant_for() {
        for (theirs, ours) in [(None, None), (Some(1), None), (None, Some(1)), (Some(1), Some(1))] {
            let passed = call(2, theirs, 2, ours).unwrap();
            assert_eq!(PeerRequest::of(&passed).unwrap().from.get(), 1);
        }
        let wrong_broker = call(2, None, 3, None).unwrap_err();
        assert_eq!(wrong_broker.code(), tonic::Code::FailedPrecondition);
        assert!(
            wrong_broker.message().contains("reached broker 3"),
            "{wrong_broker}"
        );
        let wrong_cluster = call(2, Some(1), 2, Some(2)).unwrap_err();
        assert_eq!(wrong_cluster.code(), tonic::Code::FailedPrecondition);
        assert!(wrong_cluster.message().contains("cluster"), "{wrong_cluster}");
        assert!(is_of_other_cluster(&wrong_cluster) && !is_of_other_cluster(&wrong_broker));
    }

    #[test]
    fn a_client_that_strays_to_the_peer_listener_is_told_so() {
        let mut check = IdentityCheck {
            cluster_id: lock(None),
            me: BrokerId::new(1).unwrap(),
        };
        let stray = check.call(Request::new(())).unwrap_err();
        assert!(stray.message().contains("for brokers"), "{stray}");
    }
}
