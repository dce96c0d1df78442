//! Every type that stands in a public signature can be named by whoever depends on this crate
//! alone.
//!
//! The functions are not called: that they compile is the test. One of a type that is not exported
//! does not.

#![allow(dead_code, reason = "that it compiles is what is tested")]

use tidelog_client::{
    BrokerDescription, BrokerId, Client, ClusterDescription, ClusterId, CommittedOffset, ConsumedRecord,
    CreatedTopic, DirectoryId, Error, ErrorCode, GroupMember, HeaderIter, HeaderView, Headers, InvalidName,
    PartitionError, PartitionIndex, RecordMetadata, TopicDescription, TopicId, TopicListings, TopicName,
    TopicPartition,
};

fn of_client(client: &Client) -> Option<ClusterId> {
    client.cluster_id()
}

fn of_cluster(cluster: ClusterDescription) -> Option<ClusterId> {
    cluster.cluster_id
}

fn of_broker(broker: &BrokerDescription) -> (Option<DirectoryId>, Option<BrokerId>) {
    (broker.directory_id, BrokerId::new(broker.broker_id))
}

fn of_topics(
    created: CreatedTopic,
    listed: &TopicListings,
    described: TopicDescription,
) -> (Option<TopicId>, TopicId, TopicId) {
    (created.topic_id, listed.topics[0].topic_id, described.topic_id)
}

fn of_group(
    member: GroupMember,
    offset: CommittedOffset,
) -> (Vec<TopicPartition>, PartitionIndex, TopicName) {
    let TopicPartition { topic, partition } = offset.partition;
    (member.assigned, partition, topic)
}

fn of_records(stored: RecordMetadata, read: ConsumedRecord) -> (TopicName, TopicName, Headers) {
    (stored.topic, read.topic, read.headers)
}

fn of_headers(headers: &Headers) -> (HeaderIter<'_>, Option<HeaderView<'_>>) {
    (headers.iter(), headers.iter().next())
}

fn of_errors(name: InvalidName, refused: PartitionError, error: &Error) -> (Error, Error, Option<ErrorCode>) {
    (name.into(), refused.into(), error.code())
}
