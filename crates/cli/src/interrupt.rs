//! Signals: the first SIGINT or SIGTERM asks for an orderly end, a second one ends the program at
//! once.

use std::sync::LazyLock;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::exit::{Exit, Failure};
use crate::{stderr, tell};

/// How long a command may take to end after the first signal.
const GRACE: Duration = Duration::from_secs(5);
/// What of it a command spends on waiting for brokers, so that it has time to say what is left.
pub(crate) const CLOSE: Duration = Duration::from_secs(4);
/// How long the last line may take when a second signal ends the program.
const AT_ONCE: Duration = Duration::from_millis(200);

/// A process gets its signals once, whoever of it wants to know.
static FIRST: LazyLock<CancellationToken> = LazyLock::new(CancellationToken::new);

/// Cancelled by the first signal, in a program that listens.
pub(crate) fn first() -> CancellationToken {
    FIRST.clone()
}

/// Listens from now on, for a broker: its orderly end takes as long as it takes. Call it inside the
/// runtime.
pub(crate) fn listen() -> Result<CancellationToken> {
    listen_for(None)
}

/// The same for a command, which ends a few seconds after the first signal, whatever holds it up.
pub(crate) fn listen_for_command() -> Result<CancellationToken> {
    listen_for(Some(GRACE))
}

/// How a command ends that a signal has ended, and what is left.
pub(crate) fn ended(left: &str) -> anyhow::Error {
    Failure::new(Exit::Interrupted, format!("interrupted: {left}")).into()
}

fn listen_for(grace: Option<Duration>) -> Result<CancellationToken> {
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    tokio::spawn(async move {
        either(&mut interrupt, &mut terminate).await;
        FIRST.cancel();
        let too_long = async {
            match grace {
                Some(grace) => tokio::time::sleep(grace).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = either(&mut interrupt, &mut terminate) => {}
            () = too_long => {
                tell!("tidelog: not done {} s after the signal: ended all the same", GRACE.as_secs());
            }
        }
        stderr::flush(AT_ONCE);
        std::process::exit(Exit::Interrupted as i32);
    });
    Ok(first())
}

async fn either(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
