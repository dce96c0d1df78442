//! What a member commits, and when a commit is tried again.

use super::*;

#[tokio::test]
async fn marks_in_any_order_commit_only_the_unbroken_run() {
    let mut cluster = cluster(1).await;
    let (mut consumer, session) = member(&mut cluster, &[("t", 0)]).await;
    session.keep_alive();
    offsets(&mut consumer, 5).await;
    let marker = consumer.marker();
    marker.mark(&record(1));
    marker.mark(&record(3));
    consumer.commit().await.unwrap();
    assert_eq!(cluster.committed("t", 0), None);
    marker.mark(&record(0));
    consumer.commit().await.unwrap();
    assert_eq!(cluster.committed("t", 0), Some(2));
    marker.mark(&record(9));
    marker.mark(&record(2));
    consumer.commit().await.unwrap();
    assert_eq!(cluster.committed("t", 0), Some(4));
    let commits = cluster.state.world.lock().commits.len();
    consumer.commit().await.unwrap();
    let last = cluster.state.world.lock().commits.last().cloned().unwrap();
    assert_eq!(cluster.state.world.lock().commits.len(), commits, "nothing new");
    assert_eq!(last.offsets[0].leader_epoch, Some(1));
    consumer
        .commit_offsets([(consumer.assignment()[0].clone(), 5)])
        .await
        .unwrap();
    assert_eq!(cluster.committed("t", 0), Some(5));
    let noted = OffsetAndMetadata::new(4).metadata("checkpoint 7");
    let partition = consumer.assignment()[0].clone();
    consumer.commit_offsets([(partition, noted)]).await.unwrap();
    let last = cluster.state.world.lock().commits.last().cloned().unwrap();
    assert_eq!(
        (last.offsets[0].offset, last.offsets[0].metadata.as_str()),
        (4, "checkpoint 7")
    );
}

#[tokio::test]
async fn a_commit_in_a_stale_epoch_is_tried_again_in_the_new_one() {
    let mut cluster = cluster(1).await;
    let (mut consumer, session) = member(&mut cluster, &[("t", 0)]).await;
    mark_next(&mut consumer, 3).await;
    cluster.state.world.lock().commit_epoch = 5;
    let push = async {
        until(|| !cluster.state.world.lock().commits.is_empty()).await;
        session.assign(2, 5, &[("t", 0)]);
    };
    let (committed, ()) = tokio::join!(within(consumer.commit()), push);
    committed.unwrap();
    let epochs: Vec<u32> = cluster
        .state
        .world
        .lock()
        .commits
        .iter()
        .map(|commit| commit.member_epoch)
        .collect();
    assert_eq!((epochs[0], *epochs.last().unwrap()), (1, 5));
    assert_eq!(cluster.committed("t", 0), Some(3));
}

#[tokio::test]
async fn a_commit_follows_the_coordinator_and_says_when_it_is_fenced() {
    let mut cluster = cluster(1).await;
    let (mut consumer, session) = member(&mut cluster, &[("t", 0)]).await;
    session.keep_alive();
    mark_next(&mut consumer, 1).await;
    cluster.state.world.lock().coordinator = 2;
    within(consumer.commit()).await.unwrap();
    assert_eq!(cluster.committed("t", 0), Some(1));
    mark_next(&mut consumer, 1).await;
    let fenced = ErrorCode::FencedMemberEpoch.number();
    cluster.state.world.lock().commit_refusals.extend([fenced]);
    let error = within(consumer.commit()).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::FencedMemberEpoch));
    assert!(!error.is_retriable());
}

#[tokio::test]
async fn auto_commit_commits_what_is_marked_and_nothing_else() {
    let mut cluster = cluster(1).await;
    let builder = builder(&cluster, false)
        .await
        .auto_commit_interval(Duration::from_millis(10));
    let (consumer, session) = tokio::join!(within(builder.build()), within(cluster.admit(&[("t", 0)])));
    session.keep_alive();
    let mut consumer = consumer.unwrap();
    mark_next(&mut consumer, 4).await;
    offsets(&mut consumer, 3).await;
    until(|| cluster.committed("t", 0) == Some(4)).await;
    let partition = TopicPartition {
        topic: "t".parse().unwrap(),
        partition: PartitionIndex(0),
    };
    assert_eq!(consumer.position(&partition), Some(7));
}
