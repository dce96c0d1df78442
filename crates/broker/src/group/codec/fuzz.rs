//! Records of `__consumer_offsets` that may be anything.

use super::{decode, encode};

/// The key's length, the key, and the value; without one it is a tombstone.
pub(crate) fn target(data: &[u8]) {
    let Some((&length, rest)) = data.split_first() else {
        return;
    };
    let Some((key, value)) = rest.split_at_checked(length.into()) else {
        return;
    };
    let value = (!value.is_empty()).then_some(value);
    if let Ok(Some(record)) = decode(key, value) {
        let (key, value) = encode(&record);
        assert_eq!(
            decode(&key, value.as_deref()),
            Ok(Some(record)),
            "what was read can be written and read"
        );
    }
}
