//! A broker, as the cluster knows it.

use tidelog_types::{BrokerEpoch, BrokerId, DirectoryId};

use crate::ids::Listener;

/// A broker as it was last registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerImage {
    pub id: BrokerId,
    /// The log index of its registration.
    pub epoch: BrokerEpoch,
    /// Its data directory.
    pub directory: DirectoryId,
    /// Whether it is out: registered but not yet caught up, dead, or silent.
    pub fenced: bool,
    /// Whether it is about to stop, and gets no leadership or ISR membership any more.
    pub draining: bool,
    /// Where other brokers reach it, "host:port".
    pub peer_address: String,
    /// Where clients reach it.
    pub listeners: Vec<Listener>,
    /// The newest protocol and storage features that it speaks.
    pub feature_level: u32,
}

impl BrokerImage {
    /// Whether it may lead and join an ISR.
    pub const fn is_active(&self) -> bool {
        !self.fenced && !self.draining
    }

    /// Its advertised address on the client listener of that name.
    pub fn listener_address(&self, name: &str) -> Option<&str> {
        self.listeners
            .iter()
            .find(|listener| listener.name == name)
            .map(|listener| listener.address.as_str())
    }
}
