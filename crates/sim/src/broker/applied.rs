//! The metadata that a process has applied: the image, how far it is, and a digest of all of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidelog_cluster::broker::BrokerImage;
use tidelog_cluster::image::TopicImage;
use tidelog_cluster::{ClusterImage, MetadataIndex};
use tidelog_types::{BrokerId, TopicId};

use crate::context::Context;
use crate::raft::{Saved, Snapshot};
use crate::recorder::{digest_of, digest_onto};

/// Fewest and most entries that are applied between two snapshots.
const SNAPSHOT_EVERY: (u64, u64) = (10, 80);

/// The state after an index.
#[derive(Debug)]
pub(crate) struct Applied {
    pub(crate) image: Arc<ClusterImage>,
    pub(crate) index: u64,
    snapshot_at: u64,
    digests: Digests,
}

/// Digests of an image's parts, so that only what changed is looked at anew.
#[derive(Debug, Default)]
struct Digests {
    brokers: BTreeMap<BrokerId, (Arc<BrokerImage>, u64)>,
    topics: BTreeMap<TopicId, (Arc<TopicImage>, u64)>,
}

impl Applied {
    /// What a snapshot on the disk holds. The entries behind it are applied like any others.
    pub(super) fn restored(saved: &Saved, context: &mut Context) -> Self {
        let mut image = ClusterImage::default();
        image.replay(MetadataIndex(saved.snapshot.index), &saved.snapshot.changes);
        Self {
            image: Arc::new(image),
            index: saved.snapshot.index,
            snapshot_at: saved.snapshot.index + context.random.between(SNAPSHOT_EVERY.0, SNAPSHOT_EVERY.1),
            digests: Digests::default(),
        }
    }

    /// A snapshot of the image, now and then.
    pub(super) fn snapshot_if_due(&mut self, context: &mut Context) -> Option<Snapshot> {
        if self.index < self.snapshot_at {
            return None;
        }
        self.snapshot_at = self.index + context.random.between(SNAPSHOT_EVERY.0, SNAPSHOT_EVERY.1);
        Some(Snapshot {
            index: self.index,
            changes: self.image.to_changes(),
        })
    }

    /// A digest of the whole image (M26).
    pub(super) fn digest(&mut self) -> u64 {
        let image = &*self.image;
        let mut digest = digest_of(&(image.cluster_id, image.index, image.next_producer_id));
        digest = parts(digest, &mut self.digests.brokers, &image.brokers);
        let topics = image.topics().map(|topic| (topic.id, Arc::clone(topic)));
        parts(digest, &mut self.digests.topics, &topics.collect())
    }
}

/// The digest of parts on top of another. What is known of a part holds for as long as it is the
/// very same.
fn parts<K: Ord + Copy, V: std::fmt::Debug>(
    before: u64,
    known: &mut BTreeMap<K, (Arc<V>, u64)>,
    parts: &BTreeMap<K, Arc<V>>,
) -> u64 {
    known.retain(|key, _| parts.contains_key(key));
    let mut digest = before;
    for (key, part) in parts {
        let fresh = || (Arc::clone(part), digest_of(part));
        let known = known.entry(*key).or_insert_with(fresh);
        if !Arc::ptr_eq(&known.0, part) {
            *known = fresh();
        }
        digest = digest_onto(digest, &known.1);
    }
    digest
}

#[cfg(test)]
mod tests {
    use tidelog_cluster::Change;
    use tidelog_types::{BrokerEpoch, DirectoryId, ProducerId};

    use super::*;
    use crate::config::Config;
    use crate::random::Random;
    use crate::recorder::{Options, Recorder};

    fn broker(id: u32, fenced: bool) -> Change {
        Change::Broker(Arc::new(BrokerImage {
            id: BrokerId::new(id).unwrap(),
            epoch: BrokerEpoch(u64::from(id)),
            directory: DirectoryId::from_slice(&[7; 16]).unwrap(),
            fenced,
            draining: false,
            peer_address: String::new(),
            listeners: Vec::new(),
            feature_level: 1,
        }))
    }

    fn replay(applied: &mut Applied, change: Change) -> u64 {
        applied.index += 1;
        Arc::make_mut(&mut applied.image).replay(MetadataIndex(applied.index), &[change]);
        applied.digest()
    }

    #[test]
    fn a_digest_is_of_all_that_an_image_holds_and_a_snapshot_brings_it_back() {
        let mut random = Random::new(1);
        let config = Config::draw(&mut random);
        let mut context = Context::new(random, config, Recorder::new(Options::default()));
        let mut saved = Saved::default();
        let mut applied = Applied::restored(&saved, &mut context);
        replay(&mut applied, broker(1, false));
        let before = replay(&mut applied, broker(2, false));
        saved.snapshot = Snapshot {
            index: applied.index,
            changes: applied.image.to_changes(),
        };
        assert_eq!(Applied::restored(&saved, &mut context).digest(), before);
        let after = replay(&mut applied, Change::NextProducerId(ProducerId(5)));
        let mut restored = Applied::restored(&saved, &mut context);
        assert_eq!(
            replay(&mut restored, Change::NextProducerId(ProducerId(5))),
            after,
            "what comes behind the snapshot is replayed"
        );
        // The same change upon another image: what it leaves as it was counts, too.
        saved.snapshot.changes[0] = broker(1, true);
        let mut other = Applied::restored(&saved, &mut context);
        assert_ne!(replay(&mut other, Change::NextProducerId(ProducerId(5))), after);
    }
}
