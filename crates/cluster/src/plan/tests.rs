//! Plans for broker 1, whose replicas the tests name.

use std::collections::BTreeSet;

use tidelog_types::{LeaderEpoch, PartitionEpoch, PartitionIndex, PartitionRegistration, TopicName};

use super::*;
use crate::change::Change;
use crate::configs::TopicConfigs;
use crate::image::MetadataIndex;
use crate::testing::{image, incarnation};

const REGISTERED: BrokerEpoch = BrokerEpoch(5);

fn local() -> BrokerId {
    BrokerId::new(1).unwrap()
}

fn topic(number: u8) -> TopicId {
    TopicId::from_slice(&[number; 16]).unwrap()
}

fn partition(number: u8) -> TopicIdPartition {
    TopicIdPartition {
        topic_id: topic(number),
        partition: PartitionIndex(0),
    }
}

/// Brokers 1 and 2, unfenced, and no topic.
fn brokers() -> ClusterImage {
    image(5, &[(incarnation(1, 5), false), (incarnation(2, 2), false)])
}

/// The image one index later, with a topic of one partition on these brokers.
fn with_topic(mut image: ClusterImage, number: u8, replicas: &[u32]) -> ClusterImage {
    let replicas: Vec<_> = replicas.iter().filter_map(|id| BrokerId::new(*id)).collect();
    let name: TopicName = format!("topic-{number}").parse().unwrap();
    let made = Change::Topic {
        topic_id: topic(number),
        name,
        configs: TopicConfigs::validated(BTreeMap::new(), false).unwrap(),
    };
    let registration = PartitionRegistration {
        isr: replicas.clone(),
        leader: replicas.first().copied(),
        replicas,
        elr: Vec::new(),
        last_known_leader: None,
        leader_epoch: LeaderEpoch(0),
        partition_epoch: PartitionEpoch(0),
        min_insync_replicas: 1,
    };
    let placed = Change::Partition {
        partition: partition(number),
        registration,
        unclean: false,
    };
    image.replay(MetadataIndex(image.index.0 + 1), &[made, placed]);
    image
}

fn without_topic(mut image: ClusterImage, number: u8) -> ClusterImage {
    image.replay(
        MetadataIndex(image.index.0 + 1),
        &[Change::TopicDeleted(topic(number))],
    );
    image
}

/// What was applied after these images.
fn applied(images: &[&ClusterImage]) -> Applied {
    let mut applied = Applied::default();
    for image in images {
        let plan = applied.plan(image, local(), Some(REGISTERED), |_| true).unwrap();
        applied.done(Arc::new((*image).clone()), &plan);
    }
    applied
}

fn plan(applied: &Applied, image: &ClusterImage, existing: &[u8]) -> Option<Plan> {
    let existing: BTreeSet<_> = existing.iter().map(|number| partition(*number)).collect();
    applied.plan(image, local(), Some(REGISTERED), |id| existing.contains(&id))
}

#[test]
fn r3_an_image_from_before_the_registration_gives_a_broker_nothing() {
    let image = with_topic(brokers(), 1, &[1]);
    let nothing = Applied::default();
    assert_eq!(nothing.plan(&image, local(), None, |_| false), None);
    assert_eq!(
        nothing.plan(&image, local(), Some(BrokerEpoch(7)), |_| false),
        None
    );
    assert!(
        nothing
            .plan(&image, local(), Some(BrokerEpoch(6)), |_| false)
            .is_some()
    );
}

#[test]
fn a_first_image_makes_what_is_missing_and_is_shown_to_all() {
    let image = with_topic(with_topic(with_topic(brokers(), 1, &[1, 2]), 2, &[2]), 3, &[2, 1]);
    let plan = plan(&Applied::default(), &image, &[1]).unwrap();
    assert_eq!(
        (plan.delete, plan.make, plan.show),
        (vec![], vec![partition(3)], Show::All)
    );
    assert_eq!(plan.broker_epoch, REGISTERED);
    let alive = [
        (local(), BrokerEpoch(5)),
        (BrokerId::new(2).unwrap(), BrokerEpoch(2)),
    ];
    assert_eq!(plan.alive, BTreeMap::from(alive));
}

#[test]
fn a_later_image_is_shown_to_what_it_changes() {
    let first = with_topic(brokers(), 1, &[1]);
    let second = with_topic(first.clone(), 2, &[1]);
    let known = applied(&[&first]);
    let planned = plan(&known, &second, &[1]).unwrap();
    let both = vec![partition(2)];
    assert_eq!((planned.make, planned.show), (both.clone(), Show::These(both)));
    assert_eq!(plan(&known, &first, &[1]), None, "it was applied");
    assert_eq!(
        plan(&applied(&[&first, &second]), &first, &[1, 2]),
        None,
        "it is older"
    );
}

#[test]
fn a_broker_that_changes_concerns_every_replica() {
    let first = with_topic(brokers(), 1, &[1, 2]);
    let mut second = first.clone();
    let mut fenced = second.brokers.values().last().unwrap().as_ref().clone();
    fenced.fenced = true;
    second.replay(
        MetadataIndex(first.index.0 + 1),
        &[Change::Broker(Arc::new(fenced))],
    );
    let plan = plan(&applied(&[&first]), &second, &[1]).unwrap();
    assert_eq!((plan.make, plan.show), (vec![], Show::All));
    assert_eq!(plan.alive, BTreeMap::from([(local(), BrokerEpoch(5))]));
}

/// R12: metadata that never knew a topic does not say that it was deleted.
#[test]
fn r12_only_a_topic_that_an_image_had_is_deleted() {
    let first = with_topic(with_topic(brokers(), 1, &[1]), 2, &[1]);
    let second = without_topic(first.clone(), 1);
    assert_eq!(
        plan(&applied(&[&first]), &second, &[1, 2]).unwrap().delete,
        [topic(1)]
    );
    assert_eq!(plan(&Applied::default(), &second, &[1, 2]).unwrap().delete, []);
}

#[test]
fn a_new_registration_sees_everything_anew_and_what_was_deleted_meanwhile() {
    let first = with_topic(with_topic(brokers(), 1, &[1]), 2, &[1]);
    let second = without_topic(first.clone(), 1);
    let known = applied(&[&first]);
    let plan = known
        .plan(&second, local(), Some(BrokerEpoch(8)), |_| true)
        .unwrap();
    assert_eq!((plan.delete, plan.show), (vec![topic(1)], Show::All));
    let same = known.plan(&first, local(), Some(BrokerEpoch(7)), |_| true);
    assert_eq!(
        same.unwrap().show,
        Show::All,
        "the same image under a new registration"
    );
}

#[test]
fn r3_a_broker_serves_from_the_first_image_of_its_registration_until_it_is_fenced() {
    let mut standing = Standing::default();
    assert!(!standing.applied(BrokerEpoch(5)));
    assert!(standing.registered(BrokerEpoch(5)));
    assert!(!standing.serves());
    assert!(standing.applied(BrokerEpoch(5)));
    assert!(
        !standing.registered(BrokerEpoch(5)),
        "it is registered so already"
    );
    assert!(standing.serves());
    standing.fence();
    assert!(
        !standing.applied(BrokerEpoch(5)),
        "it was fenced in this registration"
    );
    assert!(standing.registered(BrokerEpoch(9)));
    assert!(
        !standing.applied(BrokerEpoch(5)),
        "an image of the registration before"
    );
    assert!(standing.applied(BrokerEpoch(9)));
}
