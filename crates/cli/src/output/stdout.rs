//! Standard output for commands that must heed signals while nobody reads it: a thread of its own
//! writes.

use std::io::{self, Write};

use anyhow::Result;
use tokio::sync::{mpsc, oneshot};

use super::printed;

/// Hands bytes to the thread. Whoever awaits a write may stop waiting: what was handed over may
/// come out all the same.
#[derive(Debug)]
pub(crate) struct Stdout {
    jobs: mpsc::Sender<Job>,
}

#[derive(Debug)]
struct Job {
    bytes: Vec<u8>,
    done: oneshot::Sender<io::Result<Vec<u8>>>,
}

impl Stdout {
    /// Starts the thread. It is not joined: while nobody reads, it cannot be told to end.
    pub(crate) fn start() -> Self {
        let (jobs, mut receiver) = mpsc::channel::<Job>(1);
        std::thread::spawn(move || {
            while let Some(Job { mut bytes, done }) = receiver.blocking_recv() {
                let mut out = io::stdout().lock();
                let outcome = out.write_all(&bytes).and_then(|()| out.flush());
                bytes.clear();
                // Nobody waits any more if this fails.
                let _ = done.send(outcome.map(|()| bytes));
            }
        });
        Self { jobs }
    }

    /// Writes all of it, out of this process. The buffer comes back empty, to be filled again.
    pub(crate) async fn write(&self, bytes: Vec<u8>) -> Result<Vec<u8>> {
        let (done, outcome) = oneshot::channel();
        let gone = |_| io::Error::other("the thread that writes is gone");
        let handed_over = self.jobs.send(Job { bytes, done }).await;
        printed(handed_over.map_err(|_| io::Error::other("the thread that writes is gone")))?;
        let outcome = outcome.await.unwrap_or_else(|lost| Err(gone(lost)));
        let (outcome, buffer) = match outcome {
            Ok(buffer) => (Ok(()), buffer),
            Err(error) => (Err(error), Vec::new()),
        };
        printed(outcome)?;
        Ok(buffer)
    }
}
