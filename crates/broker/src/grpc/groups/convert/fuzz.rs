//! Requests of groups that may be anything.

use prost::Message as _;

use super::*;

/// Reads the bytes as each request that carries more than an id.
pub(crate) fn target(data: &[u8]) {
    let topics = Topics::new([]);
    if let Ok(message) = v1::Join::decode(data) {
        let _ = join(message, "member".to_owned(), "host".to_owned(), &topics);
    }
    if let Ok(message) = v1::Subscribe::decode(data) {
        let _ = subscription(message);
    }
    if let Ok(message) = v1::OffsetsRequest::decode(data) {
        let _ = partitions(&message.partitions, &topics);
    }
    if let Ok(message) = v1::CommitRequest::decode(data) {
        let _ = group_id(&message.group_id);
        let _ = member(&message.member_id, message.member_epoch);
        let _ = offsets_to_commit(message.offsets);
    }
}
