//! Partitions over a store in memory that writes when the test says so.

use tidelog_types::{PartitionIndex, TopicId, TopicIdPartition};

use super::testing::{Rig, batch};
use super::{Acks, Produce};

#[tokio::test]
async fn a_deletion_under_load_gives_the_room_for_produces_back() {
    let mut rig = Rig::new();
    let id = rig.topic("t", 1, 1);
    let room = rig.manager.context.budget.available_permits();
    let produce = Produce {
        leader_epoch: None,
        batch: batch(1000),
        acks: Acks::All,
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
