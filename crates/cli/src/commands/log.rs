//! `tidelog log`: looking into a data directory without a broker, even while one has it open.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use bytes::Bytes;
use clap::{Args, Subcommand};
use serde::Serialize;
use sha2::{Digest, Sha256};
use tidelog_log::StoredPartition;
use tidelog_record::{Batch, MAX_OPENED_BYTES};
use tidelog_storage::{ReadOnlyStore, RocksStore};
use tidelog_types::{BatchInfo, Offset};
use uuid::Uuid;

use crate::exit::{Exit, Failure};
use crate::output::{
    self, Columns, FORMAT_HELP, Format, OutputFlag, OutputFormat, ShownHeader, ShownRecord, hex,
    write_json_line,
};

/// `tidelog log …`
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Every batch, with a digest of its bytes: replicas can be compared by it
    Dump(DumpFlags),
    /// Check every batch: exit code 5 if one is damaged or missing
    Verify(PlaceFlags),
    /// Bounds and sizes of every partition
    Stats(StatsFlags),
}

/// Which partitions of which directory.
#[derive(Debug, Args)]
pub(crate) struct PlaceFlags {
    /// A broker's data directory
    dir: PathBuf,
    /// Only this topic
    #[arg(long, value_name = "UUID")]
    topic_id: Option<Uuid>,
    /// Only this partition
    #[arg(short, long, value_name = "N")]
    partition: Option<u32>,
}

/// Flags of `tidelog log dump`.
#[derive(Debug, Args)]
pub(crate) struct DumpFlags {
    #[command(flatten)]
    place: PlaceFlags,
    /// Every record instead of every batch: as JSON, or by --format
    #[arg(long)]
    records: bool,
    #[arg(short, long, value_name = "FORMAT", requires = "records", help = FORMAT_HELP)]
    format: Option<Format>,
    #[command(flatten)]
    output: OutputFlag,
}

/// Flags of `tidelog log stats`.
#[derive(Debug, Args)]
pub(crate) struct StatsFlags {
    #[command(flatten)]
    place: PlaceFlags,
    #[command(flatten)]
    output: OutputFlag,
}

/// A batch as it is stored.
#[derive(Debug, Serialize)]
struct ShownBatch {
    topic_id: String,
    partition: u32,
    base_offset: u64,
    last_offset: u64,
    leader_epoch: u32,
    max_timestamp: i64,
    records: u32,
    size: u32,
    crc: String,
    sha256: String,
    #[serde(skip)]
    compression: &'static str,
    #[serde(skip)]
    producer: Option<(u64, u16, i32)>,
}

impl ShownBatch {
    fn new(partition: StoredPartition, batch: &Batch, bytes: &[u8]) -> Self {
        let (info, header) = (batch.info(), batch.header());
        Self {
            topic_id: partition.partition.topic_id.to_string(),
            partition: partition.partition.partition.0,
            base_offset: info.base_offset.0,
            last_offset: info.last_offset.0,
            leader_epoch: info.leader_epoch.0,
            max_timestamp: info.max_timestamp_ms,
            records: header.record_count,
            size: info.size_bytes,
            crc: format!("{:08x}", header.crc),
            sha256: hex(&Sha256::digest(bytes)),
            compression: header
                .attributes
                .compression()
                .map_or("unknown", tidelog_record::Compression::name),
            producer: info
                .producer
                .map(|stamp| (stamp.id.0, stamp.epoch.0, stamp.base_sequence.to_wire())),
        }
    }
}

/// Runs one of them.
pub(crate) fn run(command: &Command) -> Result<()> {
    match command {
        Command::Dump(flags) => dump(flags),
        Command::Verify(flags) => verify(flags),
        Command::Stats(flags) => stats(flags),
    }
}

fn open(dir: &Path) -> Result<ReadOnlyStore> {
    if !dir.is_dir() {
        let text = format!(
            "{} is not a folder; name a broker's data directory",
            dir.display()
        );
        return Err(Failure::new(Exit::NotFound, text).into());
    }
    RocksStore::open_read_only(dir).with_context(|| format!("opening {}", dir.display()))
}

/// In the order of topic ids and partitions, which is the same in every replica's directory.
fn chosen(store: &ReadOnlyStore, place: &PlaceFlags) -> Result<Vec<StoredPartition>> {
    let wanted: BTreeMap<_, _> = store
        .partitions()
        .into_iter()
        .filter(|stored| place.topic_id.is_none_or(|id| stored.partition.topic_id.0 == id))
        .filter(|stored| {
            place
                .partition
                .is_none_or(|partition| stored.partition.partition.0 == partition)
        })
        .map(|stored| (stored.partition, stored))
        .collect();
    if wanted.is_empty() && (place.topic_id.is_some() || place.partition.is_some()) {
        let text = format!(
            "{} has no such partition; tidelog log stats lists those it has",
            place.dir.display()
        );
        return Err(Failure::new(Exit::NotFound, text).into());
    }
    Ok(wanted.into_values().collect())
}

fn dump(flags: &DumpFlags) -> Result<()> {
    let store = open(&flags.place.dir)?;
    let mut out = output::pieces();
    let wide = flags.output.output == OutputFormat::Wide;
    let mut columns = batch_columns(wide);
    for partition in chosen(&store, &flags.place)? {
        for bytes in store.batches(partition.local, Offset::ZERO)? {
            let bytes = bytes.map_err(damaged)?;
            let batch = Batch::framed(bytes.clone()).map_err(damaged)?;
            if flags.records {
                dump_records(partition, &batch, flags.format.as_ref(), &mut out)?;
                continue;
            }
            let shown = ShownBatch::new(partition, &batch, &bytes);
            match flags.output.output {
                OutputFormat::Json => write_json_line(&mut out, &shown)?,
                OutputFormat::Table | OutputFormat::Wide => columns.row(cells(&shown, wide)),
            }
        }
    }
    out.flush()?;
    drop(out);
    if flags.records || flags.output.output == OutputFormat::Json {
        return Ok(());
    }
    columns.print()
}

fn batch_columns(wide: bool) -> Columns {
    let mut names = vec![
        "TOPIC-ID",
        "PARTITION",
        "BASE",
        "LAST",
        "EPOCH",
        "RECORDS",
        "SIZE",
        "CRC",
        "SHA256",
    ];
    if wide {
        names.extend(["TIMESTAMP", "COMPRESSION", "PRODUCER"]);
    }
    Columns::new(&names)
}

fn cells(batch: &ShownBatch, wide: bool) -> Vec<String> {
    // In the narrow table as much of the digest as tells any two batches apart for people.
    let digest = if wide { &batch.sha256 } else { &batch.sha256[..16] };
    let mut cells = vec![
        batch.topic_id.clone(),
        batch.partition.to_string(),
        batch.base_offset.to_string(),
        batch.last_offset.to_string(),
        batch.leader_epoch.to_string(),
        batch.records.to_string(),
        batch.size.to_string(),
        batch.crc.clone(),
        digest.to_owned(),
    ];
    if wide {
        let producer = batch
            .producer
            .map(|(id, epoch, sequence)| format!("{id}/{epoch}@{sequence}"));
        let timestamp = batch.max_timestamp.to_string();
        cells.extend([timestamp, batch.compression.to_owned(), output::or_dash(producer)]);
    }
    cells
}

fn dump_records(
    partition: StoredPartition,
    batch: &Batch,
    format: Option<&Format>,
    out: &mut impl Write,
) -> Result<()> {
    let topic = partition.partition.topic_id.to_string();
    let records = batch.open(MAX_OPENED_BYTES).map_err(damaged)?;
    for record in &records {
        let record = record.map_err(damaged)?;
        let shown = ShownRecord {
            topic: &topic,
            partition: partition.partition.partition.0,
            offset: record.offset.0,
            leader_epoch: batch.info().leader_epoch.0,
            timestamp_ms: record.timestamp_ms,
            key: record.key,
            value: record.value,
            headers: record
                .headers()
                .map(|header| ShownHeader {
                    key: header.key,
                    value: header.value,
                })
                .collect(),
        };
        match format {
            Some(format) => format.write(&shown, out)?,
            None => write_json_line(out, &shown)?,
        }
    }
    Ok(())
}

fn damaged(error: impl std::fmt::Display) -> Failure {
    let text = format!("{error}; tidelog log verify looks through the whole directory");
    Failure::new(Exit::Unhealthy, text)
}

fn verify(place: &PlaceFlags) -> Result<()> {
    let store = open(&place.dir)?;
    let (mut partitions, mut batches, mut problems) = (0_u64, 0_u64, 0_u64);
    for partition in chosen(&store, place)? {
        partitions += 1;
        let found = problems_of(&store, partition, &mut batches)?;
        for problem in &found {
            output::line(&format!("{}: {problem}", partition.partition))?;
        }
        problems += found.len() as u64;
    }
    if problems > 0 {
        let text = format!(
            "{problems} problem(s) in {batches} batches of {partitions} partitions; keep this directory as evidence, and let the \
             broker come back with an empty one, which its replicas fill"
        );
        return Err(Failure::new(Exit::Unhealthy, text).into());
    }
    output::line(&format!("{batches} batches of {partitions} partitions are whole"))
}

/// What does not fit in one partition: damaged batches, and holes between the log start and the log
/// end.
fn problems_of(store: &ReadOnlyStore, partition: StoredPartition, batches: &mut u64) -> Result<Vec<String>> {
    let log = store.load(partition.local)?;
    let mut problems = Vec::new();
    // Where the next batch must begin; not known after a damaged one.
    let mut due = Some(log.log_start);
    for bytes in store.batches(partition.local, log.log_start)? {
        *batches += 1;
        let checked = bytes.map_err(|error| error.to_string()).and_then(check);
        match checked {
            Ok(info) => {
                // The first batch may begin before the log start: trimming leaves the batch that
                // holds it whole.
                let fits = |due| info.base_offset == due || (due == log.log_start && info.base_offset < due);
                if let Some(due) = due.filter(|due| !fits(*due)) {
                    problems.push(format!(
                        "a batch begins at {} where {due} was due",
                        info.base_offset
                    ));
                }
                due = Some(info.end_offset());
            }
            Err(problem) => {
                problems.push(problem);
                due = None;
            }
        }
    }
    if let Some(end) = due.filter(|end| *end != log.log_end) {
        problems.push(format!(
            "the last batch ends at {end}, the log at {}",
            log.log_end
        ));
    }
    Ok(problems)
}

/// Opens a batch down to its last record.
fn check(bytes: Bytes) -> Result<BatchInfo, String> {
    let batch = Batch::from_log(bytes).map_err(|error| error.to_string())?;
    let info = batch.info();
    let at = |problem: String| format!("batch {}: {problem}", info.base_offset);
    let records = batch
        .open(MAX_OPENED_BYTES)
        .map_err(|error| at(error.to_string()))?;
    for record in &records {
        record.map_err(|error| at(error.to_string()))?;
    }
    Ok(info)
}

#[derive(Debug, Serialize)]
struct ShownPartition {
    topic_id: String,
    partition: u32,
    log_start: u64,
    log_end: u64,
    hw: u64,
    leader_epochs: Vec<ShownEpoch>,
    producers: usize,
    batches: u64,
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct ShownEpoch {
    epoch: u32,
    start_offset: u64,
}

fn stats(flags: &StatsFlags) -> Result<()> {
    let store = open(&flags.place.dir)?;
    let mut shown = Vec::new();
    for partition in chosen(&store, &flags.place)? {
        let log = store.load(partition.local)?;
        let (mut batches, mut size) = (0, 0);
        for bytes in store.batches(partition.local, log.log_start)? {
            batches += 1;
            size += bytes.map_err(damaged)?.len() as u64;
        }
        let epochs = log.epochs.iter();
        shown.push(ShownPartition {
            topic_id: partition.partition.topic_id.to_string(),
            partition: partition.partition.partition.0,
            log_start: log.log_start.0,
            log_end: log.log_end.0,
            hw: log.high_watermark.0,
            leader_epochs: epochs
                .map(|entry| ShownEpoch {
                    epoch: entry.epoch.0,
                    start_offset: entry.start_offset.0,
                })
                .collect(),
            producers: log.producers.len(),
            batches,
            bytes: size,
        });
    }
    output::show(flags.output.output, &shown, |_| stats_columns(&shown))
}

fn stats_columns(partitions: &[ShownPartition]) -> Columns {
    let names = [
        "TOPIC-ID",
        "PARTITION",
        "START",
        "END",
        "HW",
        "EPOCH",
        "PRODUCERS",
        "BATCHES",
        "BYTES",
    ];
    let mut columns = Columns::new(&names);
    for partition in partitions {
        columns.row([
            partition.topic_id.clone(),
            partition.partition.to_string(),
            partition.log_start.to_string(),
            partition.log_end.to_string(),
            partition.hw.to_string(),
            output::or_dash(partition.leader_epochs.last().map(|entry| entry.epoch)),
            partition.producers.to_string(),
            partition.batches.to_string(),
            partition.bytes.to_string(),
        ]);
    }
    columns
}
