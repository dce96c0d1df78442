//! A service that ends when it is asked to: Ctrl-C or SIGTERM.
//!
//! It reads one topic as a member of a group and writes what it makes of it into another. At the
//! signal it takes no more records, waits until everything it sent is acknowledged, commits what is
//! worked off, and leaves the group, so that the other members take over at once.
//!
//! ```text
//! cargo run -p tidelog-client --example graceful_shutdown -- 127.0.0.1:7171 orders invoices
//! ```

use std::time::Duration;

use tidelog_client::{Client, Consumer, OffsetReset, Producer, Record, Result};
use tokio_util::sync::CancellationToken;

/// How long the farewell may take: less than what supervisors wait between SIGTERM and SIGKILL.
const FAREWELL: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let mut word = |default: &str| words.next().unwrap_or_else(|| default.to_owned());
    let (bootstrap, from, to) = (word("127.0.0.1:7171"), word("orders"), word("invoices"));

    let stop = on_signal();
    // A signal is heeded while connecting, too.
    let client = tokio::select! {
        client = Client::builder([bootstrap]).client_id("invoices").connect() => client?,
        () = stop.cancelled() => return Ok(()),
    };
    let producer = client.producer().build().await?;
    let mut consumer = client
        .group("invoices")
        .topics([from])
        .auto_offset_reset(OffsetReset::Earliest)
        .build()
        .await?;

    let outcome = work(&mut consumer, &producer, &to, &stop).await;
    // What was sent must be stored before the records that it was made of are committed.
    producer.close(FAREWELL).await?;
    consumer.close(FAREWELL).await?;
    println!("everything is acknowledged and committed");
    outcome
}

/// Works until it is told to stop. No record is lost by stopping: [`Consumer::recv`] may be given
/// up at any moment.
async fn work(
    consumer: &mut Consumer,
    producer: &Producer,
    to: &str,
    stop: &CancellationToken,
) -> Result<()> {
    println!("working");
    loop {
        let record = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            record = consumer.recv() => record?,
        };
        let mut invoice = Record::to(to).value(record.value.clone().unwrap_or_default());
        invoice.key.clone_from(&record.key);
        producer.send(invoice).await?;
        consumer.mark(&record);
    }
}

/// Cancelled by the first signal.
fn on_signal() -> CancellationToken {
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    tokio::spawn(async move {
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
            .expect("a signal handler can be set");
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
        stopped.cancel();
    });
    stop
}
