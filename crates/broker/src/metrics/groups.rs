//! How far consumer groups are behind, under the names of `kafka_exporter`.
//!
//! Series of groups and partitions come and go, so that they are made anew for each answer. A coordinator tells of its own groups: over
//! all brokers each group is told of once.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text::encode_registry;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tidelog_types::{GroupId, Offset, TopicName, TopicPartition};

use super::Detail;

/// Most partitions of groups that one answer tells of; the rest is counted in `tidelog_consumergroup_partitions_left_out`.
const MAX_PARTITIONS: usize = 10_000;

type Labels = Vec<(&'static str, String)>;
type Series = Family<Labels, Gauge<u64, AtomicU64>>;

/// One group, as its coordinator knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupProgress {
    /// Its id.
    pub group: GroupId,
    /// How many members it has.
    pub members: usize,
    /// What it committed.
    pub offsets: Vec<(TopicPartition, Offset)>,
}

/// The groups that a broker coordinates.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupFigures {
    /// As many as there is room for.
    pub groups: Vec<GroupProgress>,
    /// How many partitions of groups there is no room for.
    pub left_out: usize,
    /// Where partitions end for consumers, as far as their leaders answered.
    pub ends: BTreeMap<TopicPartition, Offset>,
}

impl GroupFigures {
    /// Takes a group in, if there is room.
    pub fn take(&mut self, group: GroupProgress) {
        let taken: usize = self.groups.iter().map(|group| group.offsets.len()).sum();
        if taken + group.offsets.len() > MAX_PARTITIONS {
            self.left_out += group.offsets.len();
        } else {
            self.groups.push(group);
        }
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
        figures.take(GroupProgress {
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
        let offsets = (0..MAX_PARTITIONS as u32).map(|index| (partition("wide", index), Offset(0)));
        figures.take(GroupProgress {
            group: "wide".parse().unwrap(),
            members: 0,
            offsets: offsets.collect(),
        });
        assert_eq!((figures.groups.len(), figures.left_out), (1, MAX_PARTITIONS));
    }
}
