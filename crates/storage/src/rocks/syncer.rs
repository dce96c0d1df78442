//! The sync thread: makes durable what the writer wrote, while the writer writes on.
//!
//! 1. The writer publishes a ticket after its `write` returned, then tells the listener, then says
//!    so here.
//! 2. The syncer takes the newest ticket *before* it syncs the WAL, so that the sync covers
//!    everything up to it.
//! 3. After the sync it reports that ticket's progress durable: never a position that it read
//!    afterwards.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Condvar, Mutex};
use tidelog_log::Progress;
use tidelog_types::crash::point;

use super::engine::Engine;
use super::health::Health;

/// What writer and syncer share.
#[derive(Default)]
pub(crate) struct Tickets {
    state: Mutex<State>,
    changed: Condvar,
    /// RocksDB's sequence number that the last sync covered; read by the one who keeps the mark.
    synced_sequence: AtomicU64,
}

#[derive(Default)]
struct State {
    /// The newest write that returned.
    written: u64,
    /// The newest write that the listener was told of.
    announced: u64,
    /// RocksDB's sequence number after it.
    sequence: u64,
    /// Of the writes that no sync has taken yet.
    progress: Vec<Progress>,
    /// The newest write that a sync covered.
    synced: u64,
    closed: bool,
}

impl Tickets {
    /// A write returned; what it brought is due to be synced.
    pub(crate) fn publish(&self, progress: &[Progress], sequence: u64) {
        let mut state = self.state.lock();
        state.written += 1;
        state.sequence = sequence;
        state.progress.extend_from_slice(progress);
        self.changed.notify_all();
    }

    /// The listener was told of everything published.
    pub(crate) fn announce(&self) {
        let mut state = self.state.lock();
        state.announced = state.written;
        self.changed.notify_all();
    }

    /// No write will follow.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.changed.notify_all();
    }

    pub(crate) fn synced_sequence(&self) -> u64 {
        self.synced_sequence.load(Ordering::Acquire)
    }

    pub(crate) fn set_synced_sequence(&self, sequence: u64) {
        self.synced_sequence.store(sequence, Ordering::Release);
    }
}

/// Runs until the tickets are closed and all synced, or a sync fails.
pub(crate) fn run(tickets: &Arc<Tickets>, engine: &Engine, health: &Health) {
    loop {
        let (ticket, sequence, progress) = {
            let mut state = tickets.state.lock();
            while state.written == state.synced {
                if state.closed {
                    return;
                }
                tickets.changed.wait(&mut state);
            }
            (state.written, state.sequence, std::mem::take(&mut state.progress))
        };
        point("crash:storage/sync/begun");
        if let Err(error) = engine.sync() {
            // Never tried again: after a failed fsync the kernel may have dropped the very pages.
            health.poison(error);
            return;
        }
        point("crash:storage/sync/done");
        tickets.set_synced_sequence(sequence);
        {
            let mut state = tickets.state.lock();
            state.synced = ticket;
            while state.announced < ticket && !state.closed {
                tickets.changed.wait(&mut state);
            }
        }
        health.durable(&Progress::merged(progress));
        point("crash:storage/sync/told");
    }
}
