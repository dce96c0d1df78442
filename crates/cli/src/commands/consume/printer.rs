//! Records on standard output.

use std::io::{self, BufWriter, Stdout, Write};

use anyhow::Result;
use tidelog_client::ConsumedRecord;

use super::RecordFormat;
use crate::output::{Format, ShownHeader, ShownRecord, write_json_line};

/// Most records that are printed before they are flushed.
pub(super) const MAX_UNFLUSHED: usize = 1_000;
/// Buffer of the output, bytes.
const BUFFER_BYTES: usize = 64 * 1024;

/// Prints records as the flags say.
pub(super) struct Printer {
    out: BufWriter<Stdout>,
    output: RecordFormat,
    format: Option<Format>,
}

impl Printer {
    pub(super) fn new(output: RecordFormat, format: Option<Format>) -> Self {
        Self {
            out: BufWriter::with_capacity(BUFFER_BYTES, io::stdout()),
            output,
            format,
        }
    }

    pub(super) fn print(&mut self, record: &ConsumedRecord) -> Result<()> {
        let value = record.value.as_deref().unwrap_or_default();
        match (&self.format, self.output) {
            (Some(format), _) => format.write(&shown(record), &mut self.out)?,
            (None, RecordFormat::Json) => write_json_line(&mut self.out, &shown(record))?,
            (None, RecordFormat::Raw) => self.out.write_all(value)?,
            (None, RecordFormat::Text) => {
                self.out.write_all(value)?;
                self.out.write_all(b"\n")?;
            }
        }
        Ok(())
    }

    pub(super) fn flush(&mut self) -> Result<()> {
        Ok(self.out.flush()?)
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
