//! One fetch stream to one broker, on its own task.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::connection::Channel;
use crate::error::{Error, ErrorKind, Result};
use crate::wire::fetch::{FetchAnswer, FetchAsk, fetch_stream};

/// How much longer than it was asked to wait a broker may take for an answer. Kafka's
/// request.timeout.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Questions on their way to the connection.
const MAX_UNSENT: usize = 32;

/// What a stream tells the fetcher.
#[derive(Debug)]
pub(super) enum StreamEvent {
    /// An answer came.
    Answer { stream: u64, answer: FetchAnswer },
    /// The stream is at its end, and what was asked is not answered.
    Broken { stream: u64, error: Error },
}

/// The fetcher's end of a stream.
#[derive(Debug)]
pub(super) struct BrokerStream {
    pub(super) number: u64,
    asks: mpsc::UnboundedSender<FetchAsk>,
}

impl BrokerStream {
    /// Begins a stream; the task ends when this is dropped.
    pub(super) fn open(
        number: u64,
        channel: Channel,
        events: mpsc::Sender<StreamEvent>,
        tasks: &mut tokio::task::JoinSet<()>,
    ) -> Self {
        // Bounded by the most questions that are out at a broker.
        let (asks, asked) = mpsc::unbounded_channel();
        tasks.spawn(async move {
            let ended = run(number, channel, asked, &events).await;
            if let Err(error) = ended {
                let _ = events
                    .send(StreamEvent::Broken {
                        stream: number,
                        error,
                    })
                    .await;
            }
        });
        Self { number, asks }
    }

    /// Asks. A stream that is at its end says so by an event.
    pub(super) fn ask(&self, ask: FetchAsk) {
        let _ = self.asks.send(ask);
    }
}

async fn run(
    stream: u64,
    channel: Channel,
    mut asked: mpsc::UnboundedReceiver<FetchAsk>,
    events: &mpsc::Sender<StreamEvent>,
) -> Result<()> {
    let (to_broker, requests) = mpsc::channel(MAX_UNSENT);
    let opening = fetch_stream(channel, requests);
    let silent = || {
        let message = format!("the broker does not answer a fetch within {ANSWER_TIMEOUT:?}");
        Error::new(ErrorKind::TimedOut, message)
    };
    let mut answers = tokio::time::timeout(ANSWER_TIMEOUT, opening)
        .await
        .map_err(|_| silent())??;
    let mut due: BTreeMap<u64, Instant> = BTreeMap::new();
    loop {
        let deadline = due.values().min().copied();
        tokio::select! {
            ask = asked.recv() => {
                let Some(ask) = ask else { return Ok(()) };
                due.insert(ask.id, Instant::now() + ask.max_wait + ANSWER_TIMEOUT);
                if to_broker.send(ask).await.is_err() {
                    return Err(ended());
                }
            }
            answer = answers.next() => {
                let answer = answer?.ok_or_else(ended)?;
                due.remove(&answer.id);
                if events.send(StreamEvent::Answer { stream, answer }).await.is_err() {
                    return Ok(());
                }
            }
            () = sleep_until(deadline) => return Err(silent()),
        }
    }
}

fn ended() -> Error {
    Error::new(ErrorKind::Unreachable, "the broker ended the fetch stream")
}

/// Sleeps until then, or for ever.
pub(super) async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
