//! The streams of this broker's followers to their leaders.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tidelog_replica::link::LinkWork;
use tidelog_types::{BrokerId, TopicIdPartition};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Connect;
use super::link::Link;
use crate::partition::{FollowerLinks, ReplicaManager};

/// One link for each broker that leads something that is followed here. A link is made when it is
/// first needed and kept: there are never more than brokers.
pub struct Links {
    manager: Weak<ReplicaManager>,
    connect: Connect,
    by_leader: Mutex<HashMap<BrokerId, Arc<Link>>>,
    runtime: Handle,
    tasks: TaskTracker,
    /// Ends every link's task.
    stop: CancellationToken,
}

impl Links {
    /// Connects the manager's followers to their leaders, until `stop` is cancelled. Within a tokio
    /// runtime's context.
    pub fn start(manager: &Arc<ReplicaManager>, connect: Connect, stop: CancellationToken) -> Arc<Self> {
        let links = Arc::new(Self {
            manager: Arc::downgrade(manager),
            connect,
            by_leader: Mutex::default(),
            runtime: Handle::current(),
            tasks: TaskTracker::new(),
            stop,
        });
        manager.connect(Arc::clone(&links) as Arc<dyn FollowerLinks>);
        links
    }

    /// Waits until every link has ended, after the token was cancelled.
    pub async fn drained(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn link(&self, leader: BrokerId) -> Option<Arc<Link>> {
        let mut links = self.by_leader.lock();
        if let Some(link) = links.get(&leader) {
            return Some(Arc::clone(link));
        }
        let manager = self.manager.upgrade()?;
        let link = Arc::new(Link::new(leader, &manager));
        links.insert(leader, Arc::clone(&link));
        let running = Arc::clone(&link).run(Arc::clone(&self.connect), self.stop.clone());
        self.tasks.spawn_on(running, &self.runtime);
        Some(link)
    }
}

impl FollowerLinks for Links {
    fn queue(&self, leader: BrokerId, partition: TopicIdPartition, work: LinkWork) {
        if let Some(link) = self.link(leader) {
            link.queue(partition, work);
        }
    }
}
