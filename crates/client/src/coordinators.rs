//! Which broker coordinates which group, as last heard of.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;

use crate::client::Inner;
use crate::connection::Channel;
use crate::error::Result;
use crate::metadata::LeaderHint;
use crate::wire::Refusal;
use crate::wire::groups::find_coordinator;

/// Addresses by group. One entry a group that this client ever named.
#[derive(Debug, Default)]
pub(crate) struct Coordinators {
    known: Mutex<HashMap<String, LeaderHint>>,
}

impl Coordinators {
    /// A channel to the coordinator, with its address; asks any broker if it is not known.
    pub(crate) async fn channel(
        &self,
        client: &Inner,
        group: &str,
        timeout: Duration,
    ) -> Result<(String, Channel)> {
        let known = self.known.lock().get(group).map(|hint| hint.address.clone());
        let address = match known {
            Some(address) => address,
            None => self.find(client, group, timeout).await?.address,
        };
        let channel = client.connections.to(&address)?;
        Ok((address, channel))
    }

    /// Asks any broker, whatever is known.
    pub(crate) async fn find(&self, client: &Inner, group: &str, timeout: Duration) -> Result<LeaderHint> {
        let found = find_coordinator(client.any_channel()?, group, timeout).await;
        let hint = found.map_err(|refusal| refusal.error)?;
        let address = if hint.address.is_empty() {
            // The broker that was asked does not know where the coordinator serves this listener's
            // clients.
            client.address_of(hint.broker)?
        } else {
            hint.address.clone()
        };
        let hint = LeaderHint { address, ..hint };
        self.known.lock().insert(group.to_owned(), hint.clone());
        Ok(hint)
    }

    /// Takes note of a failed call: who was asked is asked no more if it does not coordinate the
    /// group or does not answer.
    pub(crate) fn refused(&self, client: &Inner, group: &str, address: &str, refusal: &Refusal) {
        if !refusal.error.needs_metadata() && !refusal.error.is_lost_connection() {
            return;
        }
        client.metadata.request_refresh();
        let mut known = self.known.lock();
        let asked = known.get(group).is_some_and(|hint| hint.address == address);
        if !asked {
            return;
        }
        match &refusal.leader {
            Some(hint) if !hint.address.is_empty() && hint.address != address => {
                known.insert(group.to_owned(), hint.clone());
            }
            _ => {
                known.remove(group);
            }
        }
    }
}
