//! Saying what a command waits for, once it has been silent for a second.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tidelog_client::{Client, ErrorCode, TopicPartition};

use crate::exit::{Exit, Failure};
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
    let mut told = None;
    let found = tokio::select! {
        biased;
        found = &mut found => found,
        () = tokio::time::sleep(PATIENCE.min(within)) => {
            let missing = missing(client, topic).await;
            match &missing {
                Some(missing) => tell!("tidelog: waiting up to {} s: {missing}", within.as_secs()),
                None => tell!("tidelog: waiting up to {} s for topic {topic}", within.as_secs()),
            }
            told = missing;
            found.await
        }
    };
    match found {
        Ok(Ok(partitions)) => Ok(partitions),
        Ok(Err(error)) if !is_unknown(&error) => Err(error.into()),
        _ => Err(not_there(client, topic, told, within).await.into()),
    }
}

async fn not_there(client: &Client, topic: &str, told: Option<String>, within: Duration) -> Failure {
    let missing = match told {
        Some(missing) => Some(missing),
        None => missing(client, topic).await,
    };
    match missing {
        Some(missing) => Failure::new(
            Exit::NotFound,
            format!(
                "{}: {missing}; `tidelog topic list` lists those that exist, `tidelog topic create {topic}` makes it",
                ErrorCode::UnknownTopicOrPartition
            ),
        ),
        None => Failure::new(
            Exit::Unreachable,
            format!("no broker told of topic {topic:?} within {} s", within.as_secs()),
        ),
    }
}

fn is_unknown(error: &tidelog_client::Error) -> bool {
    error.code() == Some(ErrorCode::UnknownTopicOrPartition)
}

/// That the topic does not exist, with a name that is meant perhaps; `None` if it exists or nobody
/// says so.
pub(crate) async fn missing(client: &Client, topic: &str) -> Option<String> {
    let admin = client.admin().timeout(LOOK);
    let listed = tokio::time::timeout(LOOK, admin.list_topics(false)).await;
    let names: Vec<String> = listed
        .ok()?
        .ok()?
        .topics
        .into_iter()
        .map(|topic| topic.name)
        .collect();
    if names.iter().any(|name| name == topic) {
        return None;
    }
    let meant = match near(topic, names.iter().map(String::as_str)) {
        Some(near) => format!("; did you mean {near:?}?"),
        None => String::new(),
    };
    Some(format!("no topic {topic:?}{meant}"))
}
