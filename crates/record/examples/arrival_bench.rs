//! What a broker spends on a produced batch before it stores it: the checksum, and the walk over
//! the records.
//!
//! ```text
//! cargo run --release -p tidelog-record --example arrival_bench
//! ```

#![expect(clippy::disallowed_methods, reason = "it measures time")]

use std::fmt::Write as _;
use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidelog_record::{Batch, BatchBuilder, Compression, NewRecord};

/// What a batch holds before it is compressed: the client's usual batch size.
const BATCH_BYTES: usize = 256 * 1024;
/// How long each figure is measured.
const MEASURED: Duration = Duration::from_millis(500);

fn main() {
    println!(
        "batches of {} KiB of text; best of many, {} ms each",
        BATCH_BYTES / 1024,
        MEASURED.as_millis()
    );
    println!("codec   record bytes   stored/opened   checksum ns/KiB   walk ns/KiB opened   walk ns/record");
    for record_bytes in [100, 1024] {
        for codec in Compression::ALL.into_iter().filter(|codec| codec.is_built_in()) {
            measure(codec, record_bytes);
        }
    }
}

fn measure(codec: Compression, record_bytes: usize) {
    let batch = batch(codec, record_bytes);
    let records = f64::from(batch.header().record_count);
    let opened = batch
        .open(2 * BATCH_BYTES)
        .expect("it was just built")
        .payload()
        .len() as f64;
    let stored = batch.bytes().len() as f64;
    let bytes: Bytes = batch.bytes().clone();
    let framed = best(|| {
        black_box(Batch::from_producer(bytes.clone(), u32::MAX)).expect("it was just built");
    });
    let walked = best(|| black_box(&batch).check_records().expect("it was just built"));
    println!(
        "{:6}  {record_bytes:12}   {:13.2}   {:15.0}   {:18.0}   {:14.1}",
        codec.name(),
        stored / opened,
        framed * 1024.0 / stored,
        walked * 1024.0 / opened,
        walked / records,
    );
}

/// Nanoseconds of the fastest of as many runs as fit: what the others add is the machine's, not the
/// code's.
fn best(mut run: impl FnMut()) -> f64 {
    let began = Instant::now();
    let mut best = Duration::MAX;
    while began.elapsed() < MEASURED {
        let start = Instant::now();
        run();
        best = best.min(start.elapsed());
    }
    best.as_nanos() as f64
}

/// Records of words in an order that repeats nothing for long: text that compresses to about a
/// third.
fn batch(codec: Compression, record_bytes: usize) -> Batch {
    const WORDS: [&str; 16] = [
        "order",
        "placed",
        "payment",
        "carrier",
        "delayed",
        "flight",
        "arrival",
        "gate",
        "customer",
        "address",
        "invoice",
        "shipped",
        "quantity",
        "warehouse",
        "returned",
        "total",
    ];
    let mut builder = BatchBuilder::new(codec);
    let mut state = 1_u64;
    let mut value = String::new();
    while builder.size_estimate() < BATCH_BYTES {
        value.clear();
        while value.len() < record_bytes {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            value.push_str(WORDS[(state >> 60) as usize]);
            write!(value, "={} ", (state >> 32) % 1000).expect("a String takes everything");
        }
        value.truncate(record_bytes);
        let timestamp_ms = 1_767_225_600_000 + i64::from(builder.record_count());
        builder
            .append(NewRecord::new(
                timestamp_ms,
                Some(b"key-12345678"),
                Some(value.as_bytes()),
            ))
            .expect("the batch has room");
    }
    builder.build(None).expect("it holds records")
}
