//! The real data: departures from New York in 2013 (nycflights13, public domain).

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use flate2::read::MultiGzDecoder;

/// One departure: a line of the table, and the key it is produced with.
#[derive(Debug, Clone)]
pub struct Flight {
    /// The tail number; `None` where the table says `NA`.
    pub key: Option<String>,
    /// The line as it stands in the table.
    pub line: String,
}

/// Column of the tail number.
const TAIL_NUMBER: usize = 11;

/// The first week's table, which lies in the repository.
pub fn week_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/flights-week.csv")
}

/// Every departure of a table, without its header.
pub fn read(path: &Path) -> Result<Vec<Flight>> {
    let text = text_of(path).with_context(|| format!("reading {}", path.display()))?;
    let mut flights = Vec::new();
    for line in text.lines().skip(1) {
        // No field of this table is quoted, so a comma is always a separator.
        let tail = line
            .split(',')
            .nth(TAIL_NUMBER)
            .with_context(|| format!("no tail number in {line:?}"))?;
        flights.push(Flight {
            key: (tail != "NA").then(|| tail.to_owned()),
            line: line.to_owned(),
        });
    }
    Ok(flights)
}

/// The file's text, unpacked if its name ends in `.gz`.
fn text_of(path: &Path) -> Result<String> {
    if path.extension().is_none_or(|extension| extension != "gz") {
        return Ok(std::fs::read_to_string(path)?);
    }
    let mut text = String::new();
    MultiGzDecoder::new(File::open(path)?).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_week_is_whole_and_has_null_keys() {
        let flights = read(&week_file()).unwrap();
        assert_eq!(flights.len(), 6099);
        let without_key = flights.iter().filter(|flight| flight.key.is_none()).count();
        assert!(
            without_key > 0 && without_key < 100,
            "{without_key} departures without a tail number"
        );
        assert_eq!(flights[0].key.as_deref(), Some("N14228"));
        assert!(flights[0].line.starts_with("2013,1,1,517,"));
    }
}
