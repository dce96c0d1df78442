//! Named maxima of groups. Limits that other crates obey too stand in `tidelog_types::limits`.

use std::time::Duration;

/// Most members of one group (Kafka's group.consumer.max.size is unlimited by default; here the
/// records of one decision must fit a batch).
pub const MAX_MEMBERS_PER_GROUP: usize = 1_000;
/// Most topic names in one subscription.
pub const MAX_SUBSCRIBED_TOPICS: usize = 1_000;
/// Longest regular expression of a subscription, bytes.
pub const MAX_REGEX_BYTES: usize = 1_024;
/// Largest compiled regular expression, bytes.
pub const MAX_COMPILED_REGEX_BYTES: usize = 1024 * 1024;
/// Most partitions one commit may name: its records must fit one batch.
pub const MAX_OFFSETS_PER_COMMIT: usize = 4_000;
/// Longest client id or host that is kept, bytes; the rest is cut off.
pub const MAX_CLIENT_NAME_BYTES: usize = 255;
/// Shortest and longest max.poll.interval; what lies outside is moved to the nearer.
pub const MAX_POLL_INTERVAL_BOUNDS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_hours(24));
/// max.poll.interval of a member that names none.
pub const DEFAULT_MAX_POLL_INTERVAL: Duration = Duration::from_mins(5);
/// Most groups of one coordinator.
pub const MAX_GROUPS: usize = 100_000;
/// How long a deadline is put off whose decision could not be appended.
pub const RETRY_AFTER: Duration = Duration::from_secs(1);
/// How often empty groups are looked at for offsets to expire (Kafka's
/// offsets.retention.check.interval.ms).
pub const EXPIRY_CHECK_INTERVAL: Duration = Duration::from_mins(10);
