//! What RocksDB does not tell by a failed write: how its background work goes.

use std::time::{Duration, Instant};

use rocksdb::DB;
use rocksdb::properties::{BACKGROUND_ERRORS, IS_WRITE_STOPPED};

/// How long RocksDB may refuse writes (it does while flushes or compactions are behind) before that
/// counts as failed.
const MAX_WRITE_STOP: Duration = Duration::from_mins(1);

/// Looks for errors of a database's background work. Both databases of a broker are watched, and an
/// error is fatal to both.
#[derive(Debug, Default)]
pub struct BackgroundWatch {
    write_stopped_since: Option<Instant>,
}

impl BackgroundWatch {
    /// Looks now; an error says what is wrong. Cheap enough for every second, or every write.
    pub fn look(&mut self, db: &DB) -> Result<(), String> {
        let property = |name| db.property_int_value(name).ok().flatten().unwrap_or(0);
        let errors = property(BACKGROUND_ERRORS);
        if errors > 0 {
            return Err(format!(
                "RocksDB had {errors} errors in background work; see its LOG file"
            ));
        }
        if property(IS_WRITE_STOPPED) == 0 {
            self.write_stopped_since = None;
        } else if self
            .write_stopped_since
            .get_or_insert_with(Instant::now)
            .elapsed()
            >= MAX_WRITE_STOP
        {
            let waited = MAX_WRITE_STOP.as_secs();
            return Err(format!(
                "RocksDB has refused writes for {waited} s; see its LOG file"
            ));
        }
        Ok(())
    }
}
