//! What groups have to do with, and where it ends.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt;
use tidelog_client::{Admin, GroupDescription, OffsetAt, TopicPartition};

/// How long one partition may take to say where it ends.
const END_TIMEOUT: Duration = Duration::from_secs(2);
/// How many partitions are asked at a time.
const MAX_QUESTIONS: usize = 64;

/// Where partitions end. One that cannot be asked has no end here: its topic may be gone.
pub(super) async fn ends(
    admin: &Admin,
    partitions: impl IntoIterator<Item = TopicPartition>,
) -> BTreeMap<TopicPartition, u64> {
    let admin = admin.clone().timeout(END_TIMEOUT);
    let asked = partitions.into_iter().map(|partition| {
        let admin = admin.clone();
        async move { admin.list_offsets([(partition, OffsetAt::Latest)]).await }
    });
    let found = futures::stream::iter(asked)
        .buffer_unordered(MAX_QUESTIONS)
        .filter_map(|found| futures::future::ready(found.ok()));
    let ends = found.collect::<Vec<_>>().await;
    ends.into_iter()
        .flatten()
        .map(|(partition, end)| (partition, end.offset))
        .collect()
}

/// The partitions that a group committed or owns, in order.
pub(super) fn concerned(group: &GroupDescription) -> Vec<TopicPartition> {
    let committed = group.offsets.iter().map(|offset| &offset.partition);
    let owned = group.members.iter().flat_map(|member| &member.assigned);
    let mut all: Vec<TopicPartition> = committed.chain(owned).cloned().collect();
    all.sort_unstable();
    all.dedup();
    all
}
