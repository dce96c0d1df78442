//! What a broker tells of itself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidelog_cluster::sessions::is_stale;
use tidelog_proto::v1;
use tidelog_types::BrokerId;

use crate::health::Health;

/// The space on the filesystem that holds the data directory, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskSpace {
    /// How large it is.
    pub total_bytes: u64,
    /// How much of it is free.
    pub free_bytes: u64,
}

/// The broker, as it describes itself. Cheap to clone.
#[derive(Clone)]
pub struct AboutBroker {
    pub broker: BrokerId,
    /// Its release and revision.
    pub version: Arc<str>,
    /// When it started.
    pub started: Instant,
    /// How often it sends heartbeats to the metadata leader.
    pub heartbeat_interval: Duration,
    /// Whether it is ready.
    pub health: Arc<dyn Health>,
    /// Asks for its disk.
    pub disk: Arc<dyn Fn() -> DiskSpace + Send + Sync>,
}

impl AboutBroker {
    /// How it stands to its cluster at this moment.
    pub fn standing(&self) -> v1::BrokerStanding {
        let since_contact = self.health.since_contact();
        v1::BrokerStanding {
            broker_id: self.broker.get(),
            contact_ms_ago: since_contact.map(|since| since.as_millis() as u64),
            stale: is_stale(since_contact, self.heartbeat_interval),
            unready_reasons: self.health.unready_reasons(),
        }
    }

    /// What the broker tells of itself.
    pub fn describe(&self) -> v1::DescribeBrokerResponse {
        let disk = (self.disk)();
        v1::DescribeBrokerResponse {
            broker_id: self.broker.get(),
            version: self.version.to_string(),
            uptime_ms: self.started.elapsed().as_millis() as u64,
            disk_total_bytes: disk.total_bytes,
            disk_free_bytes: disk.free_bytes,
            standing: Some(self.standing()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Broker(Option<Duration>);

    impl Health for Broker {
        fn unready_reasons(&self) -> Vec<String> {
            vec!["not registered with the cluster yet".to_owned()]
        }

        fn since_contact(&self) -> Option<Duration> {
            self.0
        }
    }

    fn standing(since_contact: Option<Duration>) -> v1::BrokerStanding {
        let about = AboutBroker {
            broker: BrokerId::new(2).unwrap(),
            version: "1.2.3".into(),
            started: Instant::now(),
            heartbeat_interval: Duration::from_millis(500),
            health: Arc::new(Broker(since_contact)),
            disk: Arc::new(|| DiskSpace {
                total_bytes: 10,
                free_bytes: 4,
            }),
        };
        let described = about.describe();
        assert_eq!(
            (described.version.as_str(), described.disk_free_bytes),
            ("1.2.3", 4)
        );
        assert_eq!(described.standing, Some(about.standing()));
        about.standing()
    }

    #[test]
    fn what_was_told_without_contact_is_stale_after_a_while() {
        let fresh = standing(Some(Duration::from_secs(2)));
        assert_eq!((fresh.stale, fresh.contact_ms_ago), (false, Some(2_000)));
        let stale = standing(Some(Duration::from_millis(2_001)));
        assert_eq!((stale.stale, stale.contact_ms_ago), (true, Some(2_001)));
        let never = standing(None);
        assert_eq!((never.stale, never.contact_ms_ago), (true, None));
        assert_eq!(never.unready_reasons.len(), 1);
    }
}
