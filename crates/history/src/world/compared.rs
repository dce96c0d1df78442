//! What one event showed of a replica and the committed log.

use std::sync::Arc;

use crate::event::Entry;

/// What a high watermark or a leadership led to. Each event has its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Compared {
    /// What it committed.
    pub(crate) committed: Vec<Arc<Entry>>,
    /// How its replica and the committed log differ.
    pub(crate) difference: Option<String>,
}
