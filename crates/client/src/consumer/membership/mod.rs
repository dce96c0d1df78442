//! A member's life in its group.
//!
//! Two tasks, so that heartbeats never wait for the application:
//!
//! ```text
//!  coordinator ◄── Join, Heartbeat, Revoked, Leave ── session ── Directive ──► reconciler ── hooks, commits ──► application
//!              ── Joined, Assignment, answers ──────►         ◄── Command ──             ── slots come and go ──► fetcher
//! ```
//!
//! 1. The *session* keeps one stream to the coordinator alive: joins, resumes with everything still
//!    owned, heartbeats. It tells the reconciler what the member may own. Where the member was
//!    fenced, or could not be heard for the session timeout, it stops the handing out at once and
//!    begins another *life*.
//! 2. The *reconciler* moves the member towards its assignment: stops reading what was taken away,
//!    runs the hook, commits what is marked, drops it, and only then has the session say Revoked;
//!    then begins to read what is new.

mod reconcile;
mod reconciler;
mod session;

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::wire::session::{Assigned, Subscription};

pub(super) use reconciler::Reconciler;
pub(super) use session::Session;

/// How a member presents itself.
#[derive(Debug, Clone)]
pub(super) struct Membership {
    pub(super) group: std::sync::Arc<str>,
    pub(super) instance_id: Option<String>,
    pub(super) subscription: Subscription,
    pub(super) max_poll_interval: Duration,
}

/// What the member may own, by the newest word of its coordinator. A newer one replaces an older.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Directive {
    /// What is owned in an earlier life is lost.
    pub(super) life: u64,
    /// Counts the streams of this consumer.
    pub(super) stream: u64,
    pub(super) version: u64,
    /// `None` until an assignment came in this life.
    pub(super) target: Option<BTreeSet<Assigned>>,
}

/// What the reconciler has the session say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    /// Everything that this assignment took away is given up.
    Reconciled { stream: u64, version: u64 },
    /// The member leaves, and the session ends.
    Leave,
}

pub(super) type Commands = mpsc::UnboundedSender<Command>;
