//! Hooks around the coming and going of partitions.

use std::fmt;
use std::pin::Pin;

use tidelog_types::TopicPartition;

use super::committer::Committer;

/// What a hook returns: `Box::pin(async move { … })`.
pub type HookFuture<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Told when partitions come and go. Every method may be left out.
///
/// The hooks of a consumer run one after another, on a task of their own: heartbeats go on
/// meanwhile, and so does the handing out of partitions that are not concerned. A hook that takes
/// longer than `max_poll_interval` in giving up partitions has the member removed by its
/// coordinator. Every partition that was `assigned` is either `revoked` or `lost` later, once.
///
/// ```no_run
/// use tidelog_client::{Committer, HookFuture, RebalanceListener, TopicPartition};
///
/// struct Cache;
///
/// impl RebalanceListener for Cache {
///     fn revoked<'a>(&'a self, partitions: &'a [TopicPartition], committer: &'a Committer) -> HookFuture<'a> {
///         Box::pin(async move {
///             // Write out what is cached for these partitions, then say how far that is.
///             if let Err(error) = committer.commit().await {
///                 eprintln!("{partitions:?} will be read again from the last commit: {error}");
///             }
///         })
///     }
/// }
/// ```
pub trait RebalanceListener: Send + Sync + 'static {
    /// These partitions are ours now. Nothing of them is handed out before this returns.
    fn assigned<'a>(&'a self, partitions: &'a [TopicPartition]) -> HookFuture<'a> {
        let _ = partitions;
        Box::pin(std::future::ready(()))
    }

    /// These partitions will be given up when this returns; they are still ours, so that what was
    /// processed may be committed. Nothing of them is handed out any more. What is marked is
    /// committed after this in any case.
    fn revoked<'a>(&'a self, partitions: &'a [TopicPartition], committer: &'a Committer) -> HookFuture<'a> {
        let _ = (partitions, committer);
        Box::pin(std::future::ready(()))
    }

    /// These partitions were taken away: the member was silent too long, or was fenced. They may
    /// have another owner already, so nothing can be committed for them; what was not committed is
    /// read again by whoever owns them.
    fn lost<'a>(&'a self, partitions: &'a [TopicPartition]) -> HookFuture<'a> {
        let _ = partitions;
        Box::pin(std::future::ready(()))
    }
}

/// Of an application that does not care.
pub(super) struct NoListener;

impl RebalanceListener for NoListener {}

impl fmt::Debug for dyn RebalanceListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RebalanceListener")
    }
}
