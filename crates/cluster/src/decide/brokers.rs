//! Brokers: registered, fenced, unfenced, drained.

use std::sync::Arc;

use tidelog_types::mutant::{self, Mutant};
use tidelog_types::{BrokerEpoch, BrokerId, ErrorCode, PartitionError};

use super::{Decided, partition_change, registered, replicas_of};
use crate::broker::BrokerImage;
use crate::change::Change;
use crate::command::RegisterBroker;
use crate::ids::BrokerIncarnation;
use crate::image::{ClusterImage, MetadataIndex};
use crate::outcome::Accepted;

/// Most brokers a cluster may register.
pub(crate) const MAX_BROKERS: usize = 1000;
/// Most client listeners a broker may have.
const MAX_LISTENERS: usize = 16;
/// Longest address or listener name, bytes: a DNS name and a port.
const MAX_ADDRESS_BYTES: usize = 262;

/// A broker comes up with a new epoch, fenced. That takes its leaderships and so bumps their
/// epochs: it never resumes one (R3). On a new directory it also leaves every ELR, as it holds
/// nothing any more.
pub(super) fn register(image: &ClusterImage, index: MetadataIndex, register: &RegisterBroker) -> Decided {
    check_registration(image, register)?;
    let directory_lost = image
        .broker(register.broker)
        .is_some_and(|known| known.directory != register.directory);
    let broker = BrokerImage {
        id: register.broker,
        epoch: BrokerEpoch(index.0),
        directory: register.directory,
        fenced: true,
        draining: false,
        peer_address: register.peer_address.clone(),
        listeners: register.listeners.clone(),
        feature_level: register.feature_level,
    };
    let epoch = broker.epoch;
    if mutant::is_on(Mutant::ResumeOldEpoch) && !directory_lost {
        let fenced = image.broker(broker.id).is_none_or(|known| known.fenced);
        let (changes, _) = with_broker(image, BrokerImage { fenced, ..broker });
        return Ok((changes, Accepted::BrokerRegistered { epoch }));
    }
    let changes = take_out(image, broker, directory_lost);
    Ok((changes, Accepted::BrokerRegistered { epoch }))
}

fn check_registration(image: &ClusterImage, register: &RegisterBroker) -> Result<(), PartitionError> {
    let invalid = |message| Err(PartitionError::new(ErrorCode::InvalidRequest, message));
    let id = register.broker;
    if image.broker(id).is_none() && image.brokers.len() >= MAX_BROKERS {
        return invalid(format!(
            "broker {id} is one too many: a cluster has at most {MAX_BROKERS}"
        ));
    }
    if register.listeners.len() > MAX_LISTENERS {
        return invalid(format!(
            "broker {id} has {} listeners; at most {MAX_LISTENERS} are allowed",
            register.listeners.len()
        ));
    }
    let texts = register
        .listeners
        .iter()
        .flat_map(|listener| [&listener.name, &listener.address]);
    if texts
        .chain([&register.peer_address])
        .any(|text| text.len() > MAX_ADDRESS_BYTES)
    {
        return invalid(format!(
            "broker {id} has an address or a listener name of more than {MAX_ADDRESS_BYTES} bytes"
        ));
    }
    match image.broker(id) {
        Some(known) if known.feature_level > register.feature_level => invalid(format!(
            "broker {id} speaks feature level {}, but ran with {} before: its disk may hold what this version cannot read; \
             start it with a version at least as new",
            register.feature_level, known.feature_level
        )),
        _ => Ok(()),
    }
}

/// A broker is out: it leaves every ISR, and others lead.
pub(super) fn fence(image: &ClusterImage, incarnation: BrokerIncarnation) -> Decided {
    let broker = registered(image, incarnation)?;
    if broker.fenced {
        return Ok((Vec::new(), Accepted::BrokerFenced));
    }
    let changes = take_out(
        image,
        BrokerImage {
            fenced: true,
            ..broker.clone()
        },
        false,
    );
    Ok((changes, Accepted::BrokerFenced))
}

/// The changes that register `broker`, which is fenced, and take it out of every ISR.
fn take_out(image: &ClusterImage, broker: BrokerImage, directory_lost: bool) -> Vec<Change> {
    let id = broker.id;
    let (mut changes, next) = with_broker(image, broker);
    for (_, partition, mut election) in replicas_of(image, id) {
        election.lost = directory_lost.then_some(id);
        changes.extend(partition_change(partition, election.without(id), &next));
    }
    changes
}

/// A broker is in: it leads what waited for it.
pub(super) fn unfence(image: &ClusterImage, incarnation: BrokerIncarnation) -> Decided {
    let broker = registered(image, incarnation)?;
    if !broker.fenced {
        return Ok((Vec::new(), Accepted::BrokerUnfenced));
    }
    if broker.draining {
        return Err(PartitionError::new(
            ErrorCode::InvalidRequest,
            format!(
                "broker {} was drained to stop; it must register anew before it serves",
                broker.id
            ),
        ));
    }
    let id = broker.id;
    let (mut changes, next) = with_broker(
        image,
        BrokerImage {
            fenced: false,
            ..broker.clone()
        },
    );
    for (_, partition, election) in replicas_of(image, id) {
        if election.registration.leader.is_none() {
            changes.extend(partition_change(partition, election, &next));
        }
    }
    Ok((changes, Accepted::BrokerUnfenced))
}

/// A broker is about to stop: wherever another ISR member is active, that one leads and the broker
/// leaves the ISR, so that nothing waits for it when it is gone (R11).
pub(super) fn drain(image: &ClusterImage, incarnation: BrokerIncarnation) -> Decided {
    let broker = registered(image, incarnation)?;
    let id = broker.id;
    let (mut changes, next) = with_broker(
        image,
        BrokerImage {
            draining: true,
            ..broker.clone()
        },
    );
    if broker.draining {
        changes.clear();
    }
    let mut still_leading = 0;
    for (_, partition, election) in replicas_of(image, id) {
        let led = election.registration.leader;
        let change = election
            .registration
            .isr
            .contains(&id)
            .then(|| partition_change(partition, election, &next))
            .flatten();
        let leader = match &change {
            Some(Change::Partition { registration, .. }) => registration.leader,
            _ => led,
        };
        still_leading += u32::from(leader == Some(id));
        changes.extend(change);
    }
    Ok((changes, Accepted::BrokerDrained { still_leading }))
}

/// The change of one broker, and the brokers as they are after it: what elections look at.
fn with_broker(image: &ClusterImage, broker: BrokerImage) -> (Vec<Change>, ClusterImage) {
    let change = Change::Broker(Arc::new(broker));
    let mut next = image.brokers_only();
    next.replay(image.index, std::slice::from_ref(&change));
    (vec![change], next)
}

/// The brokers that may hold new replicas, by id.
pub(super) fn active(image: &ClusterImage) -> Vec<BrokerId> {
    image
        .brokers
        .values()
        .filter(|broker| broker.is_active())
        .map(|broker| broker.id)
        .collect()
}
