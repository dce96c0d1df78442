//! Topic configs that change while the topic lives.

use super::*;
use crate::command::AlterTopicConfigs;

fn alter(set: &[(&str, &str)], remove: &[&str]) -> Command {
    Command::AlterTopicConfigs(AlterTopicConfigs {
        topic_id: topic_id(1),
        set: set
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
        remove: remove.iter().map(|key| (*key).to_owned()).collect(),
    })
}

#[test]
fn configs_are_set_and_go_back_to_their_defaults() {
    let mut log = Log::with_brokers(3);
    log.topic(&[("max.message.bytes", "2000")]);
    let before = log.partition().clone();
    log.apply(alter(
        &[("unclean.leader.election.enable", "true")],
        &["max.message.bytes"],
    ))
    .unwrap();
    let configs = &log.image.topic(topic_id(1)).unwrap().configs;
    assert!(configs.unclean_leader_election());
    assert_eq!(configs.max_message_bytes(), 1_048_588);
    assert_eq!(log.partition(), &before, "partitions do not follow from these");
}

#[test]
fn r8_another_minimum_is_one_step_with_the_elr_and_a_new_partition_epoch() {
    let mut log = Log::with_brokers(3);
    log.topic(&[("min.insync.replicas", "3")]);
    log.fence(3);
    let before = log.partition().clone();
    assert_eq!((&before.isr, &before.elr), (&ids(&[1, 2]), &ids(&[3])));

    log.apply(alter(&[("min.insync.replicas", "2")], &[])).unwrap();
    let now = log.partition().clone();
    assert_eq!(now.min_insync_replicas, 2);
    assert_eq!(now.elr, [], "the minimum is met without it");
    assert_eq!(now.partition_epoch, before.partition_epoch.next());
    assert_eq!(now.leader_epoch, before.leader_epoch, "nobody loses a leadership");

    let mut stale = log.alter(1, &[1]);
    stale.partition_epoch = before.partition_epoch;
    assert_eq!(
        log.code(Command::AlterPartition(stale)),
        ErrorCode::InvalidUpdateVersion,
        "a leader that goes by the old minimum changes nothing"
    );
    log.apply(alter(&[], &["min.insync.replicas"])).unwrap();
    assert_eq!(log.partition(), &now, "the default is 2 as well");
    log.apply(alter(&[("min.insync.replicas", "3")], &[])).unwrap();
    assert_eq!(
        log.partition().elr,
        [],
        "who left under another minimum is not eligible"
    );
}

#[test]
fn what_may_not_be_set_changes_nothing() {
    let mut log = Log::with_brokers(3);
    log.topic(&[]);
    let before = log.image.topic(topic_id(1)).cloned();
    assert_eq!(
        log.code(alter(&[("min.insync.replicas", "1"), ("retention.ms", "1")], &[])),
        ErrorCode::InvalidConfig
    );
    assert_eq!(log.image.topic(topic_id(1)).cloned(), before);
    log.apply(Command::DeleteTopic(DeleteTopic {
        topic_id: topic_id(1),
    }))
    .unwrap();
    assert_eq!(log.code(alter(&[], &[])), ErrorCode::UnknownTopicId);
    let mut internal = topic("__consumer_offsets", 1, 3, &[]);
    internal.topic_id = topic_id(1);
    log.apply(Command::CreateTopic(internal)).unwrap();
    assert_eq!(
        log.code(alter(&[("min.insync.replicas", "1")], &[])),
        ErrorCode::InvalidTopicException
    );
}

#[test]
fn a_minimum_above_the_number_of_replicas_is_refused_when_it_is_set() {
    let mut log = Log::with_brokers(3);
    for (minimum, replicas) in [("4", 3), ("3", 2), ("2", 1)] {
        let mut create = topic("t", 1, replicas, &[("min.insync.replicas", minimum)]);
        create.topic_id = topic_id(1);
        let refusal = log.apply(Command::CreateTopic(create)).unwrap_err();
        assert_eq!(refusal.code, ErrorCode::InvalidConfig);
        let expected = format!("more than the topic's {replicas} replicas");
        assert!(refusal.message.contains(&expected), "{refusal}");
    }
    log.topic(&[("min.insync.replicas", "3")]);
    let before = log.image.topic(topic_id(1)).cloned();
    assert_eq!(
        log.code(alter(&[("min.insync.replicas", "4")], &[])),
        ErrorCode::InvalidConfig
    );
    assert_eq!(log.image.topic(topic_id(1)).cloned(), before);
    log.apply(alter(&[("min.insync.replicas", "1")], &[])).unwrap();

    // The cluster's own topic is held to it as well.
    let mut internal = topic("__consumer_offsets", 1, 1, &[("min.insync.replicas", "2")]);
    internal.topic_id = topic_id(2);
    assert_eq!(log.code(Command::CreateTopic(internal)), ErrorCode::InvalidConfig);
}

#[test]
fn a_name_that_is_no_config_is_not_removed_in_silence() {
    let mut log = Log::with_brokers(3);
    log.topic(&[("max.message.bytes", "2000")]);
    let before = log.image.topic(topic_id(1)).cloned();
    assert_eq!(log.code(alter(&[], &["nosuch"])), ErrorCode::InvalidConfig);
    assert_eq!(
        log.code(alter(&[("max.message.bytes", "3000")], &["max.message.bytes"])),
        ErrorCode::InvalidRequest
    );
    assert_eq!(log.image.topic(topic_id(1)).cloned(), before);
    log.apply(alter(&[], &["min.insync.replicas"])).unwrap();
}

#[test]
fn a_partition_that_waits_gets_an_unclean_leader_as_soon_as_it_is_allowed() {
    let mut log = Log::with_brokers(3);
    log.topic(&[]);
    for broker in [3, 2, 1] {
        log.fence(broker);
    }
    // It left while the minimum was met, and may lack records.
    log.start(3, 1);
    let waiting = log.partition().clone();
    assert_eq!(waiting.leader, None, "{waiting:?}");
    log.apply(alter(&[("unclean.leader.election.enable", "true")], &[]))
        .unwrap();
    let now = log.partition();
    assert_eq!(now.leader, Some(id(3)));
    assert!(now.leader_epoch > waiting.leader_epoch);
}
