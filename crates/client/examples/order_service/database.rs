//! A service's own database.
//!
//! A group hands out every record *at least* once: after a crash those again that were worked off
//! and not committed yet. So an effect must be safe to repeat. Here, as in a real database, the
//! order's id is stored in the same transaction as its effect, under a unique key: a second
//! delivery finds it there and changes nothing.
//!
//! The other way is to store the *offset* in that transaction, and to begin there with `seek` when
//! partitions are assigned.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use tokio::sync::watch;

/// What a service did, by order.
pub(crate) struct Database {
    name: &'static str,
    tables: Mutex<Tables>,
    /// How many orders are worked off.
    orders: watch::Sender<u64>,
}

#[derive(Default)]
struct Tables {
    /// The unique key is the order's id.
    effects: BTreeMap<u64, String>,
    /// Deliveries that found their effect done.
    again: u64,
}

impl Database {
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            tables: Mutex::default(),
            orders: watch::Sender::new(0),
        }
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// One transaction: the effect, unless it was done before. Durable when this returns, were it a
    /// real database.
    pub(crate) fn apply(&self, order_id: u64, effect: impl FnOnce() -> String) {
        let mut tables = self.tables.lock();
        if tables.effects.contains_key(&order_id) {
            tables.again += 1;
            return;
        }
        tables.effects.insert(order_id, effect());
        self.orders.send_replace(tables.effects.len() as u64);
    }

    /// Waits until so many orders are worked off.
    pub(crate) async fn has(&self, orders: u64) {
        // The sender lives as long as this does.
        let _ = self
            .orders
            .subscribe()
            .wait_for(|worked_off| *worked_off >= orders)
            .await;
    }

    /// How many orders had their effect, and how many deliveries were repetitions.
    pub(crate) fn figures(&self) -> (u64, u64) {
        let tables = self.tables.lock();
        (tables.effects.len() as u64, tables.again)
    }
}
