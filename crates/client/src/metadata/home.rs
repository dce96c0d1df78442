//! The cluster that a client belongs to: the first that answered. It never takes another one for
//! it.
//!
//! 1. Every call carries its id, so that a broker of another cluster refuses it
//!    ([`crate::connection`]); an answer of another cluster is not taken, should a broker be too
//!    old to refuse.
//! 2. One address that became another cluster's is passed over, like one that nobody answers at: an
//!    address may be given to somebody else while our brokers live on elsewhere.
//! 3. Once every address was tried, one of them was another cluster's, and none was ours for a
//!    while, the client is *astray*: whatever waits fails for good. It goes on looking, and what is
//!    asked of it after one of its brokers answered again is done.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use tidelog_types::ClusterId;
use tokio::time::Instant;

use super::MetadataAnswer;
use crate::error::{Error, ErrorKind, Result};

/// How long none of our brokers answers, while another cluster's do, before the client takes itself
/// for astray: brokers that are all restarted at once are back by then, or refuse connections a
/// little longer and are found when they are.
const ASTRAY_AFTER: Duration = Duration::from_secs(2);

/// Which cluster, and what speaks against finding it.
#[derive(Debug, Default)]
pub(crate) struct Home {
    id: Arc<OnceLock<ClusterId>>,
    search: Mutex<Search>,
}

/// Since one of our brokers last answered.
#[derive(Debug, Default)]
struct Search {
    failures: usize,
    since: Option<Instant>,
    foreign: Option<Error>,
}

impl Home {
    /// Of a client whose calls carry this id, once it is known.
    pub(crate) fn new(id: Arc<OnceLock<ClusterId>>) -> Self {
        Self {
            id,
            search: Mutex::default(),
        }
    }

    /// Gives the answer back if it is our cluster's, which the first one decides.
    pub(super) fn welcome(&self, answer: MetadataAnswer) -> Result<MetadataAnswer> {
        match (self.id.get(), answer.cluster_id) {
            (None, None) => Ok(answer),
            (_, Some(theirs)) => {
                let ours = *self.id.get_or_init(|| theirs);
                if theirs == ours {
                    Ok(answer)
                } else {
                    Err(foreign(theirs, ours))
                }
            }
            (Some(_), None) => {
                let message = "the broker belongs to no cluster yet";
                Err(Error::new(ErrorKind::Unreachable, message))
            }
        }
    }

    /// One of our brokers answered.
    pub(super) fn answered(&self) {
        *self.search.lock() = Search::default();
    }

    /// An address was tried in vain, one of so many. The error if that makes the client astray.
    pub(super) fn failed(&self, error: &Error, addresses: usize, now: Instant) -> Option<Error> {
        let mut search = self.search.lock();
        search.failures += 1;
        let since = *search.since.get_or_insert(now);
        if error.kind() == ErrorKind::ForeignCluster {
            search.foreign = Some(error.clone());
        }
        let tried_all = search.failures >= addresses && now - since >= ASTRAY_AFTER;
        search.foreign.clone().filter(|_| tried_all)
    }
}

fn foreign(theirs: ClusterId, ours: ClusterId) -> Error {
    let message = format!(
        "the broker belongs to cluster {theirs}, this client to cluster {ours}: check the addresses; if the cluster was replaced on \
         purpose, make another client"
    );
    Error::new(ErrorKind::ForeignCluster, message)
}
