//! `-f FORMAT`: a record as text, with kcat's and rpk's letters.

use std::io::{self, Write};
use std::str::FromStr;

use super::ShownRecord;
use crate::escape::unescape;

/// What the letters mean, for `--help`.
pub(crate) const HELP: &str = "\
Show each record by this: %t topic, %p partition, %o offset, %e leader epoch, %k key, %v or %s value, %T or %d \
timestamp in milliseconds since 1970, %h headers as k=v with commas, %K %V or %S lengths of key and value in bytes \
(-1 for null), %%; \\n \\t \\r \\0 \\\\ \\xHH are escapes. No line end is added";

/// A parsed format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Format {
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Literal(Vec<u8>),
    Topic,
    Partition,
    Offset,
    LeaderEpoch,
    Timestamp,
    Key,
    KeyLength,
    Value,
    ValueLength,
    Headers,
}

impl Piece {
    fn of_letter(letter: char) -> Option<Self> {
        Some(match letter {
            't' => Self::Topic,
            'p' => Self::Partition,
            'o' => Self::Offset,
            'e' => Self::LeaderEpoch,
            'T' | 'd' => Self::Timestamp,
            'k' => Self::Key,
            'K' => Self::KeyLength,
            'v' | 's' => Self::Value,
            'V' | 'S' => Self::ValueLength,
            'h' => Self::Headers,
            '%' => Self::Literal(b"%".to_vec()),
            _ => return None,
        })
    }

    fn write(&self, record: &ShownRecord<'_>, out: &mut impl Write) -> io::Result<()> {
        match self {
            Self::Literal(bytes) => out.write_all(bytes),
            Self::Topic => out.write_all(record.topic.as_bytes()),
            Self::Partition => write!(out, "{}", record.partition),
            Self::Offset => write!(out, "{}", record.offset),
            Self::LeaderEpoch => write!(out, "{}", record.leader_epoch),
            Self::Timestamp => write!(out, "{}", record.timestamp_ms),
            Self::Key => out.write_all(record.key.unwrap_or_default()),
            Self::KeyLength => write_length(record.key, out),
            Self::Value => out.write_all(record.value.unwrap_or_default()),
            Self::ValueLength => write_length(record.value, out),
            Self::Headers => write_headers(record, out),
        }
    }
}

fn write_length(bytes: Option<&[u8]>, out: &mut impl Write) -> io::Result<()> {
    match bytes {
        Some(bytes) => write!(out, "{}", bytes.len()),
        None => out.write_all(b"-1"),
    }
}

fn write_headers(record: &ShownRecord<'_>, out: &mut impl Write) -> io::Result<()> {
    for (index, header) in record.headers.iter().enumerate() {
        if index > 0 {
            out.write_all(b",")?;
        }
        out.write_all(header.key)?;
        if let Some(value) = header.value {
            out.write_all(b"=")?;
            out.write_all(value)?;
        }
    }
    Ok(())
}

impl Format {
    /// Writes one record.
    pub(crate) fn write(&self, record: &ShownRecord<'_>, out: &mut impl Write) -> io::Result<()> {
        self.pieces.iter().try_for_each(|piece| piece.write(record, out))
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text.chars();
        while let Some(c) = rest.next() {
            if c != '%' {
                literal.push(c);
                continue;
            }
            let letter = rest
                .next()
                .ok_or("a single % at the end: write %% for a percent sign")?;
            let piece =
                Piece::of_letter(letter).ok_or_else(|| format!("%{letter} means nothing: see --help"))?;
            if !literal.is_empty() {
                pieces.push(Piece::Literal(unescape(&std::mem::take(&mut literal))?));
            }
            pieces.push(piece);
        }
        if !literal.is_empty() {
            pieces.push(Piece::Literal(unescape(&literal)?));
        }
        Ok(Self { pieces })
    }
}

#[cfg(test)]
mod tests {
    use super::super::ShownHeader;
    use super::super::record::tests::record;
    use super::*;

    fn format(text: &str, record: &ShownRecord<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        text.parse::<Format>().unwrap().write(record, &mut out).unwrap();
        out
    }

    #[test]
    fn every_letter_shows_its_part() {
        let mut shown = record(Some(b"k1"), Some(b"value"));
        shown.headers = vec![
            ShownHeader {
                key: b"a",
                value: Some(b"1"),
            },
            ShownHeader {
                key: b"b",
                value: None,
            },
        ];
        let text = format(r"%t %p %o %e %T %d|%k:%v:%s|%K %V %S|%h|%%\n", &shown);
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "flights 3 41 2 1700000000000 1700000000000|k1:value:value|2 5 5|a=1,b|%\n"
        );
    }

    #[test]
    fn null_is_nothing_with_length_minus_one() {
        assert_eq!(format(r"[%k]%K [%v]%V", &record(None, Some(b""))), b"[]-1 []0");
    }

    #[test]
    fn bytes_pass_as_they_are() {
        assert_eq!(
            format(r"%v\x00", &record(None, Some(&[0xff, 0xfe]))),
            [0xff, 0xfe, 0]
        );
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for bad in ["%q", "%", r"a\q"] {
            assert!(bad.parse::<Format>().is_err(), "{bad}");
        }
    }
}
