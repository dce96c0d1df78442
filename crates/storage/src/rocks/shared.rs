//! What the store's handle and its threads share.

use std::sync::Arc;

use parking_lot::Mutex;

use super::codec::DirectoryIdentity;
use super::engine::Engine;
use super::health::Health;
use super::queue::Queue;
use super::reclaim::ToReclaim;
use super::syncer::Tickets;
use super::tails::Tails;
use super::upkeep::Upkeep;
use crate::cache::TailCache;

pub(crate) struct Shared {
    pub(crate) engine: Engine,
    pub(crate) health: Health,
    pub(crate) queue: Queue,
    pub(crate) tickets: Arc<Tickets>,
    pub(crate) tails: Tails,
    pub(crate) cache: TailCache,
    pub(crate) upkeep: Upkeep,
    pub(crate) to_reclaim: ToReclaim,
    pub(crate) identity: Mutex<DirectoryIdentity>,
}
