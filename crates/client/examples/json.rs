//! Values in JSON, with serde.
//!
//! Tidelog does not look into values: what stands in them is agreed between those that write and
//! those that read. New fields are optional, unknown ones are passed over, so that both can be
//! deployed in any order.
//!
//! ```text
//! cargo run -p tidelog-client --example json -- 127.0.0.1:7171
//! ```

use std::error::Error;

use serde::{Deserialize, Serialize};
use tidelog_client::{Client, ConsumedRecord, NewTopic, OffsetAt, Record};

const TOPIC: &str = "readings";

/// What a sensor says.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Reading {
    sensor: String,
    celsius: f64,
    /// Came with a later version: older writers do not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    humidity: Option<f64>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let bootstrap = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:7171".to_owned());
    let client = Client::builder([bootstrap])
        .client_id("sensors")
        .connect()
        .await?;
    client
        .admin()
        .create_topic(NewTopic::new(TOPIC).partitions(3))
        .await?;
    let outcome = play(&client).await;
    client.admin().delete_topic(TOPIC).await?;
    outcome
}

async fn play(client: &Client) -> Result<(), Box<dyn Error>> {
    let producer = client.producer().build().await?;
    for (sensor, celsius, humidity) in [("roof", 21.5, None), ("cellar", 9.25, Some(0.8))] {
        let reading = Reading {
            sensor: sensor.to_owned(),
            celsius,
            humidity,
        };
        // The key keeps one sensor's readings in one partition, and so in order.
        let record = Record::to(TOPIC).key(sensor).value(serde_json::to_vec(&reading)?);
        producer.send(record).await?;
    }
    producer.send(Record::to(TOPIC).value("{not json")).await?;

    let mut consumer = client.consumer().topic(TOPIC, OffsetAt::Earliest).build().await?;
    let ends = consumer.end_offsets().await?;
    while let Some(record) = consumer.recv_until(&ends).await? {
        match reading(&record) {
            Ok(reading) => println!("{reading:?}"),
            // Whoever reads decides what to do with it; see the example dead_letter.
            Err(error) => println!("{}-{}: {error}", record.topic, record.partition),
        }
    }
    Ok(())
}

/// `null` is no reading, and neither is what does not parse.
fn reading(record: &ConsumedRecord) -> Result<Reading, Box<dyn Error>> {
    let value = record.value.as_deref().ok_or("the value is null")?;
    serde_json::from_slice(value).map_err(|error| format!("no reading: {error}").into())
}
