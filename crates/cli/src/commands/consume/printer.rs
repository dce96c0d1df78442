//! Records on standard output.

use std::io::Write;

use anyhow::Result;
use tidelog_client::ConsumedRecord;

use super::RecordFormat;
use crate::output::{Format, ShownHeader, ShownRecord, Stdout, write_json_line};

/// Most records that are printed before they are flushed.
pub(super) const MAX_UNFLUSHED: usize = 1_000;
/// From so many bytes on they are flushed.
const MAX_BYTES: usize = 256 * 1024;

/// Prints records as the flags say.
pub(super) struct Printer {
    out: Stdout,
    buffer: Vec<u8>,
    output: RecordFormat,
    format: Option<Format>,
}

impl Printer {
    pub(super) fn new(output: RecordFormat, format: Option<Format>) -> Self {
        Self {
            out: Stdout::start(),
            buffer: Vec::new(),
            output,
            format,
        }
    }

    pub(super) fn print(&mut self, record: &ConsumedRecord) -> Result<()> {
        let value = record.value.as_deref().unwrap_or_default();
        match (&self.format, self.output) {
            (Some(format), _) => format.write(&shown(record), &mut self.buffer)?,
            (None, RecordFormat::Json) => write_json_line(&mut self.buffer, &shown(record))?,
            (None, RecordFormat::Raw) => self.buffer.write_all(value)?,
            (None, RecordFormat::Text) => {
                self.buffer.write_all(value)?;
                self.buffer.write_all(b"\n")?;
            }
        }
        Ok(())
    }

    /// Whether so much waits that it should be flushed.
    pub(super) fn is_full(&self) -> bool {
        self.buffer.len() >= MAX_BYTES
    }

    /// Returns when everything printed is out of this process. Who stops waiting must not believe
    /// that it is.
    pub(super) async fn flush(&mut self) -> Result<()> {
        if !self.buffer.is_empty() {
            self.buffer = self.out.write(std::mem::take(&mut self.buffer)).await?;
        }
        Ok(())
    }
}

fn shown(record: &ConsumedRecord) -> ShownRecord<'_> {
    ShownRecord {
        topic: record.topic.as_str(),
        partition: record.partition,
        offset: record.offset,
        leader_epoch: record.leader_epoch,
        timestamp_ms: record.timestamp_ms,
        key: record.key.as_deref(),
        value: record.value.as_deref(),
        headers: record
            .headers
            .iter()
            .map(|header| ShownHeader {
                key: header.key,
                value: header.value,
            })
            .collect(),
    }
}
