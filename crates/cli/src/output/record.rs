//! A record as programs get it: JSON with text where the bytes are UTF-8, base64 where they are
//! not.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

/// A record to show, borrowed from wherever it was read.
#[derive(Debug, Clone)]
pub(crate) struct ShownRecord<'a> {
    /// The topic's name, or its id where only that is known.
    pub(crate) topic: &'a str,
    /// The partition's number.
    pub(crate) partition: u32,
    /// The offset.
    pub(crate) offset: u64,
    /// Epoch of the leader that appended it.
    pub(crate) leader_epoch: u32,
    /// Milliseconds since 1970.
    pub(crate) timestamp_ms: i64,
    /// The key.
    pub(crate) key: Option<&'a [u8]>,
    /// The value.
    pub(crate) value: Option<&'a [u8]>,
    /// The headers, in order.
    pub(crate) headers: Vec<ShownHeader<'a>>,
}

/// A header to show.
#[derive(Debug, Clone)]
pub(crate) struct ShownHeader<'a> {
    /// The key; of a broken producer it may be anything.
    pub(crate) key: &'a [u8],
    /// The value.
    pub(crate) value: Option<&'a [u8]>,
}

/// `name` with text or null, or `name_base64` for what is not UTF-8.
fn entry<M: SerializeMap>(
    map: &mut M,
    name: [&'static str; 2],
    bytes: Option<&[u8]>,
) -> Result<(), M::Error> {
    match bytes.map(|bytes| std::str::from_utf8(bytes).map_err(|_| bytes)) {
        None => map.serialize_entry(name[0], &None::<&str>),
        Some(Ok(text)) => map.serialize_entry(name[0], text),
        Some(Err(bytes)) => map.serialize_entry(name[1], &STANDARD.encode(bytes)),
    }
}

const KEY: [&str; 2] = ["key", "key_base64"];
const VALUE: [&str; 2] = ["value", "value_base64"];

impl Serialize for ShownRecord<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(7))?;
        map.serialize_entry("topic", self.topic)?;
        map.serialize_entry("partition", &self.partition)?;
        map.serialize_entry("offset", &self.offset)?;
        map.serialize_entry("timestamp", &self.timestamp_ms)?;
        entry(&mut map, KEY, self.key)?;
        entry(&mut map, VALUE, self.value)?;
        map.serialize_entry("headers", &self.headers)?;
        map.end()
    }
}

impl Serialize for ShownHeader<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        entry(&mut map, KEY, Some(self.key))?;
        entry(&mut map, VALUE, self.value)?;
        map.end()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A record of topic `flights`, partition 3, offset 41.
    pub(crate) fn record<'a>(key: Option<&'a [u8]>, value: Option<&'a [u8]>) -> ShownRecord<'a> {
        ShownRecord {
            topic: "flights",
            partition: 3,
            offset: 41,
            leader_epoch: 2,
            timestamp_ms: 1_700_000_000_000,
            key,
            value,
            headers: Vec::new(),
        }
    }

    fn json(record: &ShownRecord<'_>) -> String {
        serde_json::to_string(record).unwrap()
    }

    #[test]
    fn text_is_text_and_null_is_null() {
        assert_eq!(
            json(&record(None, Some("né".as_bytes()))),
            r#"{"topic":"flights","partition":3,"offset":41,"timestamp":1700000000000,"key":null,"value":"né","headers":[]}"#
        );
        assert!(json(&record(Some(b""), None)).contains(r#""key":"","value":null"#));
    }

    #[test]
    fn what_is_not_utf8_is_base64_under_another_name() {
        let text = json(&record(Some(&[0xff, 0]), Some(&[0xc3])));
        assert!(
            text.contains(r#""key_base64":"/wA=","value_base64":"ww==""#),
            "{text}"
        );
        assert!(
            !text.contains(r#""key":"#) && !text.contains(r#""value":"#),
            "{text}"
        );
    }

    #[test]
    fn headers_keep_their_order_and_repeat() {
        let mut shown = record(None, None);
        shown.headers = vec![
            ShownHeader {
                key: b"b",
                value: Some(b"1"),
            },
            ShownHeader {
                key: b"a",
                value: None,
            },
            ShownHeader {
                key: b"b",
                value: Some(&[0xfe]),
            },
        ];
        let text = json(&shown);
        let expected = r#""headers":[{"key":"b","value":"1"},{"key":"a","value":null},{"key":"b","value_base64":"/g=="}]"#;
        assert!(text.contains(expected), "{text}");
    }
}
