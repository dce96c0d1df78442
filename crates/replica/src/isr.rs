//! Changes of the ISR that a leader asks for (R7).

use std::time::Duration;

use tidelog_types::{BrokerEpoch, BrokerId, ErrorCode, LeaderEpoch, PartitionEpoch, PartitionRegistration};

/// An ISR change to put to the metadata log: a compare-and-set on all the epochs it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IsrProposal {
    /// The proposing leader's epoch.
    pub leader_epoch: LeaderEpoch,
    /// The registration that it changes.
    pub partition_epoch: PartitionEpoch,
    /// The ISR wished for, each member with the broker epoch that the leader knows it by.
    pub isr: Vec<(BrokerId, BrokerEpoch)>,
}

/// What became of an [`IsrProposal`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IsrChangeOutcome {
    /// It is committed, and this is the registration that came of it: as proposed, unless a member
    /// is being drained.
    Committed(PartitionRegistration),
    /// The metadata log refused it.
    Rejected(ErrorCode),
    /// No answer, or one that says nothing about the log: it may yet be committed.
    Unknown,
}

/// The one proposal that may be in flight.
#[derive(Debug, Clone)]
pub(crate) struct InFlight {
    pub(crate) proposal: IsrProposal,
    /// Whether an earlier attempt's fate is unknown, so that a refusal of a later one proves
    /// nothing.
    pub(crate) uncertain: bool,
    /// When to send it again, while it is not on its way.
    pub(crate) retry_at: Option<Duration>,
}

impl InFlight {
    pub(crate) fn new(proposal: IsrProposal) -> Self {
        Self {
            proposal,
            uncertain: false,
            retry_at: None,
        }
    }
}
