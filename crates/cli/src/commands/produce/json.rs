//! A line of JSON as a record: what `tidelog consume -o json` shows.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde::de::IgnoredAny;
use tidelog_client::Header;

/// What a line says. Where it stood, in which topic and at which offset, is read and not used.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct JsonRecord {
    pub(super) partition: Option<u32>,
    pub(super) timestamp_ms: Option<i64>,
    pub(super) key: Option<Bytes>,
    pub(super) value: Option<Bytes>,
    pub(super) headers: Vec<Header>,
}

/// A name that is not known is an error: a misspelt "value" would make a tombstone of every record.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    #[serde(default)]
    partition: Option<u32>,
    #[serde(default)]
    timestamp: Option<i64>,
    #[serde(default)]
    key: Option<String>,
    #[serde(default)]
    key_base64: Option<String>,
    #[serde(default)]
    value: Option<String>,
    #[serde(default)]
    value_base64: Option<String>,
    #[serde(default)]
    headers: Vec<LineHeader>,
    #[serde(default, rename = "topic")]
    _topic: IgnoredAny,
    #[serde(default, rename = "offset")]
    _offset: IgnoredAny,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LineHeader {
    key: String,
    #[serde(default)]
    value: Option<String>,
    #[serde(default)]
    value_base64: Option<String>,
}

impl JsonRecord {
    /// Reads a line.
    pub(super) fn parse(line: &[u8]) -> Result<Self, String> {
        let line: Line = serde_json::from_slice(line).map_err(|error| error.to_string())?;
        let header = |header: LineHeader| {
            Ok(Header {
                value: bytes("a header's value", header.value, header.value_base64)?,
                key: header.key,
            })
        };
        Ok(Self {
            partition: line.partition,
            timestamp_ms: line.timestamp,
            key: bytes("key", line.key, line.key_base64)?,
            value: bytes("value", line.value, line.value_base64)?,
            headers: line
                .headers
                .into_iter()
                .map(header)
                .collect::<Result<_, String>>()?,
        })
    }
}

/// Text, bytes in base64, or null.
fn bytes(what: &str, text: Option<String>, base64: Option<String>) -> Result<Option<Bytes>, String> {
    match (text, base64) {
        (Some(_), Some(_)) => Err(format!("{what} is given as text and as base64")),
        (Some(text), None) => Ok(Some(text.into())),
        (None, Some(base64)) => {
            let bytes = STANDARD
                .decode(base64)
                .map_err(|error| format!("{what} is no base64: {error}"))?;
            Ok(Some(bytes.into()))
        }
        (None, None) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::output::{ShownHeader, ShownRecord};

    type Given = Option<Vec<u8>>;

    fn given() -> impl Strategy<Value = Given> {
        proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20))
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back(
            key in given(),
            value in given(),
            headers in proptest::collection::vec((".{0,8}", given()), 0..3),
            timestamp_ms in any::<i64>(),
            partition in any::<u32>(),
        ) {
            let shown = ShownRecord {
                topic: "flights",
                partition,
                offset: 41,
                leader_epoch: 2,
                timestamp_ms,
                key: key.as_deref(),
                value: value.as_deref(),
                headers: headers
                    .iter()
                    .map(|(key, value)| ShownHeader { key: key.as_bytes(), value: value.as_deref() })
                    .collect(),
            };
            let line = serde_json::to_vec(&shown).unwrap();
            let read = JsonRecord::parse(&line).unwrap();
            let expected = JsonRecord {
                partition: Some(partition),
                timestamp_ms: Some(timestamp_ms),
                key: key.map(Bytes::from),
                value: value.map(Bytes::from),
                headers: headers
                    .into_iter()
                    .map(|(key, value)| Header { key, value: value.map(Bytes::from) })
                    .collect(),
            };
            prop_assert_eq!(read, expected);
        }
    }

    #[test]
    fn everything_may_be_left_out() {
        assert_eq!(JsonRecord::parse(b"{}").unwrap(), JsonRecord::default());
        let read = JsonRecord::parse(br#"{"value":"v"}"#).unwrap();
        assert_eq!((read.value, read.partition), (Some("v".into()), None));
    }

    #[test]
    fn what_is_no_record_is_refused_with_why() {
        for (line, why) in [
            (r#"{"valeu":"v"}"#, "valeu"),
            (r#"{"value":"v","value_base64":"dg=="}"#, "text and as base64"),
            (r#"{"key_base64":"?"}"#, "no base64"),
            (r#"{"value":3}"#, "string"),
            (r#"{"headers":[{"value":"v"}]}"#, "key"),
            ("plain", "expected"),
            ("", "EOF"),
        ] {
            let error = JsonRecord::parse(line.as_bytes()).unwrap_err();
            assert!(error.contains(why), "{line}: {error}");
        }
    }
}
