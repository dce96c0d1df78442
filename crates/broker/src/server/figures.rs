//! What the HTTP listener tells to scrapers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use tidelog_cluster::image::TopicImage;
use tidelog_metadata::Metadata;
use tidelog_types::{Offset, PartitionIndex, TopicName, TopicPartition};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::disk::DiskHandle;
use crate::coordinator::ReplicaLog;
use crate::group::Groups;
use crate::grpc::PartitionCounts;
use crate::grpc::leaders::{Leaders, LogBounds};
use crate::http::Figures;
use crate::metrics::{Detail, GroupFigures, Metrics, Snapshot};
use crate::partition::ReplicaManager;

/// For how long figures of groups are good: scrapes that come faster ask no leader again.
const FRESH: Duration = Duration::from_secs(1);
/// How long leaders are waited for. What one that is paused leads is left out.
const ANSWERED_WITHIN: Duration = Duration::from_secs(1);
/// How many topics' leaders are asked at a time.
const TOPICS_AT_ONCE: usize = 16;

/// The broker, as scrapes see it.
pub(super) struct BrokerFigures {
    pub(super) metadata: Metadata,
    pub(super) replicas: Arc<ReplicaManager>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) disk: DiskHandle,
    pub(super) groups: Groups<ReplicaLog>,
    pub(super) leaders: Leaders,
    /// The figures of groups, and when they were gathered. One scrape at a time gathers.
    pub(super) gathered: Mutex<Option<(Instant, Arc<GroupFigures>)>>,
}

impl Figures for BrokerFigures {
    fn expose(&self, detail: Detail) -> BoxFuture<'_, String> {
        Box::pin(async move {
            let groups = self.groups().await;
            self.metrics.expose(&self.snapshot(), &groups, detail)
        })
    }
}

impl BrokerFigures {
    fn snapshot(&self) -> Snapshot {
        let image = self.metadata.image();
        let counts = PartitionCounts::of(&image);
        let led = self
            .replicas
            .partitions()
            .iter()
            .filter(|partition| partition.status().is_leader)
            .count();
        Snapshot {
            under_replicated_partitions: counts.under_replicated.into(),
            under_min_isr_partitions: counts.under_min_isr.into(),
            offline_partitions: counts.offline.into(),
            leader_partitions: led as u64,
            stray_partitions: self.replicas.strays().len() as u64,
            alive_brokers: image.brokers.values().filter(|broker| !broker.fenced).count() as u64,
            metadata_leader: self
                .metadata
                .leader()
                .map_or(0, |leader| leader.broker.get().into()),
            metadata_index: self.metadata.applied_index().0,
            disk_free_bytes: self.disk.free_bytes(),
            disk_reserve_bytes: self.disk.reserve_bytes(),
        }
    }

    async fn groups(&self) -> Arc<GroupFigures> {
        let mut gathered = self.gathered.lock().await;
        if let Some((at, figures)) = gathered.as_ref()
            && at.elapsed() < FRESH
        {
            return Arc::clone(figures);
        }
        let mut figures = self.groups.figures().await;
        figures.ends = self.ends(figures.topics()).await;
        let figures = Arc::new(figures);
        *gathered = Some((Instant::now(), Arc::clone(&figures)));
        figures
    }

    /// Where the partitions of topics end, as far as their leaders answer.
    async fn ends(&self, topics: BTreeSet<TopicName>) -> BTreeMap<TopicPartition, Offset> {
        let image = self.metadata.image();
        let known: Vec<Arc<TopicImage>> = topics
            .iter()
            .filter_map(|name| image.topic_by_name(name).cloned())
            .collect();
        let ends = answered(known.into_iter().map(|topic| self.ends_of(topic))).await;
        ends.into_iter().flatten().collect()
    }

    async fn ends_of(&self, topic: Arc<TopicImage>) -> Vec<(TopicPartition, Offset)> {
        let bounds = self.leaders.bounds(&topic).await;
        let end = |(partition, bounds): (PartitionIndex, Option<LogBounds>)| {
            let topic = topic.name.clone();
            Some((TopicPartition { topic, partition }, bounds?.high_watermark))
        };
        (0..).map(PartitionIndex).zip(bounds).filter_map(end).collect()
    }
}

/// What is answered in time, of questions of which some are asked at a time.
async fn answered<T>(questions: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    futures::stream::iter(questions)
        .buffer_unordered(TOPICS_AT_ONCE)
        .take_until(tokio::time::sleep(ANSWERED_WITHIN))
        .collect()
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_does_not_answer_holds_up_nobody() {
        let question = |number: usize| async move {
            if number == 3 {
                std::future::pending::<()>().await;
            }
            number
        };
        let began = Instant::now();
        assert_eq!(answered((0..40).map(question)).await.len(), 39);
        assert_eq!(began.elapsed(), ANSWERED_WITHIN);
        assert_eq!(answered((0..3).map(question)).await.len(), 3);
        assert_eq!(began.elapsed(), ANSWERED_WITHIN, "nothing is waited for in vain");
    }
}
