//! What a program does about an error: its kind says it.
//!
//! ```text
//! cargo run -p tidelog-client --example errors -- 127.0.0.1:7171
//! ```

use tidelog_client::{Client, Error, ErrorCode, ErrorKind, NewTopic, Record, Result};

const TOPIC: &str = "small-records";

/// What there is to do.
#[derive(Debug)]
enum Remedy {
    /// The client tried for as long as it may, and later may be better: try again, or give the work
    /// back.
    Later,
    /// As above, but the record may be stored: sending it again may store it twice.
    LaterAndPerhapsTwice,
    /// The caller is wrong: mend the program or its configuration.
    MendTheCaller,
    /// It is already so: nothing is to be done.
    Nothing,
    /// Make a new producer or consumer.
    StartOver,
    /// Tell those who run the cluster.
    TellTheOperator,
}

fn remedy(error: &Error) -> Remedy {
    match error.kind() {
        ErrorKind::Refused(ErrorCode::TopicAlreadyExists) => Remedy::Nothing,
        // A member that was thrown out joins again by itself; one that was replaced for good does
        // not.
        ErrorKind::Refused(ErrorCode::FencedInstanceId | ErrorCode::UnreleasedInstanceId) => {
            Remedy::MendTheCaller
        }
        _ if error.is_retriable() && error.maybe_written() => Remedy::LaterAndPerhapsTwice,
        _ if error.is_retriable() => Remedy::Later,
        ErrorKind::Closed => Remedy::StartOver,
        ErrorKind::Corrupt | ErrorKind::Denied | ErrorKind::Unsupported => Remedy::TellTheOperator,
        // What is refused for good is wrong in itself: MESSAGE_TOO_LARGE, INVALID_CONFIG, …
        ErrorKind::InvalidArgument | ErrorKind::Refused(_) => Remedy::MendTheCaller,
        // Kinds may be added: what is not retriable is not worth another try.
        _ => Remedy::TellTheOperator,
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let bootstrap = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:7171".to_owned());
    // Refused before anything is tried.
    show(Client::builder(["localhost"]).connect().await.map(|_| ()));

    let client = Client::builder([bootstrap]).client_id("errors").connect().await?;
    let admin = client.admin();
    let topic = NewTopic::new(TOPIC)
        .partitions(1)
        .config("max.message.bytes", "1024");
    admin.create_topic(topic.clone()).await?;
    show(admin.create_topic(topic).await.map(|_| ()));

    let producer = client.producer().build().await?;
    show(
        producer
            .send(Record::to(TOPIC).value(vec![b'x'; 4096]))
            .await
            .map(|_| ()),
    );
    show(
        producer
            .send(Record::to("no such topic").value("x"))
            .await
            .map(|_| ()),
    );
    producer.close(std::time::Duration::from_secs(5)).await?;
    show(producer.send(Record::to(TOPIC).value("x")).await.map(|_| ()));
    admin.delete_topic(TOPIC).await
}

fn show(outcome: Result<()>) {
    match outcome {
        Ok(()) => println!("done"),
        Err(error) => println!("{:?}: {error}", remedy(&error)),
    }
}
