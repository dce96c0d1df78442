//! Whether a call is meant for this cluster, and for this listener.
//!
//! Addresses outlive clusters: a client whose cluster is gone may reach another one at the address
//! it knows. So clients say on every call which cluster they mean, once they know, and whoever
//! belongs to another one refuses (Kafka's KIP-1242).

use std::sync::Arc;

use tidelog_metadata::peer::PeerPool;
use tidelog_proto::keys::{CLUSTER_ID, NOT_FOR_CLIENTS, OTHER_CLUSTER};
use tidelog_types::ClusterId;
use tonic::metadata::MetadataValue;
use tonic::service::Interceptor;
use tonic::{Request, Status};
use uuid::Uuid;

/// Refuses calls that are meant for another cluster. One that names none passes, and so does every
/// call until this broker is part of a cluster: it has nothing to serve then.
#[derive(Clone)]
pub struct MeantForThisCluster {
    ours: Arc<dyn Fn() -> Option<ClusterId> + Send + Sync>,
    /// The broker, as clients know it.
    broker: Arc<str>,
}

impl MeantForThisCluster {
    /// For a listener that clients are told to reach at this address.
    pub fn new(peers: PeerPool, broker: tidelog_types::BrokerId, advertised: &str) -> Self {
        Self {
            ours: Arc::new(move || peers.cluster_id()),
            broker: format!("broker {broker} at {advertised}").into(),
        }
    }
}

impl Interceptor for MeantForThisCluster {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let Some(named) = request.metadata().get(CLUSTER_ID) else {
            return Ok(request);
        };
        let theirs = named.to_str().ok().and_then(|text| Uuid::parse_str(text).ok());
        let Some(theirs) = theirs.map(ClusterId) else {
            return Err(Status::invalid_argument(format!(
                "{CLUSTER_ID} is not the id of a cluster, which is a UUID as text"
            )));
        };
        match (self.ours)() {
            Some(ours) if ours != theirs => Err(self.refusal(ours, theirs)),
            _ => Ok(request),
        }
    }
}

/// The refusal of a client's call at a listener that serves no clients.
pub fn not_for_clients(sentence: impl Into<String>) -> Status {
    let mut refusal = Status::unimplemented(sentence);
    refusal
        .metadata_mut()
        .insert(NOT_FOR_CLIENTS, MetadataValue::from_static("true"));
    refusal
}

impl MeantForThisCluster {
    fn refusal(&self, ours: ClusterId, theirs: ClusterId) -> Status {
        let mut refusal = Status::failed_precondition(format!(
            "{} belongs to cluster {ours}, and the call is meant for cluster {theirs}: check the client's addresses; if the cluster was \
             replaced on purpose, start the client anew",
            self.broker
        ));
        refusal
            .metadata_mut()
            .insert(OTHER_CLUSTER, MetadataValue::from_static("true"));
        refusal
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    fn id(byte: u8) -> ClusterId {
        ClusterId::from_slice(&[byte; 16]).unwrap()
    }

    fn call(ours: Option<ClusterId>, named: Option<&str>) -> Result<Request<()>, Status> {
        let mut check = MeantForThisCluster {
            ours: Arc::new(move || ours),
            broker: "broker 2 at two:7171".into(),
        };
        let mut request = Request::new(());
        if let Some(named) = named {
            request.metadata_mut().insert(CLUSTER_ID, named.parse().unwrap());
        }
        check.call(request)
    }

    #[test]
    fn a_call_that_is_meant_for_another_cluster_is_refused_with_both_names() {
        let named = id(1).to_string();
        assert!(call(Some(id(1)), Some(&named)).is_ok());
        assert!(call(Some(id(1)), None).is_ok());
        assert!(call(None, Some(&named)).is_ok());
        let refused = call(Some(id(2)), Some(&named)).unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition);
        assert!(refused.metadata().contains_key(OTHER_CLUSTER));
        for word in [named.as_str(), &id(2).to_string(), "two:7171"] {
            assert!(refused.message().contains(word), "{refused}");
        }
        let malformed = call(Some(id(2)), Some("mine")).unwrap_err();
        assert_eq!(malformed.code(), Code::InvalidArgument);
    }
}
