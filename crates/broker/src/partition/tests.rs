//! Partitions over a store in memory that writes when the test says so.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tidelog_replica::link::{Ask, LinkWork};
use tidelog_replica::{FetchPosition, Fetched};
use tidelog_types::{BrokerId, ErrorCode, Offset, PartitionIndex, TopicId, TopicIdPartition};

use super::testing::{Rig, batch, broker};
use super::{Acks, DiskUse, FollowerLinks, Partition, Produce, TakeError};

#[tokio::test]
async fn a_deletion_under_load_gives_the_room_for_produces_back() {
    let mut rig = Rig::new();
    let id = rig.topic("t", 1, 1);
    let room = rig.manager.context.budget.available_permits();
    let produce = Produce {
        leader_epoch: None,
        batch: batch(1000),
        acks: Acks::All,
        purpose: DiskUse::Produce,
        permit: rig.manager.reserve(1000).await,
    };
    let waiting = rig.manager.append(id, produce).unwrap();
    assert_eq!(rig.manager.context.budget.available_permits(), room - 1000);
    // Held by whoever still looks at it, as a fetch may.
    let partition = rig.partition(id);
    rig.delete(id);
    assert_eq!(rig.manager.context.budget.available_permits(), room);
    assert!(waiting.wait(super::testing::PATIENCE).await.is_err());
    drop(partition);
}

#[tokio::test]
async fn r12_a_replica_that_is_not_assigned_here_is_kept_and_named() {
    let unknown = TopicIdPartition {
        topic_id: TopicId::from_slice(&[9; 16]).unwrap(),
        partition: PartitionIndex(3),
    };
    let mut rig = Rig::holding(&[unknown]);
    assert_eq!(rig.manager.strays(), [], "nothing is known before an image");
    rig.topic("here", 1, 2);
    assert_eq!(rig.manager.strays(), [unknown]);
    assert!(rig.manager.partition(unknown).is_some());
}

#[tokio::test]
async fn a_full_disk_refuses_what_it_has_no_room_for_and_nothing_else() {
    let mut rig = Rig::new();
    let id = rig.topic("t", 1, 1);
    let append = async |purpose| {
        let produce = Produce {
            leader_epoch: None,
            batch: batch(1000),
            acks: Acks::None,
            purpose,
            permit: rig.manager.reserve(1000).await,
        };
        rig.manager.append(id, produce)
    };
    rig.disk.refuse(&[DiskUse::Produce]);
    let refused = append(DiskUse::Produce).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::DiskFull);
    assert!(refused.code.is_retriable());
    assert!(refused.message.contains("broker 1"), "{}", refused.message);
    let _waits = append(DiskUse::Groups).await.unwrap();

    rig.disk.refuse(&[DiskUse::Produce, DiskUse::Groups]);
    let refused = append(DiskUse::Groups).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::DiskFull);
    rig.disk.refuse(&[]);
    let _waits = append(DiskUse::Produce).await.unwrap();
}

/// Takes down who has something to fetch.
#[derive(Default)]
struct Queued(Mutex<Vec<(BrokerId, TopicIdPartition)>>);

impl FollowerLinks for Queued {
    fn queue(&self, leader: BrokerId, partition: TopicIdPartition, work: LinkWork) {
        if work == LinkWork::Fetch {
            self.0.lock().push((leader, partition));
        }
    }
}

fn next_fetch(partition: &Partition) -> Option<FetchPosition> {
    let ask = Ask {
        partition: partition.id(),
        fetch: true,
        durable: false,
    };
    partition.standing(ask).fetch
}

#[tokio::test]
async fn a_follower_without_room_stops_fetching_and_goes_on_by_itself() {
    let mut rig = Rig::new();
    let queued = Arc::new(Queued::default());
    rig.manager.connect(Arc::clone(&queued) as _);
    let id = rig.topic("t", 2, 2);
    let partition = rig.partition(id);
    // Its leaders' disks are full, as this one nearly is: what they accepted is still copied.
    rig.disk.refuse(&[DiskUse::Produce, DiskUse::Groups]);
    assert!(next_fetch(&partition).is_some());

    rig.disk
        .refuse(&[DiskUse::Produce, DiskUse::Groups, DiskUse::Replication]);
    assert_eq!(next_fetch(&partition), None);
    assert!(partition.follows(broker(2)), "it stays on its leader's list");
    queued.0.lock().clear();
    rig.manager.resume_fetching();
    assert_eq!(*queued.0.lock(), [], "there is still no room");
    rig.disk.refuse(&[]);
    rig.manager.resume_fetching();
    assert_eq!(*queued.0.lock(), [(broker(2), id)]);
    assert!(next_fetch(&partition).is_some());
    rig.manager.resume_fetching();
    assert_eq!(queued.0.lock().len(), 1, "nothing is paused any more");
}

#[tokio::test]
async fn a_follower_stores_no_damaged_batch_and_none_without_room() {
    let mut rig = Rig::new();
    let id = rig.topic("t", 2, 2);
    let partition = rig.partition(id);
    let position = next_fetch(&partition).unwrap();
    let whole = batch(1000).assign(Offset(0), position.leader_epoch).into_bytes();
    let take = |bytes: Bytes| {
        let answer = Fetched::Batches {
            batches: vec![whole.clone(), bytes],
            high_watermark: Offset(0),
            log_start: Offset(0),
        };
        partition.take_fetched(position.leader_epoch, answer)
    };
    let second = batch(1000).assign(Offset(1), position.leader_epoch).into_bytes();
    let mut damaged = second.to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    assert!(matches!(take(damaged.into()), Err(TakeError::Batch(_))));
    assert_eq!(
        next_fetch(&partition),
        Some(position),
        "nothing of the answer was taken"
    );
    // Nor what it has no room for, though it asked; then it waits until it has.
    rig.disk.refuse(&[DiskUse::Replication]);
    assert!(!take(second.clone()).unwrap());
    assert_eq!(next_fetch(&partition), None);
    rig.disk.refuse(&[]);
    assert_eq!(next_fetch(&partition), Some(position));
    assert!(take(second).unwrap());
    assert_eq!(next_fetch(&partition).unwrap().fetch_offset, Offset(2));
}
