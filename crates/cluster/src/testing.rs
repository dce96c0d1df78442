//! Images with brokers in them, for tests.

use std::sync::Arc;

use tidelog_types::{BrokerEpoch, BrokerId, DirectoryId};

use crate::broker::BrokerImage;
use crate::change::Change;
use crate::ids::BrokerIncarnation;
use crate::image::{ClusterImage, MetadataIndex};

/// A broker in a registration.
pub(crate) fn incarnation(broker: u32, epoch: u64) -> BrokerIncarnation {
    BrokerIncarnation {
        broker: BrokerId::new(broker).unwrap(),
        epoch: BrokerEpoch(epoch),
    }
}

/// The metadata up to an index, with these brokers, each fenced or not.
pub(crate) fn image(index: u64, brokers: &[(BrokerIncarnation, bool)]) -> ClusterImage {
    let broker = |(incarnation, fenced): &(BrokerIncarnation, bool)| {
        Change::Broker(Arc::new(BrokerImage {
            id: incarnation.broker,
            epoch: incarnation.epoch,
            directory: DirectoryId::from_slice(&[7; 16]).unwrap(),
            fenced: *fenced,
            draining: false,
            peer_address: String::new(),
            listeners: Vec::new(),
            feature_level: 1,
        }))
    };
    let changes: Vec<_> = brokers.iter().map(broker).collect();
    let mut image = ClusterImage::default();
    image.replay(MetadataIndex(index), &changes);
    image
}
