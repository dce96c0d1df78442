//! How far consumer groups are behind, under the names of `kafka_exporter`.
//!
//! Series of groups and partitions come and go, so that they are made anew for each answer. A
//! coordinator tells of its own groups: over all brokers each group is told of once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text::encode_registry;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tidelog_types::{GroupId, Offset, TopicName, TopicPartition};

use super::Detail;

/// Most partitions of groups that one answer tells of, a group without any counted as one; the rest
/// is counted in `tidelog_consumergroup_partitions_left_out`.
const MAX_PARTITIONS: usize = 10_000;

type Labels = Vec<(&'static str, String)>;
type Series = Family<Labels, Gauge<u64, AtomicU64>>;

/// One group, as its coordinator knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupProgress {
    pub group: GroupId,
    /// How many members it has.
    pub members: usize,
    /// What it committed.
    pub offsets: Vec<(TopicPartition, Offset)>,
}

/// The groups that a broker coordinates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupFigures {
    /// As many as there is room for.
    groups: Vec<GroupProgress>,
    room: usize,
    /// How many partitions of groups there is no room for.
    left_out: usize,
    /// Where partitions end for consumers, as far as their leaders answered.
    pub ends: BTreeMap<TopicPartition, Offset>,
}

impl Default for GroupFigures {
    fn default() -> Self {
        Self {
            groups: Vec::new(),
            room: MAX_PARTITIONS,
            left_out: 0,
            ends: BTreeMap::new(),
        }
    }
}

impl GroupFigures {
    /// Takes a group in that committed so many partitions, if there is room: only then is it looked
    /// at.
    pub fn take(&mut self, partitions: usize, look: impl FnOnce() -> GroupProgress) {
        match self.room.checked_sub(partitions.max(1)) {
            Some(room) => {
                self.room = room;
                self.groups.push(look());
            }
            None => self.left_out += partitions,
        }
    }

    /// Empty ones, with the room that is left here.
    #[must_use]
    pub fn rest(&self) -> Self {
        Self {
            room: self.room,
            ..Self::default()
        }
    }

    /// Adds what was taken into [`Self::rest`].
    pub fn add(&mut self, more: Self) {
        self.groups.extend(more.groups);
        self.room = more.room;
        self.left_out += more.left_out;
    }

    /// The topics of which groups committed anything.
    pub fn topics(&self) -> BTreeSet<TopicName> {
        let offsets = self.groups.iter().flat_map(|group| &group.offsets);
        offsets.map(|(partition, _)| partition.topic.clone()).collect()
    }

    /// Exposition text, without the mark of its end.
    pub fn expose(&self, detail: Detail) -> String {
        let mut registry = Registry::with_prefix("tidelog");
        self.register_sums(&mut registry);
        if detail == Detail::Partitions {
            self.register_partitions(&mut registry);
        }
        let mut text = String::new();
        encode_registry(&mut text, &registry).expect("writing to a String cannot fail");
        text
    }

    fn register_sums(&self, registry: &mut Registry) {
        let members = series(registry, "consumergroup_members", "Members of a consumer group");
        let lags = series(
            registry,
            "consumergroup_lag_sum",
            "Records that a consumer group is behind in a topic",
        );
        for group in &self.groups {
            set(&members, vec![label(&group.group)], group.members as u64);
            let mut sums: BTreeMap<&TopicName, u64> = BTreeMap::new();
            for (partition, offset) in &group.offsets {
                if let Some(lag) = self.lag(partition, *offset) {
                    *sums.entry(&partition.topic).or_default() += lag;
                }
            }
            for (topic, lag) in sums {
                set(
                    &lags,
                    vec![label(&group.group), ("topic", topic.to_string())],
                    lag,
                );
            }
        }
        let left_out = Gauge::<u64, AtomicU64>::default();
        left_out.set(self.left_out as u64);
        registry.register(
            "consumergroup_partitions_left_out",
            "Partitions of consumer groups that are too many to tell of",
            left_out,
        );
    }

    fn register_partitions(&self, registry: &mut Registry) {
        let offsets = series(
            registry,
            "consumergroup_current_offset",
            "The offset that a consumer group committed",
        );
        let lags = series(
            registry,
            "consumergroup_lag",
            "Records that a consumer group is behind in a partition",
        );
        for group in &self.groups {
            for (partition, offset) in &group.offsets {
                let mut labels = vec![label(&group.group)];
                labels.extend(of_partition(partition));
                set(&offsets, labels.clone(), offset.0);
                if let Some(lag) = self.lag(partition, *offset) {
                    set(&lags, labels, lag);
                }
            }
        }
        let ends = series(
            registry,
            "topic_partition_current_offset",
            "Where a partition that a consumer group reads ends for consumers",
        );
        for (partition, end) in &self.ends {
            set(&ends, of_partition(partition), end.0);
        }
    }

    /// What was trimmed away is no lag any more.
    fn lag(&self, partition: &TopicPartition, offset: Offset) -> Option<u64> {
        self.ends.get(partition).map(|end| end.0.saturating_sub(offset.0))
    }
}

fn series(registry: &mut Registry, name: &str, help: &str) -> Series {
    let series = Series::default();
    registry.register(name, help, series.clone());
    series
}

fn set(series: &Series, labels: Labels, value: u64) {
    series.get_or_create(&labels).set(value);
}

fn label(group: &GroupId) -> (&'static str, String) {
    ("consumergroup", group.to_string())
}

fn of_partition(partition: &TopicPartition) -> Labels {
    vec![
        ("topic", partition.topic.to_string()),
        ("partition", partition.partition.to_string()),
    ]
}

#[cfg(test)]
mod tests {
    use tidelog_types::PartitionIndex;

    use super::*;

    fn partition(topic: &str, index: u32) -> TopicPartition {
        TopicPartition {
            topic: topic.parse().unwrap(),
            partition: PartitionIndex(index),
        }
    }

    fn figures() -> GroupFigures {
        let mut figures = GroupFigures::default();
        figures.take(3, || GroupProgress {
            group: "billing".parse().unwrap(),
            members: 2,
            offsets: vec![
                (partition("orders", 0), Offset(40)),
                (partition("orders", 1), Offset(70)),
                (partition("gone", 0), Offset(9)),
            ],
        });
        figures.ends = BTreeMap::from([
            (partition("orders", 0), Offset(100)),
            (partition("orders", 1), Offset(65)),
        ]);
        figures
    }

    #[test]
    fn lag_is_told_a_topic_and_in_detail_a_partition() {
        let text = figures().expose(Detail::Topics);
        for line in [
            "tidelog_consumergroup_members{consumergroup=\"billing\"} 2",
            "tidelog_consumergroup_lag_sum{consumergroup=\"billing\",topic=\"orders\"} 60",
            "tidelog_consumergroup_partitions_left_out 0",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        assert!(!text.contains("partition=\""), "{text}");
        let text = figures().expose(Detail::Partitions);
        for line in [
            "tidelog_consumergroup_lag{consumergroup=\"billing\",topic=\"orders\",partition=\"0\"} 60",
            "tidelog_consumergroup_lag{consumergroup=\"billing\",topic=\"orders\",partition=\"1\"} 0",
            "tidelog_consumergroup_current_offset{consumergroup=\"billing\",topic=\"gone\",partition=\"0\"} 9",
            "tidelog_topic_partition_current_offset{topic=\"orders\",partition=\"0\"} 100",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        assert!(
            !text.contains("lag{consumergroup=\"billing\",topic=\"gone\""),
            "{text}"
        );
    }

    #[test]
    fn more_than_one_answer_holds_is_counted() {
        let mut figures = figures();
        figures.take(MAX_PARTITIONS, || {
            panic!("what there is no room for is not looked at")
        });
        for _ in 0..MAX_PARTITIONS {
            figures.take(0, || GroupProgress {
                group: "empty".parse().unwrap(),
                members: 1,
                offsets: Vec::new(),
            });
        }
        assert_eq!(figures.groups.len(), 1 + MAX_PARTITIONS - 3);
        assert_eq!(figures.left_out, MAX_PARTITIONS);
    }
}
