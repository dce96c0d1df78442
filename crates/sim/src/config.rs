//! What a run is of: drawn from its seed.

use std::time::Duration;

use tidelog_replica::Settings;
use tidelog_replica::feed::Limits;
use tidelog_types::{BrokerId, PartitionIndex, TopicId, TopicIdPartition, TopicName};

use crate::random::Random;

/// A topic of the run.
#[derive(Debug, Clone)]
pub(crate) struct TopicSpec {
    pub(crate) name: TopicName,
    pub(crate) id: TopicId,
    pub(crate) partitions: u32,
    pub(crate) replication_factor: u32,
    pub(crate) min_insync_replicas: u32,
}

/// Everything that is drawn before a run begins.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) brokers: u32,
    pub(crate) topics: Vec<TopicSpec>,
    pub(crate) offsets_topic: TopicSpec,
    pub(crate) replica: Settings,
    /// Small, so that its limits are met.
    pub(crate) feed: Limits,
    /// How many of a thousand fetches of followers need the disk.
    pub(crate) cold_per_mille: u64,
    /// Most partitions that one message to a leader speaks of.
    pub(crate) link_message_partitions: usize,
    pub(crate) session: Duration,
    pub(crate) heartbeat: Duration,
    pub(crate) balance_interval: Duration,
    pub(crate) group_session: Duration,
    pub(crate) group_heartbeat: Duration,
    pub(crate) idempotent_producers: u32,
    pub(crate) plain_producers: u32,
    pub(crate) readers: u32,
    pub(crate) members: u32,
    /// How long a producer waits between sends, at most.
    pub(crate) send_interval: Duration,
    /// How long a producer tries.
    pub(crate) delivery_timeout: Duration,
    /// How long faults go on.
    pub(crate) faulty: Duration,
    /// How many there are at least.
    pub(crate) faults: u32,
    /// Whether what was acknowledged is on two disks at least, so that one may be lost.
    pub(crate) survives_disk_loss: bool,
}

impl Config {
    /// Draws a configuration at random.
    pub(crate) fn draw(random: &mut Random) -> Self {
        let brokers = random.pick(&[3, 3, 3, 4, 5]).unwrap_or(3);
        let topic_count = random.between(1, 2) as u8;
        let topics: Vec<_> = (0..topic_count)
            .map(|number| draw_topic(number, random))
            .collect();
        let offsets_topic = TopicSpec {
            name: TopicName::consumer_offsets(),
            id: topic_id(255),
            partitions: random.between(1, 2) as u32,
            replication_factor: 3,
            min_insync_replicas: 2,
        };
        let survives_disk_loss = topics.iter().all(|topic| topic.min_insync_replicas >= 2);
        let is_quick = random.per_mille(500);
        let replica = Settings {
            lag_time_max: if is_quick {
                random.millis(1500, 4000)
            } else {
                Duration::from_secs(10)
            },
            ..Settings::default()
        };
        let session = if is_quick {
            random.millis(1500, 3000)
        } else {
            Duration::from_secs(6)
        };
        let faults = random.between(20, 32) as u32;
        Self {
            brokers,
            topics,
            offsets_topic,
            replica,
            feed: draw_limits(random),
            cold_per_mille: random.pick(&[30, 60, 300]).unwrap_or(60),
            link_message_partitions: random.between(1, 6) as usize,
            session,
            heartbeat: if is_quick {
                Duration::from_millis(250)
            } else {
                Duration::from_millis(500)
            },
            balance_interval: if random.per_mille(500) {
                random.millis(3_000, 20_000)
            } else {
                random.millis(30_000, 120_000)
            },
            group_session: random.millis(4_000, 9_000),
            group_heartbeat: Duration::from_secs(1),
            idempotent_producers: random.between(1, 3) as u32,
            plain_producers: random.between(0, 1) as u32,
            readers: random.between(1, 2) as u32,
            members: random.between(2, 4) as u32,
            send_interval: random.millis(30, 250),
            delivery_timeout: random.millis(4_000, 30_000),
            faulty: Duration::from_millis(u64::from(faults) * random.between(1200, 3200)),
            faults,
            survives_disk_loss,
        }
    }

    /// The brokers, by id.
    pub(crate) fn broker_ids(&self) -> impl Iterator<Item = BrokerId> + use<> {
        (1..=self.brokers).filter_map(BrokerId::new)
    }

    /// Every partition of the users' topics.
    pub(crate) fn partitions(&self) -> Vec<TopicIdPartition> {
        self.topics.iter().flat_map(TopicSpec::iter).collect()
    }
}

impl TopicSpec {
    /// The partitions of the topic.
    pub(crate) fn iter(&self) -> impl Iterator<Item = TopicIdPartition> + use<> {
        let topic_id = self.id;
        (0..self.partitions).map(move |index| TopicIdPartition {
            topic_id,
            partition: PartitionIndex(index),
        })
    }
}

fn draw_topic(number: u8, random: &mut Random) -> TopicSpec {
    let replication_factor = random.pick(&[3, 3, 3, 2]).unwrap_or(3);
    let min_insync_replicas = match replication_factor {
        3 => random.pick(&[1, 2, 2, 2, 2, 3]).unwrap_or(2),
        _ => random.between(1, 2) as u32,
    };
    let name = format!("topic-{number}");
    TopicSpec {
        name: name.parse().expect("a topic's name"),
        id: topic_id(number + 1),
        partitions: random.between(1, 2) as u32,
        replication_factor,
        min_insync_replicas,
    }
}

fn draw_limits(random: &mut Random) -> Limits {
    let partition_bytes = 100 * random.between(1, 12) as usize;
    Limits {
        partition_bytes,
        message_bytes: partition_bytes * random.between(1, 4) as usize,
        read_bytes: partition_bytes * random.between(1, 2) as usize,
        progress_delay: random.millis(1, 20),
    }
}

fn topic_id(number: u8) -> TopicId {
    TopicId::from_slice(&[number; 16]).expect("sixteen bytes")
}
