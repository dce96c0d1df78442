//! Brokers for tests of the consumer: real gRPC over loopback, a log in memory, and groups that do
//! what the test says.

mod services;
mod session;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tidelog_proto::v1;
use tidelog_record::Batch;
use tidelog_types::TopicId;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio_stream::wrappers::TcpListenerStream;

use crate::client::Client;

pub(crate) use session::FakeSession;

/// The cluster. Its brokers stop when it is dropped.
pub(crate) struct FakeCluster {
    pub(crate) state: Arc<State>,
    /// Streams that members open, for the test to answer.
    pub(crate) sessions: mpsc::UnboundedReceiver<FakeSession>,
    _servers: JoinSet<()>,
}

pub(crate) struct State {
    pub(crate) world: Mutex<World>,
    changed: Notify,
    opened: mpsc::UnboundedSender<FakeSession>,
}

/// Everything the brokers agree on.
#[derive(Default)]
pub(crate) struct World {
    addresses: BTreeMap<u32, String>,
    partitions: BTreeMap<(String, u32), FakePartition>,
    /// Where groups are coordinated.
    pub(crate) coordinator: u32,
    pub(crate) committed: BTreeMap<(String, u32), u64>,
    /// What happened, in order: commits, revocations, and whatever the test notes.
    pub(crate) events: Vec<String>,
    /// Refusals of the next commits.
    pub(crate) commit_refusals: VecDeque<i32>,
    /// Commits of an older member epoch are refused as stale, however often they are tried.
    pub(crate) commit_epoch: u32,
    pub(crate) commits: Vec<v1::CommitRequest>,
    /// Every partition that was asked for, and at which broker.
    pub(crate) fetches: Vec<(u32, v1::PartitionFetch)>,
    /// Every offset that was asked for.
    pub(crate) offset_queries: Vec<v1::PartitionOffsetQuery>,
    /// Brokers that are cut off from their cluster, and for how long, milliseconds.
    pub(crate) cut_off_ms: BTreeMap<u32, u64>,
    /// What metadata say of leaders, where that is not the truth.
    pub(crate) stale_leaders: BTreeMap<(String, u32), (u32, u32)>,
    /// Most entries of an answer's list; 0 for all of them.
    pub(crate) page_size: usize,
    /// Pages that were asked for.
    pub(crate) pages: usize,
    /// The ids that a topic's next descriptions tell, instead of its own.
    pub(crate) described_as: VecDeque<TopicId>,
}

impl World {
    /// The page of a list that is asked for, and where the next one begins; empty after the last.
    fn page<T>(&mut self, list: Vec<T>, asked: Option<v1::PageRequest>) -> (Vec<T>, String) {
        self.pages += 1;
        let size = match self.page_size {
            0 => list.len(),
            size => size,
        };
        let first: usize = asked.map_or(0, |asked| asked.token.parse().unwrap());
        let next = first + size;
        let token = if next < list.len() {
            next.to_string()
        } else {
            String::new()
        };
        (list.into_iter().skip(first).take(size).collect(), token)
    }
}

#[derive(Clone)]
pub(crate) struct FakePartition {
    pub(crate) leader: u32,
    pub(crate) epoch: u32,
    pub(crate) log_start: u64,
    pub(crate) end: u64,
    pub(crate) batches: Vec<(u64, Bytes)>,
}

impl FakeCluster {
    /// Brokers 1 to `count`; broker 1 coordinates groups.
    pub(crate) async fn start(count: u32) -> Self {
        Self::start_on((1..=count).map(|_| "127.0.0.1:0".to_owned())).await
    }

    /// One broker, on a port that was free a moment ago.
    pub(crate) async fn start_at(address: &str) -> Self {
        Self::start_on([address.to_owned()]).await
    }

    async fn start_on(addresses: impl IntoIterator<Item = String>) -> Self {
        let (opened, sessions) = mpsc::unbounded_channel();
        let state = Arc::new(State {
            world: Mutex::new(World {
                coordinator: 1,
                ..World::default()
            }),
            changed: Notify::new(),
            opened,
        });
        let mut servers = JoinSet::new();
        for (id, address) in (1..).zip(addresses) {
            let listener = TcpListener::bind(address).await.unwrap();
            let address = listener.local_addr().unwrap().to_string();
            state.world.lock().addresses.insert(id, address);
            let router = services::router(id, Arc::clone(&state));
            servers.spawn(async move {
                let incoming = TcpListenerStream::new(listener);
                router.serve_with_incoming(incoming).await.unwrap();
            });
        }
        Self {
            state,
            sessions,
            _servers: servers,
        }
    }

    pub(crate) async fn client(&self) -> Client {
        let bootstrap: Vec<String> = self.state.world.lock().addresses.values().cloned().collect();
        Client::builder(bootstrap).connect().await.unwrap()
    }

    /// From now on this broker tells clients that it serves there.
    pub(crate) fn advertise(&self, broker: u32, address: &str) {
        self.state
            .world
            .lock()
            .addresses
            .insert(broker, address.to_owned());
    }

    pub(crate) fn address(&self, broker: u32) -> String {
        self.state.world.lock().addresses[&broker].clone()
    }

    /// A topic whose partitions are all led by broker 1 in epoch 1.
    pub(crate) fn topic(&self, name: &str, partitions: u32) {
        for index in 0..partitions {
            let partition = FakePartition {
                leader: 1,
                epoch: 1,
                log_start: 0,
                end: 0,
                batches: Vec::new(),
            };
            self.state
                .world
                .lock()
                .partitions
                .insert((name.to_owned(), index), partition);
        }
    }

    pub(crate) fn append(&self, topic: &str, partition: u32, batch: Batch) {
        let end = batch.header().last_offset().next().0;
        self.append_bytes(
            topic,
            partition,
            batch.header().base_offset.0,
            end,
            batch.into_bytes(),
        );
    }

    pub(crate) fn append_bytes(&self, topic: &str, partition: u32, base: u64, end: u64, bytes: Bytes) {
        self.change(topic, partition, |known| {
            known.batches.push((base, bytes));
            known.end = end;
        });
    }

    pub(crate) fn change(&self, topic: &str, partition: u32, change: impl FnOnce(&mut FakePartition)) {
        let mut world = self.state.world.lock();
        change(world.partitions.get_mut(&(topic.to_owned(), partition)).unwrap());
        drop(world);
        self.state.changed.notify_waiters();
    }

    /// The next stream that a member opens.
    pub(crate) async fn session(&mut self) -> FakeSession {
        self.sessions.recv().await.unwrap()
    }

    /// Takes a member in, in epoch 1, and gives it these partitions.
    pub(crate) async fn admit(&mut self, partitions: &[(&str, u32)]) -> FakeSession {
        let session = self.session().await;
        assert_eq!(session.join.member_epoch, 0);
        session.joined(1);
        session.assign(1, 1, partitions);
        session
    }

    pub(crate) fn note(&self, event: impl Into<String>) {
        self.state.note(event);
    }

    pub(crate) fn events(&self) -> Vec<String> {
        self.state.world.lock().events.clone()
    }

    pub(crate) fn committed(&self, topic: &str, partition: u32) -> Option<u64> {
        let world = self.state.world.lock();
        world.committed.get(&(topic.to_owned(), partition)).copied()
    }
}

impl State {
    pub(crate) fn note(&self, event: impl Into<String>) {
        self.world.lock().events.push(event.into());
    }
}

impl World {
    fn leader(&self, broker: u32, epoch: u32) -> v1::Leader {
        v1::Leader {
            broker_id: broker,
            leader_epoch: epoch,
            address: self.addresses.get(&broker).cloned().unwrap_or_default(),
        }
    }
}

pub(crate) fn topic_id(name: &str) -> TopicId {
    // The name itself: short enough in tests.
    let mut bytes = [0; 16];
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    TopicId(uuid::Uuid::from_bytes(bytes))
}

pub(crate) fn refusal(code: i32) -> v1::Error {
    v1::Error {
        code,
        message: "as the test wants".to_owned(),
        leader: None,
    }
}
