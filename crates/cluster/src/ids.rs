//! How a broker is named: one registration of it, and its addresses for clients.

use tidelog_types::{BrokerEpoch, BrokerId};

/// One registration of a broker: the compare-and-set of everything that is decided about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BrokerIncarnation {
    pub broker: BrokerId,
    /// The epoch of its registration.
    pub epoch: BrokerEpoch,
}

/// A client listener, as it is advertised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    pub name: String,
    /// "host:port".
    pub address: String,
}
