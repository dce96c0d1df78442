//! Records as an application gives and gets them.

use bytes::Bytes;
use tidelog_record::Headers;
use tidelog_types::{PartitionIndex, TopicId, TopicName, TopicPartition};

/// A record's header. Keys may repeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The key of the header.
    pub key: String,
    /// The value; `None` is null, which is not the same as empty.
    pub value: Option<Bytes>,
}

/// A record to send.
///
/// ```
/// use tidelog_client::Record;
///
/// let record = Record::to("orders").key("customer-7").value("{\"items\": 3}").header("type", "order");
/// assert_eq!(record.topic, "orders");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The topic's name.
    pub topic: String,
    /// The partition; `None` lets the partitioner choose: by the key's murmur2 as Kafka does, or
    /// sticky without a key.
    pub partition: Option<u32>,
    /// The key; `None` is null.
    pub key: Option<Bytes>,
    /// The value; `None` is null, which is not the same as empty: in a compacted topic a tombstone.
    pub value: Option<Bytes>,
    /// The headers, in order.
    pub headers: Vec<Header>,
    /// Milliseconds since 1970, not negative; `None` means the moment it is enqueued.
    pub timestamp_ms: Option<i64>,
}

impl Record {
    /// A record to a topic, with neither key nor value: both are null until they are given. So a
    /// key alone makes a tombstone.
    ///
    /// ```
    /// use tidelog_client::Record;
    ///
    /// let forgotten = Record::to("profiles").key("ada");
    /// assert_eq!(forgotten.value, None);
    /// ```
    pub fn to(topic: impl Into<String>) -> Self {
        Self {
            topic: topic.into(),
            partition: None,
            key: None,
            value: None,
            headers: Vec::new(),
            timestamp_ms: None,
        }
    }

    /// With this key.
    #[must_use]
    pub fn key(mut self, key: impl Into<Bytes>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// With this value.
    #[must_use]
    pub fn value(mut self, value: impl Into<Bytes>) -> Self {
        self.value = Some(value.into());
        self
    }

    /// With one header more.
    #[must_use]
    pub fn header(mut self, key: impl Into<String>, value: impl Into<Bytes>) -> Self {
        self.headers.push(Header {
            key: key.into(),
            value: Some(value.into()),
        });
        self
    }

    /// With one header more, whose value is null.
    #[must_use]
    pub fn null_header(mut self, key: impl Into<String>) -> Self {
        self.headers.push(Header {
            key: key.into(),
            value: None,
        });
        self
    }

    /// To this partition, whatever the key.
    #[must_use]
    pub fn partition(mut self, partition: u32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// With this timestamp, milliseconds since 1970. A negative one is refused when the record is
    /// sent.
    #[must_use]
    pub fn timestamp_ms(mut self, timestamp_ms: i64) -> Self {
        self.timestamp_ms = Some(timestamp_ms);
        self
    }

    /// The most that it takes in a batch, bytes: what buffer memory is charged with.
    pub(crate) fn size_bytes(&self) -> usize {
        /// Length, attributes, timestamp and offset deltas, key and value lengths, header count:
        /// varints at their longest.
        const FRAMING: usize = 5 + 1 + 10 + 5 + 5 + 5 + 5;
        /// Two lengths a header.
        const HEADER_FRAMING: usize = 10;
        let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let headers: usize = self
            .headers
            .iter()
            .map(|h| HEADER_FRAMING + h.key.len() + length(&h.value))
            .sum();
        FRAMING + length(&self.key) + length(&self.value) + headers
    }
}

/// Where a sent record stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordMetadata {
    /// The topic of the record.
    pub topic: TopicName,
    /// The partition, from 0, that holds the record.
    pub partition: u32,
    /// The offset. With acks=none the broker tells none, and this is 0.
    pub offset: u64,
    /// The record's timestamp, milliseconds since 1970.
    pub timestamp_ms: i64,
}

/// A record that was read. Key, value and header values are slices of the batch it came in: holding
/// one of them holds the batch in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumedRecord {
    /// The topic of the record.
    pub topic: TopicName,
    /// The topic's id: one that is made anew under its name has another.
    pub topic_id: TopicId,
    /// The partition, from 0, that holds the record.
    pub partition: u32,
    /// The offset in the partition.
    pub offset: u64,
    /// Epoch of the leader that appended it.
    pub leader_epoch: u32,
    /// Milliseconds since 1970.
    pub timestamp_ms: i64,
    /// The key; `None` is null.
    pub key: Option<Bytes>,
    /// The value; `None` is null.
    pub value: Option<Bytes>,
    /// The headers, as they stand in the batch.
    pub headers: Headers,
}

impl ConsumedRecord {
    /// The partition it was read from.
    pub fn topic_partition(&self) -> TopicPartition {
        TopicPartition {
            topic: self.topic.clone(),
            partition: PartitionIndex(self.partition),
        }
    }
}
