//! Named maxima that more than one crate obeys. A limit of one crate alone stands in that crate.

/// Largest record batch a topic takes by default (max.message.bytes), bytes. Kafka's value.
pub const DEFAULT_MAX_MESSAGE_BYTES: u32 = 1_048_588;
/// Largest value max.message.bytes may be set to, bytes: one batch must fit a gRPC message with
/// room to spare.
pub const MAX_MAX_MESSAGE_BYTES: u32 = 16 * 1024 * 1024;
/// Largest gRPC message a broker takes from a client or a peer, bytes.
pub const MAX_GRPC_MESSAGE_BYTES: usize = 64 * 1024 * 1024;
/// Most partitions one topic may have.
pub const MAX_PARTITIONS_PER_TOPIC: u32 = 10_000;
/// Most partitions a cluster may have.
pub const MAX_PARTITIONS_PER_CLUSTER: u32 = 100_000;
/// Most topics a cluster may have.
pub const MAX_TOPICS: u32 = 20_000;
/// Most partitions one produce or fetch request may name.
pub const MAX_PARTITIONS_PER_REQUEST: usize = 10_000;
/// Most topics one metadata request may name.
pub const MAX_TOPICS_PER_REQUEST: usize = 10_000;
/// Most bytes a single fetch is answered with (fetch.max.bytes), bytes.
pub const MAX_FETCH_BYTES: u32 = 50 * 1024 * 1024;
/// Longest a fetch may ask to wait, milliseconds.
pub const MAX_FETCH_WAIT_MS: u32 = 30_000;
/// Most entries one page of a list holds.
pub const MAX_PAGE_SIZE: u32 = 1_000;
/// How many partitions `__consumer_offsets` has, for ever: a group's coordinator is derived from
/// it.
pub const CONSUMER_OFFSETS_PARTITIONS: u32 = 16;
/// Longest metadata of a committed offset, bytes. Kafka's value.
pub const MAX_OFFSET_METADATA_BYTES: usize = 4096;
/// Most metadata in one commit of several offsets, all together, bytes.
pub const MAX_COMMIT_METADATA_BYTES: usize = 256 * 1024;
