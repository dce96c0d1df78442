//! What a record carries beside its value: a key, headers, a timestamp; and values that are null.
//!
//! ```text
//! cargo run -p tidelog-client --example headers -- 127.0.0.1:7171
//! ```

use tidelog_client::{Client, ConsumedRecord, NewTopic, OffsetAt, Record, Result};

const TOPIC: &str = "profiles";

#[tokio::main]
async fn main() -> Result<()> {
    let bootstrap = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:7171".to_owned());
    let client = Client::builder([bootstrap])
        .client_id("profiles")
        .connect()
        .await?;
    client
        .admin()
        .create_topic(NewTopic::new(TOPIC).partitions(1))
        .await?;
    let outcome = play(&client).await;
    client.admin().delete_topic(TOPIC).await?;
    outcome
}

async fn play(client: &Client) -> Result<()> {
    let producer = client.producer().build().await?;
    let created = Record::to(TOPIC)
        .key("ada")
        .value("mathematician")
        .header("type", "created")
        // Keys may repeat, values are any bytes, and a header may have none.
        .header("trace", vec![0xde, 0xad])
        .header("trace", vec![0xbe, 0xef])
        .null_header("draft")
        // When it happened; without this, when it was enqueued. Milliseconds since 1970.
        .timestamp_ms(1_700_000_000_000);
    // Without a value: null, which is not the same as empty. Readers that keep the newest value of
    // each key take it as a deletion.
    let deleted = Record::to(TOPIC).key("ada").header("type", "deleted");
    for record in [created, deleted] {
        producer.send(record).await?;
    }

    let mut consumer = client.consumer().topic(TOPIC, OffsetAt::Earliest).build().await?;
    let ends = consumer.end_offsets().await?;
    while let Some(record) = consumer.recv_until(&ends).await? {
        show(&record);
    }
    Ok(())
}

fn show(record: &ConsumedRecord) {
    let text = |bytes: Option<&[u8]>| {
        bytes.map_or_else(|| "null".to_owned(), |bytes| bytes.escape_ascii().to_string())
    };
    println!(
        "{} = {} at {}",
        text(record.key.as_deref()),
        text(record.value.as_deref()),
        record.timestamp_ms
    );
    for header in &record.headers {
        println!("  {}: {}", header.key_text(), text(header.value));
    }
}
