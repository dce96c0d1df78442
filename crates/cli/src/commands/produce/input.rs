//! What the input's lines mean: how each becomes a record.

use bytes::Bytes;
use clap::{Args, ValueEnum};
use tidelog_client::{Header, Record};

use super::json::JsonRecord;
use crate::args::moment;
use crate::escape::unescape;

/// Flags that say what the input means.
#[derive(Debug, Args)]
pub(super) struct InputFlags {
    /// What a line of the input is
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t)]
    input: InputFormat,
    /// Each file, or all of standard input, is the value of one record
    #[arg(long, conflicts_with_all = ["input", "key_delimiter", "header_delimiter"])]
    pub(super) whole_file: bool,
    /// A key for every record that brings none
    #[arg(short, long, value_name = "KEY", conflicts_with = "key_delimiter")]
    key: Option<String>,
    /// What stands between key and value in a line, e.g. '\t' or ':'; a line without it has no key
    #[arg(short = 'K', long, value_name = "TEXT", value_parser = delimiter, conflicts_with = "input")]
    key_delimiter: Option<Bytes>,
    /// What stands between a line's headers and the rest, e.g. '\t': headers are
    /// KEY=VALUE,KEY=VALUE as %h shows them, or nothing
    #[arg(long, value_name = "TEXT", value_parser = delimiter, conflicts_with = "input")]
    header_delimiter: Option<Bytes>,
    /// A header for every record; repeatable
    #[arg(short = 'H', long, value_name = "KEY=VALUE", value_parser = header)]
    header: Vec<Header>,
    /// An empty value is null, which in a compacted topic deletes the key
    #[arg(short = 'Z', long)]
    tombstone: bool,
    /// A key or a value that is exactly this text is null
    #[arg(long, value_name = "TEXT", value_parser = delimiter, conflicts_with = "input")]
    null_marker: Option<Bytes>,
    /// The partition, instead of the one that a line of JSON names or that the key chooses
    #[arg(short, long, value_name = "N")]
    pub(super) partition: Option<u32>,
    /// The timestamp of every record instead of a line's or the present: milliseconds since 1970,
    /// @2026-11-30T14:00Z, @2026-11-30, or -1h for an hour ago
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = timestamp)]
    timestamp: Option<i64>,
}

/// What a line is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum InputFormat {
    /// A record's value, or what the delimiters make of it
    #[default]
    Text,
    /// {partition, timestamp, key, value, headers} as `consume -o json` shows it, bytes as
    /// `key_base64` and `value_base64`; all may be left out
    Json,
}

impl InputFlags {
    /// The record of a line; `None` for a line that holds none. An error says what is wrong with
    /// the line.
    pub(super) fn record(&self, topic: &str, line: Bytes) -> Result<Option<Record>, String> {
        let mut record = match self.input {
            InputFormat::Json if line.iter().all(u8::is_ascii_whitespace) => return Ok(None),
            InputFormat::Json => of_json(topic, &line)?,
            InputFormat::Text => self.of_text(topic, line)?,
        };
        record.headers.extend(self.header.iter().cloned());
        if record.key.is_none() {
            record.key = self.key.clone().map(Bytes::from);
        }
        if self.tombstone && record.value.as_ref().is_some_and(Bytes::is_empty) {
            record.value = None;
        }
        record.partition = self.partition.or(record.partition);
        record.timestamp_ms = self.timestamp.or(record.timestamp_ms);
        Ok(Some(record))
    }

    fn of_text(&self, topic: &str, line: Bytes) -> Result<Record, String> {
        let mut record = Record::to(topic);
        let mut rest = line;
        if let Some(delimiter) = &self.header_delimiter {
            let (headers, after) = split(rest, delimiter);
            let headers =
                headers.ok_or("it has no header delimiter; an empty list of headers needs one, too")?;
            record.headers = list_of_headers(&headers)?;
            rest = after;
        }
        if let Some(delimiter) = &self.key_delimiter {
            (record.key, rest) = split(rest, delimiter);
        }
        record.value = Some(rest);
        if let Some(marker) = &self.null_marker {
            record.key = record.key.filter(|key| key != marker);
            record.value = record.value.filter(|value| value != marker);
        }
        Ok(record)
    }
}

fn of_json(topic: &str, line: &[u8]) -> Result<Record, String> {
    let parsed = JsonRecord::parse(line)?;
    Ok(Record {
        partition: parsed.partition,
        key: parsed.key,
        value: parsed.value,
        headers: parsed.headers,
        timestamp_ms: parsed.timestamp_ms,
        ..Record::to(topic)
    })
}

/// What stands before the first delimiter, if there is one, and the rest.
fn split(line: Bytes, delimiter: &[u8]) -> (Option<Bytes>, Bytes) {
    match line
        .windows(delimiter.len())
        .position(|window| window == delimiter)
    {
        Some(at) => (Some(line.slice(..at)), line.slice(at + delimiter.len()..)),
        None => (None, line),
    }
}

fn list_of_headers(text: &Bytes) -> Result<Vec<Header>, String> {
    let text = std::str::from_utf8(text).map_err(|_| "its headers are not UTF-8")?;
    text.split(',')
        .filter(|one| !one.is_empty())
        .map(header)
        .collect()
}

fn delimiter(text: &str) -> Result<Bytes, String> {
    let bytes = unescape(text)?;
    if bytes.is_empty() {
        return Err("an empty text marks nothing".to_owned());
    }
    Ok(bytes.into())
}

/// A number alone is a timestamp, as records have it; anything else is a moment as every command
/// writes it.
fn timestamp(text: &str) -> Result<i64, String> {
    text.parse().or_else(|_| moment(text))
}

/// A key alone, without `=`, has null for its value, as `%h` shows it.
fn header(text: &str) -> Result<Header, String> {
    let (key, value) = match text.split_once('=') {
        Some((key, value)) => (key, Some(Bytes::from(value.to_owned()))),
        None => (text, None),
    };
    if key.is_empty() {
        return Err(format!("{text:?} is not KEY=VALUE"));
    }
    Ok(Header {
        key: key.to_owned(),
        value,
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        flags: InputFlags,
    }

    fn record(words: &[&str], line: &'static str) -> Record {
        let parsed = Line::try_parse_from([&["tidelog"], words].concat()).unwrap();
        parsed.flags.record("t", line.into()).unwrap().unwrap()
    }

    fn refused(words: &[&str], line: &'static str) -> String {
        let parsed = Line::try_parse_from([&["tidelog"], words].concat()).unwrap();
        parsed.flags.record("t", line.into()).unwrap_err()
    }

    fn key_and_value(words: &[&str], line: &'static str) -> (Option<Bytes>, Option<Bytes>) {
        let record = record(words, line);
        (record.key, record.value)
    }

    #[test]
    fn a_line_is_split_at_the_first_delimiter() {
        let split = |line, by| key_and_value(&["-K", by], line);
        assert_eq!(split("k:v:w", ":"), (Some("k".into()), Some("v:w".into())));
        assert_eq!(split(":v", ":"), (Some("".into()), Some("v".into())));
        assert_eq!(split("no key", "::"), (None, Some("no key".into())));
        assert_eq!(split("k::v", "::"), (Some("k".into()), Some("v".into())));
        assert_eq!(split("k\tv", r"\t"), (Some("k".into()), Some("v".into())));
    }

    #[test]
    fn a_delimiter_has_escapes_and_is_not_empty() {
        assert_eq!(delimiter(r"\t").unwrap(), "\t");
        assert!(delimiter("").is_err() && delimiter(r"\q").is_err());
    }

    #[test]
    fn a_header_is_a_key_and_a_value_or_null() {
        let is = |text, key: &str, value: Option<&'static str>| {
            let header = header(text).unwrap();
            assert_eq!((header.key.as_str(), header.value), (key, value.map(Bytes::from)));
        };
        is("a=b=c", "a", Some("b=c"));
        is("a=", "a", Some(""));
        is("a", "a", None);
        assert!(header("=b").is_err());
    }

    #[test]
    fn headers_of_a_line_stand_before_key_and_value() {
        let words = ["--header-delimiter", r"\t", "-K", r"\t", "-H", "all=1"];
        let read = record(&words, "a=1,b\tk\tv");
        let keys: Vec<&str> = read.headers.iter().map(|header| header.key.as_str()).collect();
        assert_eq!(keys, ["a", "b", "all"]);
        assert_eq!((read.key, read.value), (Some("k".into()), Some("v".into())));
        assert_eq!(record(&words, "\tk\tv").headers.len(), 1);
        assert!(refused(&words, "no delimiter").contains("header delimiter"));
        assert!(refused(&words, "=1\tk\tv").contains("KEY=VALUE"));
    }

    #[test]
    fn null_is_asked_for() {
        assert_eq!(key_and_value(&["-K", ":"], "k:").1, Some("".into()));
        assert_eq!(key_and_value(&["-K", ":", "-Z"], "k:"), (Some("k".into()), None));
        let marked = ["-K", ":", "--null-marker", "NULL"];
        assert_eq!(key_and_value(&marked, "k:NULL"), (Some("k".into()), None));
        assert_eq!(key_and_value(&marked, "NULL:v"), (None, Some("v".into())));
        assert_eq!(key_and_value(&marked, "k:NULLS").1, Some("NULLS".into()));
    }

    #[test]
    fn the_command_line_wins_over_a_line_except_for_its_key() {
        let line =
            r#"{"partition":1,"timestamp":5,"key":"k","value":"v","headers":[{"key":"a","value":"1"}]}"#;
        let read = record(&["-i", "json"], line);
        assert_eq!((read.partition, read.timestamp_ms), (Some(1), Some(5)));
        let words = [
            "-i",
            "json",
            "-p",
            "2",
            "--timestamp",
            "9",
            "-k",
            "other",
            "-H",
            "b=2",
        ];
        let read = record(&words, line);
        assert_eq!((read.partition, read.timestamp_ms), (Some(2), Some(9)));
        assert_eq!((read.key, read.headers.len()), (Some("k".into()), 2));
    }

    #[test]
    fn a_timestamp_is_written_as_records_have_it_or_like_any_moment() {
        let stamped = |text| record(&["--timestamp", text], "v").timestamp_ms;
        for written in ["1796047200000", "@1796047200000", "@2026-11-30T14:00Z"] {
            assert_eq!(stamped(written), Some(1_796_047_200_000), "{written}");
        }
        assert_eq!(stamped("-5"), Some(-5));
        assert!(stamped("-1h") < stamped("-1m"));
    }

    #[test]
    fn an_empty_line_of_json_is_nothing_and_a_broken_one_an_error() {
        let parsed = Line::try_parse_from(["tidelog", "-i", "json"]).unwrap();
        assert_eq!(parsed.flags.record("t", "  ".into()).unwrap(), None);
        assert!(refused(&["-i", "json"], "{").contains("EOF"));
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        for words in [
            &["-i", "json", "-K", ":"][..],
            &["-i", "json", "--null-marker", "x"],
            &["--whole-file", "-K", ":"],
            &["-k", "a", "-K", ":"],
        ] {
            assert!(
                Line::try_parse_from([&["tidelog"], words].concat()).is_err(),
                "{words:?}"
            );
        }
    }
}
