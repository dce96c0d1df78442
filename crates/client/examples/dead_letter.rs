//! What cannot be processed does not hold up what can: retry, then a dead-letter topic.
//!
//! A handler fails for one of two reasons. Something else is down, and trying again in a moment
//! helps: the record is tried again, a few times, with growing pauses. Or the record itself is bad,
//! and trying again never helps: it goes to a dead-letter topic, with its origin and the reason in
//! headers, where people look at it. Either way it is marked afterwards, so that the partition goes
//! on.
//!
//! ```text
//! cargo run -p tidelog-client --example dead_letter -- 127.0.0.1:7171
//! ```

use std::time::Duration;

use tidelog_client::{Client, ConsumedRecord, NewTopic, OffsetReset, Producer, Record, Result};

const TOPIC: &str = "payments";
const DEAD_LETTERS: &str = "payments.dead-letters";
/// How often a record is tried, and the pause after the first failure: it doubles.
const TRIES: u32 = 4;
const PAUSE: Duration = Duration::from_millis(50);

/// Why a record was not processed.
enum Failure {
    /// Something else is down: later may be better.
    Passing(String),
    /// The record will never be right.
    Final(String),
}

#[tokio::main]
async fn main() -> Result<()> {
    let bootstrap = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:7171".to_owned());
    let client = Client::builder([bootstrap])
        .client_id("payments")
        .connect()
        .await?;
    let admin = client.admin();
    for topic in [TOPIC, DEAD_LETTERS] {
        admin.create_topic(NewTopic::new(topic).partitions(1)).await?;
    }
    let outcome = play(&client).await;
    for topic in [TOPIC, DEAD_LETTERS] {
        admin.delete_topic(topic).await?;
    }
    outcome
}

async fn play(client: &Client) -> Result<()> {
    let producer = client.producer().build().await?;
    let payments = ["12.50", "a lot", "7.00", "bank is down"];
    for amount in payments {
        producer.send(Record::to(TOPIC).value(amount)).await?;
    }
    let mut consumer = client
        .group("payments")
        .topics([TOPIC])
        .auto_offset_reset(OffsetReset::Earliest)
        .build()
        .await?;
    for _ in payments {
        let record = consumer.recv().await?;
        if let Err((tries, reason)) = with_retries(&record).await {
            bury(&producer, &record, tries, &reason).await?;
        }
        // Only now: a crash before this point has the record delivered again.
        consumer.mark(&record);
    }
    consumer.close(Duration::from_secs(10)).await?;

    let mut letters = client
        .consumer()
        .topic(DEAD_LETTERS, tidelog_client::OffsetAt::Earliest)
        .build()
        .await?;
    let ends = letters.end_offsets().await?;
    while let Some(letter) = letters.recv_until(&ends).await? {
        let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
        let header = |key| text(letter.headers.last(key).flatten());
        println!(
            "dead letter {:?} from {}, tried {} time(s): {}",
            text(letter.value.as_deref()),
            header("origin"),
            header("tries"),
            header("reason"),
        );
    }
    client.admin().delete_group("payments").await
}

/// Tries until it works, or says how often it was tried and why it is given up.
async fn with_retries(record: &ConsumedRecord) -> std::result::Result<(), (u32, String)> {
    let mut pause = PAUSE;
    for attempt in 1.. {
        match charge(record) {
            Ok(()) => return Ok(()),
            Err(Failure::Final(reason)) => return Err((attempt, reason)),
            Err(Failure::Passing(reason)) if attempt >= TRIES => return Err((attempt, reason)),
            Err(Failure::Passing(_)) => tokio::time::sleep(pause).await,
        }
        pause *= 2;
    }
    Ok(())
}

/// The work itself.
fn charge(record: &ConsumedRecord) -> std::result::Result<(), Failure> {
    let value = record.value.as_deref().unwrap_or_default();
    match String::from_utf8_lossy(value).as_ref() {
        "bank is down" => Err(Failure::Passing("the bank does not answer".to_owned())),
        text => match text.parse::<f64>() {
            Ok(amount) => {
                println!("charged {amount:.2}");
                Ok(())
            }
            Err(error) => Err(Failure::Final(error.to_string())),
        },
    }
}

/// The record as it came, with where it stood and why it was not processed.
async fn bury(producer: &Producer, record: &ConsumedRecord, tries: u32, reason: &str) -> Result<()> {
    let origin = format!("{}-{}@{}", record.topic, record.partition, record.offset);
    let mut letter = Record::to(DEAD_LETTERS)
        .header("origin", origin)
        .header("reason", reason.to_owned())
        .header("tries", tries.to_string());
    letter.key.clone_from(&record.key);
    letter.value.clone_from(&record.value);
    letter.timestamp_ms = Some(record.timestamp_ms);
    producer.send(letter).await?;
    Ok(())
}
