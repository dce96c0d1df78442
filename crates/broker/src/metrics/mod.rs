//! The broker's figures, as Prometheus reads them. Names are `tidelog_…` with their unit last.

mod groups;

use std::time::Duration;

use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

pub use groups::{GroupFigures, GroupProgress};

/// How much an answer tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// A series a topic at most.
    Topics,
    /// A series a partition too.
    Partitions,
}

/// Everything that is counted. Handles are shared: counting is one atomic addition.
#[derive(Debug)]
pub struct Metrics {
    /// Bytes of record batches taken from producers.
    pub produced_bytes: Counter,
    /// Batches taken from producers.
    pub produced_batches: Counter,
    pub produce_errors: Counter,
    /// Bytes of record batches handed to consumers.
    pub fetched_bytes: Counter,
    produce_seconds: Histogram,
    gauges: Gauges,
    registry: Registry,
}

/// What is read off the broker's state when somebody asks.
#[derive(Debug, Clone, Copy, Default)]
pub struct Snapshot {
    /// Partitions in the cluster with fewer in-sync replicas than replicas.
    pub under_replicated_partitions: u64,
    /// Partitions with fewer in-sync replicas than min.insync.replicas.
    pub under_min_isr_partitions: u64,
    /// Partitions without a leader.
    pub offline_partitions: u64,
    /// Partitions that this broker leads.
    pub leader_partitions: u64,
    /// Replicas on this disk that are not assigned to this broker.
    pub stray_partitions: u64,
    /// Brokers that are registered and not fenced.
    pub alive_brokers: u64,
    /// The metadata leader's id; 0 while none is known.
    pub metadata_leader: u64,
    /// The newest metadata log entry applied here.
    pub metadata_index: u64,
    /// Free space of the data directory's filesystem.
    pub disk_free_bytes: u64,
    /// Free space below which produces are refused, bytes.
    pub disk_reserve_bytes: u64,
}

#[derive(Debug, Default)]
struct Gauges {
    under_replicated: Gauge,
    under_min_isr: Gauge,
    offline: Gauge,
    led: Gauge,
    stray: Gauge,
    alive: Gauge,
    metadata_leader: Gauge,
    metadata_index: Gauge,
    disk_free: Gauge,
    disk_reserve: Gauge,
}

impl Metrics {
    /// All figures at zero.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("tidelog");
        let produced_bytes = Counter::default();
        let produced_batches = Counter::default();
        let produce_errors = Counter::default();
        let fetched_bytes = Counter::default();
        // 100 µs to 13 s, each bucket twice the one before.
        let produce_seconds = Histogram::new(exponential_buckets(0.000_1, 2.0, 18));
        let counters = [
            (
                "produced_bytes",
                "Bytes of record batches taken from producers",
                &produced_bytes,
            ),
            (
                "produced_batches",
                "Record batches taken from producers",
                &produced_batches,
            ),
            ("produce_errors", "Record batches refused", &produce_errors),
            (
                "fetched_bytes",
                "Bytes of record batches handed to consumers",
                &fetched_bytes,
            ),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
        registry.register(
            "produce_duration_seconds",
            "From a batch's arrival to its acknowledgement",
            produce_seconds.clone(),
        );
        let gauges = Gauges::default();
        gauges.register(&mut registry);
        Self {
            produced_bytes,
            produced_batches,
            produce_errors,
            fetched_bytes,
            produce_seconds,
            gauges,
            registry,
        }
    }

    /// Notes how long an acknowledged batch took.
    pub fn produced_in(&self, time: Duration) {
        self.produce_seconds.observe(time.as_secs_f64());
    }

    /// The exposition text, with the gauges as of this snapshot, and the groups that this broker
    /// coordinates.
    pub fn expose(&self, snapshot: &Snapshot, groups: &GroupFigures, detail: Detail) -> String {
        const NEVER: &str = "writing to a String cannot fail";
        self.gauges.set(snapshot);
        let mut text = String::new();
        encode_registry(&mut text, &self.registry).expect(NEVER);
        text.push_str(&groups.expose(detail));
        encode_eof(&mut text).expect(NEVER);
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Gauges {
    fn register(&self, registry: &mut Registry) {
        let gauges = [
            (
                "under_replicated_partitions",
                "Partitions with fewer in-sync replicas than replicas",
                &self.under_replicated,
            ),
            (
                "under_min_isr_partitions",
                "Partitions below min.insync.replicas",
                &self.under_min_isr,
            ),
            ("offline_partitions", "Partitions without a leader", &self.offline),
            (
                "leader_partitions",
                "Partitions that this broker leads",
                &self.led,
            ),
            (
                "stray_partitions",
                "Replicas on this disk that are not assigned to this broker",
                &self.stray,
            ),
            ("alive_brokers", "Brokers registered and not fenced", &self.alive),
            (
                "metadata_leader_id",
                "The metadata leader's broker id, 0 if unknown",
                &self.metadata_leader,
            ),
            (
                "metadata_applied_index",
                "The newest metadata log entry applied",
                &self.metadata_index,
            ),
            (
                "disk_reserve_bytes",
                "Free space below which produces are refused",
                &self.disk_reserve,
            ),
            (
                "disk_free_bytes",
                "Free space where the data lies",
                &self.disk_free,
            ),
        ];
        for (name, help, gauge) in gauges {
            registry.register(name, help, gauge.clone());
        }
    }

    fn set(&self, snapshot: &Snapshot) {
        let values = [
            (&self.under_replicated, snapshot.under_replicated_partitions),
            (&self.under_min_isr, snapshot.under_min_isr_partitions),
            (&self.offline, snapshot.offline_partitions),
            (&self.led, snapshot.leader_partitions),
            (&self.stray, snapshot.stray_partitions),
            (&self.alive, snapshot.alive_brokers),
            (&self.metadata_leader, snapshot.metadata_leader),
            (&self.metadata_index, snapshot.metadata_index),
            (&self.disk_free, snapshot.disk_free_bytes),
            (&self.disk_reserve, snapshot.disk_reserve_bytes),
        ];
        for (gauge, value) in values {
            gauge.set(value as i64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_carry_prefix_unit_and_value() {
        let metrics = Metrics::new();
        metrics.produced_bytes.inc_by(42);
        metrics.produced_in(Duration::from_millis(3));
        let snapshot = Snapshot {
            offline_partitions: 2,
            ..Snapshot::default()
        };
        let text = metrics.expose(&snapshot, &GroupFigures::default(), Detail::Topics);
        assert_eq!(text.matches("# EOF").count(), 1, "{text}");
        assert!(text.contains("tidelog_produced_bytes_total 42"), "{text}");
        assert!(text.contains("tidelog_offline_partitions 2"), "{text}");
        assert!(
            text.contains("tidelog_produce_duration_seconds_count 1"),
            "{text}"
        );
    }
}
