//! The service over loopback gRPC, on a log in memory.

use std::sync::Arc;
use std::time::Duration;

use tidelog_cluster::broker::BrokerImage;
use tidelog_cluster::change::Change;
use tidelog_cluster::configs::TopicConfigs;
use tidelog_cluster::ids::Listener as Advertised;
use tidelog_cluster::image::{ClusterImage, MetadataIndex};
use tidelog_group::GroupConfig;
use tidelog_proto::v1;
use tidelog_proto::v1::groups_client::GroupsClient;
use tidelog_proto::v1::groups_server::GroupsServer;
use tidelog_proto::v1::session_event::Event;
use tidelog_proto::v1::session_request::Request as Said;
use tidelog_types::limits::CONSUMER_OFFSETS_PARTITIONS;
use tidelog_types::{
    BrokerEpoch, BrokerId, DirectoryId, LeaderEpoch, PartitionEpoch, PartitionIndex, PartitionRegistration,
    TopicId, TopicIdPartition, TopicName,
};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Streaming;
use tonic::transport::{Channel, Server};

use super::super::Listener;
use super::GroupsService;
use crate::coordinator::memory_log::MemoryLog;
use crate::group::Groups;
use crate::group::tests::topics;

const PATIENCE: Duration = Duration::from_secs(10);
const GROUP: &str = "inventory";

fn broker(id: u32) -> BrokerId {
    BrokerId::new(id).unwrap()
}

/// Two brokers, and `__consumer_offsets` led by one of them.
fn image(leader: u32) -> Arc<ClusterImage> {
    let topic_id = TopicId::from_slice(&[9; 16]).unwrap();
    let mut changes: Vec<Change> = (1..=2)
        .map(|id| {
            Change::Broker(Arc::new(BrokerImage {
                id: broker(id),
                epoch: BrokerEpoch(id.into()),
                directory: DirectoryId::from_slice(&[id as u8; 16]).unwrap(),
                fenced: false,
                draining: false,
                peer_address: format!("peer-{id}:7172"),
                listeners: vec![Advertised {
                    name: "main".to_owned(),
                    address: format!("broker-{id}:7171"),
                }],
                feature_level: 1,
            }))
        })
        .collect();
    let configs = TopicConfigs::validated(std::collections::BTreeMap::new(), true).unwrap();
    changes.push(Change::Topic {
        topic_id,
        name: TopicName::consumer_offsets(),
        configs,
    });
    for partition in 0..CONSUMER_OFFSETS_PARTITIONS {
        changes.push(Change::Partition {
            partition: TopicIdPartition {
                topic_id,
                partition: PartitionIndex(partition),
            },
            registration: PartitionRegistration {
                replicas: vec![broker(1), broker(2)],
                isr: vec![broker(1), broker(2)],
                elr: vec![],
                leader: Some(broker(leader)),
                last_known_leader: None,
                leader_epoch: LeaderEpoch(4),
                partition_epoch: PartitionEpoch(1),
                min_insync_replicas: 1,
            },
            unclean: false,
        });
    }
    let mut image = ClusterImage::default();
    image.replay(MetadataIndex(1), &changes);
    Arc::new(image)
}

struct Rig {
    client: GroupsClient<Channel>,
    groups: Groups<MemoryLog>,
    _topics: watch::Sender<Arc<tidelog_group::Topics>>,
}

impl Rig {
    async fn new(leader: u32) -> Self {
        Self::with_topics(leader, &[("orders", 3)]).await
    }

    async fn with_topics(leader: u32, existing: &[(&str, u32)]) -> Self {
        let log = MemoryLog::new();
        let (sender, view) = watch::channel(topics(existing));
        let tasks = TaskTracker::new();
        let cancel = CancellationToken::new();
        let groups = Groups::new(
            Arc::clone(&log),
            GroupConfig::default(),
            view,
            tasks.clone(),
            cancel,
        );
        if leader == 1 {
            for partition in (0..CONSUMER_OFFSETS_PARTITIONS).map(PartitionIndex) {
                groups
                    .runtime()
                    .lead(partition, LeaderEpoch(4), log.elect(partition, 4));
            }
            while groups
                .runtime()
                .shards()
                .values()
                .any(|shard| shard.check().is_err())
            {
                tokio::task::yield_now().await;
            }
        }
        let image = image(leader);
        let listener = Listener { name: "main".into() };
        let service = GroupsService::new(
            groups.clone(),
            Arc::new(move || Arc::clone(&image)),
            listener,
            tasks,
        );
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let server = Server::builder().add_service(GroupsServer::new(service));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(socket)));
        let client = GroupsClient::connect(format!("http://{address}")).await.unwrap();
        Self {
            client,
            groups,
            _topics: sender,
        }
    }

    async fn join(&self) -> Member {
        Member::open(
            self.client.clone(),
            v1::Join {
                group_id: GROUP.to_owned(),
                ..subscribed()
            },
        )
        .await
    }

    async fn commit(&self, member: Option<&Member>, offsets: &[(u32, u64)]) -> v1::CommitResponse {
        let offset = |(partition, offset): &(u32, u64)| v1::OffsetToCommit {
            topic: "orders".to_owned(),
            partition: *partition,
            offset: *offset,
            leader_epoch: Some(1),
            metadata: "note".to_owned(),
            topic_id: None,
        };
        let request = v1::CommitRequest {
            group_id: GROUP.to_owned(),
            member_id: member.map_or(String::new(), |member| member.id.clone()),
            member_epoch: member.map_or(0, |member| member.epoch),
            offsets: offsets.iter().map(offset).collect(),
        };
        self.client.clone().commit(request).await.unwrap().into_inner()
    }

    async fn offsets(&self) -> Vec<(u32, u64)> {
        let request = v1::OffsetsRequest {
            group_id: GROUP.to_owned(),
            ..Default::default()
        };
        let answer = self.client.clone().offsets(request).await.unwrap().into_inner();
        assert_eq!(answer.error, None);
        answer
            .offsets
            .iter()
            .map(|offset| (offset.partition, offset.offset))
            .collect()
    }
}

fn subscribed() -> v1::Join {
    let subscription = v1::Subscribe {
        topics: vec!["orders".to_owned()],
        ..Default::default()
    };
    v1::Join {
        subscription: Some(subscription),
        client_id: "test".to_owned(),
        ..Default::default()
    }
}

/// A member that obeys: it gives up at once what it is told to.
struct Member {
    id: String,
    epoch: u32,
    owned: Vec<u32>,
    requests: mpsc::Sender<v1::SessionRequest>,
    events: Streaming<v1::SessionEvent>,
}

impl Member {
    async fn open(mut client: GroupsClient<Channel>, join: v1::Join) -> Self {
        let (requests, sent) = mpsc::channel(16);
        requests
            .send(v1::SessionRequest {
                request: Some(Said::Join(join)),
            })
            .await
            .unwrap();
        let events = client
            .session(ReceiverStream::new(sent))
            .await
            .unwrap()
            .into_inner();
        let mut member = Self {
            id: String::new(),
            epoch: 0,
            owned: Vec::new(),
            requests,
            events,
        };
        match member.next().await {
            Some(Event::Joined(joined)) => {
                assert_eq!(
                    (joined.heartbeat_interval_ms, joined.session_timeout_ms),
                    (5_000, 45_000)
                );
                (member.id, member.epoch) = (joined.member_id, joined.member_epoch);
            }
            other => panic!("expected Joined, got {other:?}"),
        }
        member
    }

    async fn say(&self, said: Said) {
        self.requests
            .send(v1::SessionRequest { request: Some(said) })
            .await
            .unwrap();
    }

    async fn next(&mut self) -> Option<Event> {
        let event = tokio::time::timeout(PATIENCE, self.events.message())
            .await
            .expect("no event came")
            .unwrap();
        event.map(|event| event.event.unwrap())
    }

    /// Takes one push and answers it.
    async fn obey(&mut self) {
        match self.next().await {
            Some(Event::Assignment(assignment)) => {
                self.epoch = assignment.member_epoch;
                self.owned = assignment
                    .partitions
                    .iter()
                    .flat_map(|topic| topic.partitions.clone())
                    .collect();
                self.say(Said::Revoked(v1::Revoked {
                    member_epoch: self.epoch,
                    assignment_version: assignment.version,
                    owned: assignment.partitions,
                }))
                .await;
            }
            other => panic!("expected an assignment, got {other:?}"),
        }
    }

    async fn obey_until(&mut self, count: usize) {
        while self.owned.len() != count {
            self.obey().await;
        }
    }
}

async fn stable(rig: &Rig, members: usize) {
    let wait = async {
        loop {
            let request = v1::DescribeGroupRequest {
                group_id: GROUP.to_owned(),
                page: None,
            };
            let group = rig.client.clone().describe(request).await.unwrap().into_inner();
            if group.state == "Stable" && group.members.len() == members {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, wait)
        .await
        .expect("the group never settled");
}

#[tokio::test]
async fn members_share_a_topic_as_they_come_and_go() {
    let rig = Rig::new(1).await;
    let mut first = rig.join().await;
    first.obey_until(3).await;
    let mut second = rig.join().await;
    first.obey_until(2).await;
    second.obey_until(1).await;
    let mut third = rig.join().await;
    first.obey_until(1).await;
    third.obey_until(1).await;
    // The others' epochs moved with it.
    while first.epoch < third.epoch {
        first.obey().await;
    }
    while second.epoch < third.epoch {
        second.obey().await;
    }
    stable(&rig, 3).await;
    let mut all: Vec<u32> = [&first, &second, &third]
        .iter()
        .flat_map(|member| member.owned.clone())
        .collect();
    all.sort_unstable();
    assert_eq!(all, [0, 1, 2]);

    // A member commits what it owns, and everybody reads it.
    assert_eq!(
        rig.commit(Some(&second), &[(second.owned[0], 40)]).await,
        v1::CommitResponse::default()
    );
    assert_eq!(rig.offsets().await, [(second.owned[0], 40)]);

    second.say(Said::Leave(v1::Leave { keep_instance: false })).await;
    assert_eq!(
        second.next().await,
        None,
        "an orderly leave ends the stream without an error"
    );
    while first.owned.len() + third.owned.len() < 3 {
        tokio::select! {
            () = first.obey() => {}
            () = third.obey() => {}
        }
    }
    stable(&rig, 2).await;
    // The zombie's commit is refused, and what it had committed stays (G12, G13).
    let refused = rig
        .commit(Some(&second), &[(second.owned[0], 1)])
        .await
        .error
        .unwrap();
    assert_eq!(refused.code, 25);
    assert_eq!(rig.offsets().await, [(second.owned[0], 40)]);
}

#[tokio::test]
async fn a_stale_epoch_is_refused_and_a_new_one_taken() {
    let rig = Rig::new(1).await;
    let mut first = rig.join().await;
    first.obey_until(3).await;
    let _second = rig.join().await;
    let stale = first.epoch;
    first.obey_until(2).await;
    while first.epoch == stale {
        first.obey().await;
    }
    let fresh = std::mem::replace(&mut first.epoch, stale);
    assert_eq!(
        rig.commit(Some(&first), &[(first.owned[0], 7)])
            .await
            .error
            .unwrap()
            .code,
        113
    );
    first.epoch = fresh;
    assert_eq!(
        rig.commit(Some(&first), &[(first.owned[0], 7)]).await,
        v1::CommitResponse::default()
    );
}

#[tokio::test]
async fn a_broken_stream_is_resumed() {
    let rig = Rig::new(1).await;
    let mut member = rig.join().await;
    member.obey_until(3).await;
    let (id, epoch) = (member.id.clone(), member.epoch);
    drop(member);
    let owned = vec![v1::TopicPartitions {
        topic: "orders".to_owned(),
        partitions: vec![0, 1, 2],
        ..Default::default()
    }];
    let join = v1::Join {
        group_id: GROUP.to_owned(),
        member_id: id.clone(),
        member_epoch: epoch,
        owned,
        ..subscribed()
    };
    let mut resumed = Member::open(rig.client.clone(), join).await;
    assert_eq!((resumed.id.clone(), resumed.epoch), (id, epoch));
    resumed.obey_until(3).await;
    resumed
        .say(Said::Heartbeat(v1::Heartbeat { member_epoch: epoch }))
        .await;
    assert_eq!(
        resumed.next().await,
        Some(Event::Heartbeat(v1::HeartbeatAnswer { member_epoch: epoch }))
    );
}

#[tokio::test]
async fn groups_are_found_listed_described_and_deleted() {
    let rig = Rig::new(1).await;
    let mut client = rig.client.clone();
    for n in 0..5 {
        let offset = v1::OffsetToCommit {
            topic: "orders".to_owned(),
            offset: n,
            ..Default::default()
        };
        let request = v1::CommitRequest {
            group_id: format!("g{n}"),
            offsets: vec![offset],
            ..Default::default()
        };
        assert_eq!(
            client.commit(request).await.unwrap().into_inner(),
            v1::CommitResponse::default()
        );
    }
    let page = |token: &str| v1::ListGroupsRequest {
        page: Some(v1::PageRequest {
            size: 2,
            token: token.to_owned(),
        }),
    };
    let mut names = Vec::new();
    let mut token = String::new();
    loop {
        let answer = client.list(page(&token)).await.unwrap().into_inner();
        names.extend(
            answer
                .groups
                .into_iter()
                .map(|group| (group.group_id, group.state)),
        );
        token = answer.next_token;
        if token.is_empty() {
            break;
        }
    }
    let expected: Vec<_> = (0..5).map(|n| (format!("g{n}"), "Empty".to_owned())).collect();
    assert_eq!(names, expected);

    let describe = |group: &str| v1::DescribeGroupRequest {
        group_id: group.to_owned(),
        page: None,
    };
    let described = client.describe(describe("g3")).await.unwrap().into_inner();
    assert_eq!(
        (described.state.as_str(), described.offsets[0].offset),
        ("Empty", 3)
    );
    let deleted = client
        .delete(v1::DeleteGroupRequest {
            group_id: "g3".to_owned(),
        })
        .await
        .unwrap();
    assert_eq!(deleted.into_inner().error, None);
    let gone = client.describe(describe("g3")).await.unwrap().into_inner();
    assert_eq!(gone.error.unwrap().code, 69);

    let mut member = rig.join().await;
    member.obey_until(3).await;
    let busy = client
        .delete(v1::DeleteGroupRequest {
            group_id: GROUP.to_owned(),
        })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(busy.error.unwrap().code, 68);
    let described = client.describe(describe(GROUP)).await.unwrap().into_inner();
    assert_eq!(described.members[0].client_host, "127.0.0.1");
    assert_eq!(described.members[0].topics, ["orders"]);
}

#[tokio::test]
async fn a_wrong_broker_names_the_right_one() {
    let rig = Rig::new(2).await;
    let right = v1::Leader {
        broker_id: 2,
        leader_epoch: 4,
        address: "broker-2:7171".to_owned(),
    };
    let refused = rig.commit(None, &[(0, 1)]).await.error.unwrap();
    assert_eq!((refused.code, refused.leader), (16, Some(right.clone())));

    let request = v1::FindCoordinatorRequest {
        group_ids: vec![GROUP.to_owned(), String::new()],
    };
    let found = rig
        .client
        .clone()
        .find_coordinator(request)
        .await
        .unwrap()
        .into_inner()
        .coordinators;
    assert_eq!(found[0].coordinator, Some(right.clone()));
    assert_eq!(found[1].error.as_ref().unwrap().code, 42);

    let (requests, sent) = mpsc::channel(1);
    let join = v1::Join {
        group_id: GROUP.to_owned(),
        ..subscribed()
    };
    requests
        .send(v1::SessionRequest {
            request: Some(Said::Join(join)),
        })
        .await
        .unwrap();
    let mut events = rig
        .client
        .clone()
        .session(ReceiverStream::new(sent))
        .await
        .unwrap()
        .into_inner();
    let ended = events.message().await.unwrap().unwrap().event;
    assert!(matches!(ended, Some(Event::Ended(error)) if error.leader == Some(right)));
    assert!(rig.groups.runtime().shards().is_empty());
}

#[tokio::test]
async fn bad_input_is_refused_and_hurts_nobody() {
    let rig = Rig::new(1).await;
    let mut client = rig.client.clone();
    let ended = async |join: v1::Join| {
        let (requests, sent) = mpsc::channel(1);
        requests
            .send(v1::SessionRequest {
                request: Some(Said::Join(join)),
            })
            .await
            .unwrap();
        let mut events = rig
            .client
            .clone()
            .session(ReceiverStream::new(sent))
            .await
            .unwrap()
            .into_inner();
        match events.message().await.unwrap().unwrap().event {
            Some(Event::Ended(error)) => error.code,
            other => panic!("expected Ended, got {other:?}"),
        }
    };
    let group = || GROUP.to_owned();
    let with = |subscription| v1::Join {
        group_id: group(),
        subscription: Some(subscription),
        ..Default::default()
    };
    assert_eq!(ended(subscribed()).await, 42, "an empty group id");
    assert_eq!(ended(with(v1::Subscribe::default())).await, 42, "no topics");
    let regex = v1::Subscribe {
        topic_regex: Some("(".to_owned()),
        ..Default::default()
    };
    assert_eq!(ended(with(regex)).await, 128);
    let assignor = v1::Subscribe {
        topics: vec!["orders".to_owned()],
        assignor: "x".to_owned(),
        ..Default::default()
    };
    assert_eq!(ended(with(assignor)).await, 112);
    let huge = v1::TopicPartitions {
        topic: "orders".to_owned(),
        partitions: vec![0; 10_001],
        ..Default::default()
    };
    assert_eq!(
        ended(v1::Join {
            group_id: group(),
            owned: vec![huge],
            ..subscribed()
        })
        .await,
        42
    );

    let (requests, sent) = mpsc::channel(1);
    let heartbeat = Said::Heartbeat(v1::Heartbeat { member_epoch: 1 });
    requests
        .send(v1::SessionRequest {
            request: Some(heartbeat),
        })
        .await
        .unwrap();
    assert_eq!(
        client
            .session(ReceiverStream::new(sent))
            .await
            .unwrap_err()
            .code(),
        tonic::Code::InvalidArgument
    );
    assert_eq!(
        rig.commit(None, &[(99, 1)]).await.failures[0]
            .error
            .as_ref()
            .unwrap()
            .code,
        3
    );
    let mut member = rig.join().await;
    member.obey_until(3).await;
}

/// Commits of a group for as many partitions, with a kilobyte of metadata each.
async fn commit_much(rig: &Rig, partitions: u32) {
    const AT_ONCE: u32 = 200;
    for first in (0..partitions).step_by(AT_ONCE as usize) {
        let offset = |partition| v1::OffsetToCommit {
            topic_id: None,
            topic: "wide".to_owned(),
            partition,
            offset: u64::from(partition),
            leader_epoch: None,
            metadata: "m".repeat(1000),
        };
        let request = v1::CommitRequest {
            group_id: GROUP.to_owned(),
            offsets: (first..partitions.min(first + AT_ONCE)).map(offset).collect(),
            ..Default::default()
        };
        let answer = rig.client.clone().commit(request).await.unwrap().into_inner();
        assert_eq!((answer.error, answer.failures), (None, Vec::new()));
    }
}

/// The client takes messages of 4 MiB, as clients of every language do unless they are told
/// otherwise.
#[tokio::test]
async fn what_a_large_group_committed_is_told_in_pages() {
    const PARTITIONS: u32 = 10_000;
    let rig = Rig::with_topics(1, &[("orders", 3), ("wide", PARTITIONS)]).await;
    commit_much(&rig, PARTITIONS).await;
    let (mut page, mut pages, mut told) = (None, 0, Vec::new());
    loop {
        let request = v1::OffsetsRequest {
            group_id: GROUP.to_owned(),
            page,
            ..Default::default()
        };
        let answer = rig.client.clone().offsets(request).await.unwrap().into_inner();
        assert_eq!(answer.error, None);
        told.extend(
            answer
                .offsets
                .iter()
                .map(|offset| (offset.partition, offset.offset)),
        );
        pages += 1;
        if answer.next_token.is_empty() {
            break;
        }
        page = Some(v1::PageRequest {
            size: 0,
            token: answer.next_token,
        });
    }
    let expected: Vec<_> = (0..PARTITIONS)
        .map(|partition| (partition, u64::from(partition)))
        .collect();
    assert_eq!(told, expected, "each once, in order");
    assert_eq!(pages, 3, "10 MB");
}

#[tokio::test]
async fn a_group_is_described_in_pages_members_first() {
    let rig = Rig::with_topics(1, &[("orders", 3), ("wide", 5000)]).await;
    commit_much(&rig, 5000).await;
    let mut members = Vec::new();
    for _ in 0..3 {
        members.push(rig.join().await);
    }
    let describe = async |size, token: &str| {
        let request = v1::DescribeGroupRequest {
            group_id: GROUP.to_owned(),
            page: Some(v1::PageRequest {
                size,
                token: token.to_owned(),
            }),
        };
        rig.client.clone().describe(request).await.unwrap().into_inner()
    };
    let mut ids: Vec<_> = members.iter().map(|member| member.id.clone()).collect();
    ids.sort_unstable();
    let first = describe(2, "").await;
    assert_eq!((first.members.len(), first.offsets.len()), (2, 0));
    let second = describe(2, &first.next_token).await;
    assert_eq!((second.members.len(), second.offsets.len()), (1, 1));
    let told: Vec<_> = [first.members, second.members]
        .concat()
        .into_iter()
        .map(|member| member.member_id)
        .collect();
    assert_eq!(told, ids);

    let (mut token, mut offsets) = (second.next_token, second.offsets.len());
    let mut pages = 0;
    while !token.is_empty() {
        let answer = describe(0, &token).await;
        assert_eq!((answer.state.is_empty(), answer.members.len()), (false, 0));
        offsets += answer.offsets.len();
        token = answer.next_token;
        pages += 1;
    }
    assert_eq!((offsets, pages), (5000, 2), "5 MB");
    assert_eq!(describe(0, "nonsense").await.error.unwrap().code, 42);
}
