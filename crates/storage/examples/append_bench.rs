//! How fast a data directory takes batches: throughput with everything shared, and the latency of
//! one small append alone.
//!
//! ```text
//! cargo run --release -p tidelog-storage --example append_bench -- [DIR] [GIB] [MEMORY_MIB]
//! ```

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use parking_lot::{Condvar, Mutex};
use tidelog_log::conformance::BatchSpec;
use tidelog_log::{Append, LogStore, Progress, StoreError, StoreListener};
use tidelog_storage::{RocksOptions, RocksStore};
use tidelog_types::{
    BrokerId, DirectoryId, LocalPartition, Offset, PartitionIndex, TopicId, TopicIdPartition,
};
use uuid::Uuid;

const PARTITIONS: u32 = 6;
const BATCH_BYTES: usize = 64 * 1024;
/// Not yet durable, at most, bytes: what producers would have in flight.
const MAX_IN_FLIGHT_BYTES: u64 = 16 * 1024 * 1024;
const SMALL_BYTES: usize = 1024;
const SMALL_APPENDS: usize = 2000;

/// Knows what is durable, and when each large batch was appended.
#[derive(Default)]
struct Watch {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    durable: HashMap<LocalPartition, Offset>,
    total: u64,
    appended: HashMap<(LocalPartition, Offset), Instant>,
    latencies: Vec<Duration>,
}

impl StoreListener for Watch {
    fn written(&self, _: &[Progress]) {}

    fn durable(&self, progress: &[Progress]) {
        let now = Instant::now();
        let mut state = self.state.lock();
        for step in progress {
            let before = state.durable.insert(step.partition, step.end).unwrap_or_default();
            state.total += step.end.distance_from(before);
            for offset in before.0..step.end.0 {
                if let Some(appended) = state.appended.remove(&(step.partition, Offset(offset))) {
                    state.latencies.push(now - appended);
                }
            }
        }
        self.changed.notify_all();
    }

    fn failed(&self, error: &StoreError) {
        panic!("{error}");
    }
}

impl Watch {
    fn wait_total(&self, total: u64) {
        let mut state = self.state.lock();
        while state.total < total {
            self.changed.wait(&mut state);
        }
    }
}

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let parent = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let gib: f64 = arguments.next().map_or(Ok(4.0), |text| text.parse())?;
    let memory_mib: usize = arguments.next().map_or(Ok(512), |text| text.parse())?;
    let dir = tempfile::tempdir_in(parent)?;
    let watch = Arc::new(Watch::default());
    let broker = BrokerId::new(1).expect("1 is a broker id");
    let options = RocksOptions {
        memory_budget: memory_mib * 1024 * 1024,
        ..RocksOptions::new(broker, None, DirectoryId(Uuid::from_u128(1)))
    };
    let store = RocksStore::open(dir.path(), options, Arc::clone(&watch) as Arc<dyn StoreListener>)?;
    println!("idle: {}", resident());
    let locals = (0..PARTITIONS)
        .map(|index| create(&store, index))
        .collect::<Result<Vec<_>, _>>()?;
    small(dir.path(), &store, &watch, create(&store, PARTITIONS)?, "before")?;
    large(&store, &watch, &locals, (gib * 1024.0 * 1024.0 * 1024.0) as u64)?;
    small(
        dir.path(),
        &store,
        &watch,
        create(&store, PARTITIONS + 1)?,
        "after",
    )?;
    println!("at the end: {}", resident());
    let begun = Instant::now();
    store.close()?;
    println!("closing took {:.2} s", begun.elapsed().as_secs_f64());
    Ok(())
}

fn create(store: &RocksStore, index: u32) -> Result<LocalPartition, StoreError> {
    store.create(TopicIdPartition {
        topic_id: TopicId(Uuid::from_u128(1)),
        partition: PartitionIndex(index),
    })
}

/// Appends to all partitions in turn, with a bound on what is in flight.
fn large(
    store: &RocksStore,
    watch: &Watch,
    locals: &[LocalPartition],
    total_bytes: u64,
) -> anyhow::Result<()> {
    let batches = total_bytes / BATCH_BYTES as u64;
    let in_flight = MAX_IN_FLIGHT_BYTES / BATCH_BYTES as u64;
    // Built ahead: the header's offset is not under the checksum, so only that is patched in the
    // loop.
    let template = BatchSpec {
        payload_bytes: BATCH_BYTES - 61,
        ..BatchSpec::at(Offset::ZERO)
    }
    .build();
    watch.state.lock().latencies.clear();
    let already = watch.state.lock().total;
    let cpu = cpu_seconds();
    let begun = Instant::now();
    for number in 0..batches {
        watch.wait_total(already + number.saturating_sub(in_flight));
        let partition = locals[number as usize % locals.len()];
        let offset = Offset(number / locals.len() as u64);
        let mut bytes = template.bytes.to_vec();
        bytes[..8].copy_from_slice(&offset.0.to_be_bytes());
        let mut batch = template.clone();
        batch.info.base_offset = offset;
        batch.info.last_offset = offset;
        batch.bytes = bytes.into();
        watch
            .state
            .lock()
            .appended
            .insert((partition, offset), Instant::now());
        store.append(Append {
            partition,
            batches: vec![batch],
            epochs: Vec::new(),
            producers: Vec::new(),
        });
    }
    watch.wait_total(already + batches);
    let seconds = begun.elapsed().as_secs_f64();
    let megabytes = (batches * BATCH_BYTES as u64) as f64 / 1e6;
    let gib = (batches * BATCH_BYTES as u64) as f64 / f64::from(1 << 30);
    println!(
        "{batches} batches of 64 KiB to {PARTITIONS} partitions: {:.0} MB/s, {:.2} CPU s a GiB",
        megabytes / seconds,
        (cpu_seconds() - cpu) / gib
    );
    report(
        "append to durable under that load",
        &std::mem::take(&mut watch.state.lock().latencies),
    )
}

/// Appends one small batch after the other, each alone; before that the same bytes to a plain file,
/// synced one by one, to tell what of the latency is the disk's and the machine's.
fn small(
    dir: &Path,
    store: &RocksStore,
    watch: &Watch,
    partition: LocalPartition,
    when: &str,
) -> anyhow::Result<()> {
    let spec = |offset| BatchSpec {
        payload_bytes: SMALL_BYTES - 61,
        ..BatchSpec::at(Offset(offset))
    };
    let plain = File::create(dir.join(format!("plain-{when}")))?;
    let mut latencies = Vec::new();
    for offset in 0..SMALL_APPENDS as u64 {
        let bytes = spec(offset).build().bytes;
        let begun = Instant::now();
        plain.write_all_at(&bytes, offset * SMALL_BYTES as u64)?;
        plain.sync_data()?;
        latencies.push(begun.elapsed());
    }
    report(
        &format!("1 KiB to a plain file, written and synced, {when}"),
        &latencies,
    )?;
    latencies.clear();
    for offset in 0..SMALL_APPENDS as u64 {
        let batches = vec![spec(offset).build()];
        let target = watch.state.lock().total + 1;
        let begun = Instant::now();
        store.append(Append {
            partition,
            batches,
            epochs: Vec::new(),
            producers: Vec::new(),
        });
        watch.wait_total(target);
        latencies.push(begun.elapsed());
    }
    report(&format!("1 KiB append alone to durable, {when}"), &latencies)
}

fn report(what: &str, latencies: &[Duration]) -> anyhow::Result<()> {
    let mut histogram = Histogram::<u64>::new(3)?;
    for latency in latencies {
        histogram.record(latency.as_micros() as u64)?;
    }
    let at = |quantile| histogram.value_at_quantile(quantile);
    println!(
        "{what}: p50 {} µs, p99 {} µs, p99.9 {} µs, max {} µs",
        at(0.5),
        at(0.99),
        at(0.999),
        histogram.max()
    );
    Ok(())
}

/// Resident memory of this process, as the kernel tells it.
fn resident() -> String {
    let status = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("Pss:"));
    line.map_or_else(
        || "memory unknown".to_owned(),
        |line| line.split_whitespace().collect::<Vec<_>>().join(" "),
    )
}

/// User and system time of this process, seconds.
fn cpu_seconds() -> f64 {
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    let ticks = |at: usize| {
        fields
            .get(at)
            .and_then(|field| field.parse::<f64>().ok())
            .unwrap_or(0.0)
    };
    (ticks(11) + ticks(12)) / TICKS_PER_SECOND
}
