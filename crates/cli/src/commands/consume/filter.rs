//! `--filter` and its kin: which records are shown.

use clap::Args;
use regex::bytes::Regex;
use tidelog_client::ConsumedRecord;

/// Flags that say which records are shown. All of them must match.
#[derive(Debug, Args)]
pub(super) struct FilterFlags {
    /// Show only records whose value holds a match of this regular expression; repeatable: all must
    /// match
    #[arg(long, value_name = "REGEX")]
    filter: Vec<Regex>,
    /// The same of the key
    #[arg(long, value_name = "REGEX")]
    filter_key: Vec<Regex>,
    /// The same of a header of this name
    #[arg(long, value_name = "NAME=REGEX", value_parser = of_header)]
    filter_header: Vec<(String, Regex)>,
}

fn of_header(text: &str) -> Result<(String, Regex), String> {
    let (name, regex) = text
        .split_once('=')
        .filter(|(name, _)| !name.is_empty())
        .ok_or_else(|| format!("{text:?} is not NAME=REGEX"))?;
    let regex = Regex::new(regex).map_err(|error| error.to_string())?;
    Ok((name.to_owned(), regex))
}

impl FilterFlags {
    /// Whether a record is shown. Null matches nothing.
    pub(super) fn matches(&self, record: &ConsumedRecord) -> bool {
        let all = |filters: &[Regex], bytes: Option<&[u8]>| {
            filters
                .iter()
                .all(|filter| bytes.is_some_and(|bytes| filter.is_match(bytes)))
        };
        let header = |name: &str, filter: &Regex| {
            record.headers.iter().any(|header| {
                header.key == name.as_bytes() && header.value.is_some_and(|value| filter.is_match(value))
            })
        };
        all(&self.filter, record.value.as_deref())
            && all(&self.filter_key, record.key.as_deref())
            && self
                .filter_header
                .iter()
                .all(|(name, filter)| header(name, filter))
    }
}
