//! Saying what a command waits for, once it has been silent for a second.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tidelog_client::{Client, ErrorCode, TopicPartition};

use crate::exit::{Exit, Failure};
use crate::standing::stale;
use crate::suggest::near;
use crate::tell;

/// How long a command may be silent while it waits.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);
/// How long looking for near names may take.
const LOOK: Duration = Duration::from_secs(2);

/// Whom the command asks, and since when it could.
static ASKED: OnceLock<(String, Instant)> = OnceLock::new();

/// A broker has answered: what the command waits for from now on is the cluster's answer.
pub(crate) fn connected(asked: String) {
    let _ = ASKED.set((asked, Instant::now()));
}

/// Says when the cluster's answer is late. Never ends.
pub(crate) async fn say_when_late() -> ! {
    let mut told = false;
    loop {
        tokio::time::sleep(PATIENCE / 2).await;
        if let Some((asked, since)) = ASKED.get()
            && since.elapsed() >= PATIENCE
            && !std::mem::replace(&mut told, true)
        {
            tell!("tidelog: waiting for an answer of {asked}");
        }
    }
}

/// Awaits something, and says after a second what it is.
pub(crate) async fn on<T>(what: impl FnOnce() -> String, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    tokio::select! {
        biased;
        done = &mut work => return done,
        () = tokio::time::sleep(PATIENCE) => tell!("tidelog: {}", what()),
    }
    work.await
}

/// The partitions of a topic, which may come into being while this waits.
pub(crate) async fn for_topic(
    client: &Client,
    topic: &str,
    within: Duration,
) -> anyhow::Result<Vec<TopicPartition>> {
    let deadline = tokio::time::Instant::now() + within;
    let found = async {
        loop {
            match client.partitions(topic).await {
                // The client waits as long as it thinks right, which may be less than was asked
                // for.
                Err(error) if is_unknown(&error) && tokio::time::Instant::now() < deadline => {
                    tokio::time::sleep(PATIENCE / 10).await;
                }
                found => return found,
            }
        }
    };
    let mut found = std::pin::pin!(tokio::time::timeout_at(deadline, found));
    let found = tokio::select! {
        biased;
        found = &mut found => found,
        () = tokio::time::sleep(PATIENCE.min(within)) => {
            let why = match look_for(client, topic).await {
                Looked::Missing(why) | Looked::Unsure(why) => why,
                Looked::There => format!("topic {topic:?} is there, its partitions are not yet"),
            };
            tell!("tidelog: waiting up to {} s: {why}", within.as_secs());
            found.await
        }
    };
    match found {
        Ok(Ok(partitions)) => Ok(partitions),
        Ok(Err(error)) if !is_unknown(&error) => Err(error.into()),
        _ => Err(not_there(client, topic, within).await.into()),
    }
}

async fn not_there(client: &Client, topic: &str, within: Duration) -> Failure {
    let unanswered = format!("no broker told of topic {topic:?} within {} s", within.as_secs());
    match look_for(client, topic).await {
        Looked::Missing(missing) => Failure::new(
            Exit::NotFound,
            format!(
                "{}: {missing}; `tidelog topic list` lists those that exist, `tidelog topic create {topic}` makes it",
                ErrorCode::UnknownTopicOrPartition
            ),
        ),
        Looked::Unsure(why) => Failure::new(Exit::Unreachable, format!("{unanswered}: {why}")),
        Looked::There => Failure::new(Exit::Unreachable, unanswered),
    }
}

/// The topic has no partition of this number.
pub(crate) fn no_partition(topic: &str, partitions: usize, wanted: u32) -> Failure {
    let text = format!("topic {topic} has {partitions} partition(s), and none of number {wanted}");
    Failure::new(Exit::NotFound, text)
}

fn is_unknown(error: &tidelog_client::Error) -> bool {
    error.code() == Some(ErrorCode::UnknownTopicOrPartition)
}

/// What the cluster says of a topic.
pub(crate) enum Looked {
    There,
    /// It does not exist; the sentence names one that is meant perhaps.
    Missing(String),
    /// Nobody answers who would know; the sentence says why.
    Unsure(String),
}

/// Asks the cluster whether a topic exists.
pub(crate) async fn look_for(client: &Client, topic: &str) -> Looked {
    let admin = client.admin().timeout(LOOK);
    let listed = match tokio::time::timeout(LOOK, admin.list_topics(false)).await {
        Ok(Ok(listed)) => listed,
        Ok(Err(error)) => return Looked::Unsure(error.to_string()),
        Err(_) => return Looked::Unsure(format!("nobody listed topics within {} s", LOOK.as_secs())),
    };
    let names: Vec<String> = listed.topics.into_iter().map(|topic| topic.name).collect();
    if names.iter().any(|name| name == topic) {
        return Looked::There;
    }
    // Who is cut off may not have heard of it yet.
    if let Some(why) = stale(listed.answered_by.as_ref()) {
        return Looked::Unsure(why);
    }
    let meant = match near(topic, names.iter().map(String::as_str)) {
        Some(near) => format!("; did you mean {near:?}?"),
        None => String::new(),
    };
    Looked::Missing(format!("no topic {topic:?}{meant}"))
}
