//! What an application commits by itself.

/// An offset to commit, and a note that is kept with it.
///
/// ```
/// use tidelog_client::OffsetAndMetadata;
///
/// assert_eq!(OffsetAndMetadata::from(42), OffsetAndMetadata::new(42));
/// assert_eq!(OffsetAndMetadata::new(42).metadata("checkpoint 7").metadata, "checkpoint 7");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetAndMetadata {
    /// Where to go on: the offset of the last processed record, plus one.
    pub offset: u64,
    /// The application's note, 4096 bytes at most; whoever reads the committed offset reads it too.
    pub metadata: String,
}

impl OffsetAndMetadata {
    /// Without a note.
    pub fn new(offset: u64) -> Self {
        Self {
            offset,
            metadata: String::new(),
        }
    }

    /// With a note.
    #[must_use]
    pub fn metadata(mut self, metadata: impl Into<String>) -> Self {
        self.metadata = metadata.into();
        self
    }
}

impl From<u64> for OffsetAndMetadata {
    fn from(offset: u64) -> Self {
        Self::new(offset)
    }
}
