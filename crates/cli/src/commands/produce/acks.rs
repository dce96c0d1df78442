//! `-o json`: a line for each record that is acknowledged.

use anyhow::Result;
use serde::Serialize;
use tidelog_client::RecordMetadata;

use crate::exit::is_broken_pipe;
use crate::output::{Stdout, write_json_line};

/// From this size on they are written before more is sent, bytes.
const ENOUGH_BYTES: usize = 32 * 1024;

/// Where a record stands, as programs get it.
#[derive(Debug, Serialize)]
struct ShownAck<'a> {
    /// Which of the records that were sent, from 1.
    record: u64,
    topic: &'a str,
    partition: u32,
    /// Null with acks=0: the broker tells none.
    offset: Option<u64>,
    timestamp: i64,
}

/// Prints acknowledgements, in the order in which they come.
#[derive(Debug)]
pub(super) struct Acks {
    out: Stdout,
    buffer: Vec<u8>,
    tells_offsets: bool,
    /// Whoever read them has enough. Records are sent all the same.
    unread: bool,
}

impl Acks {
    pub(super) fn new(tells_offsets: bool) -> Self {
        Self {
            out: Stdout::start(),
            buffer: Vec::new(),
            tells_offsets,
            unread: false,
        }
    }

    pub(super) fn note(&mut self, record: u64, stored: &RecordMetadata) -> Result<()> {
        let shown = ShownAck {
            record,
            topic: stored.topic.as_str(),
            partition: stored.partition,
            offset: self.tells_offsets.then_some(stored.offset),
            timestamp: stored.timestamp_ms,
        };
        write_json_line(&mut self.buffer, &shown)
    }

    pub(super) fn are_enough(&self) -> bool {
        self.buffer.len() >= ENOUGH_BYTES
    }

    /// Writes what was noted.
    pub(super) async fn flush(&mut self) -> Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let buffer = std::mem::take(&mut self.buffer);
        if self.unread {
            return Ok(());
        }
        match self.out.write(buffer).await {
            Ok(buffer) => self.buffer = buffer,
            Err(error) if is_broken_pipe(&error) => self.unread = true,
            Err(error) => return Err(error),
        }
        Ok(())
    }
}
