//! Where a broker was bound, for whoever started it on port 0.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

/// What was bound. It stands in `addresses.json` in the data directory too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Addresses {
    /// Client listeners by name, as they are advertised.
    pub client: BTreeMap<String, String>,
    /// For other brokers.
    pub peer: String,
    /// Health and metrics.
    pub http: String,
}

impl Addresses {
    /// The file's name.
    pub const FILE: &'static str = "addresses.json";

    /// Writes the file, whole or not at all.
    pub(super) fn write(&self, data_dir: &Path) -> std::io::Result<()> {
        let text = serde_json::to_string_pretty(self).map_err(std::io::Error::other)?;
        let part = data_dir.join("addresses.json.part");
        std::fs::write(&part, text + "\n")?;
        std::fs::rename(part, data_dir.join(Self::FILE))
    }
}
