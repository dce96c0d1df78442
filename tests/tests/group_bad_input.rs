//! What members and operators of groups may do wrong: each gets its own typed error, nothing is
//! lost by it, and other groups go on.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tidelog_client::{Client, ErrorCode, NewTopic, OffsetReset, Record};
use tidelog_proto::v1;
use tidelog_proto::v1::groups_client::GroupsClient;
use tidelog_proto::v1::session_event::Event;
use tidelog_proto::v1::session_request::Request;
use tidelog_tests::cluster::Cluster;
use tidelog_tests::wait;
use tidelog_types::coordinator_partition;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

const TOPIC: &str = "orders";
const PARTITIONS: u32 = 3;
/// How long any one step may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a member joins and dies.
const DEATHS: usize = 200;
/// Kafka's limit of a commit's metadata, bytes.
const MAX_METADATA: usize = 4096;

/// A member that speaks the protocol by itself, so that it may say what the library would not.
struct Raw {
    say: mpsc::Sender<v1::SessionRequest>,
    events: Streaming<v1::SessionEvent>,
}

struct Bench {
    _cluster: Cluster,
    client: Client,
    groups: GroupsClient<Channel>,
}

impl Bench {
    /// One broker: it coordinates every group.
    async fn start() -> Result<Self> {
        let cluster = Cluster::start(1).await?;
        let client = Client::builder(cluster.bootstrap()).connect().await?;
        client
            .admin()
            .create_topic(NewTopic::new(TOPIC).partitions(PARTITIONS))
            .await?;
        let groups =
            GroupsClient::connect(format!("http://{}", cluster.brokers()[0].client_address())).await?;
        Ok(Self {
            _cluster: cluster,
            client,
            groups,
        })
    }

    async fn join(&self, group: &str, subscription: v1::Subscribe) -> Result<Raw> {
        let (say, said) = mpsc::channel(16);
        let join = v1::Join {
            group_id: group.to_owned(),
            subscription: Some(subscription),
            ..v1::Join::default()
        };
        let join = v1::SessionRequest {
            request: Some(Request::Join(join)),
        };
        say.send(join).await?;
        let events = self
            .groups
            .clone()
            .session(ReceiverStream::new(said))
            .await?
            .into_inner();
        Ok(Raw { say, events })
    }

    async fn commit(
        &self,
        member: &v1::Joined,
        group: &str,
        offsets: Vec<v1::OffsetToCommit>,
    ) -> Result<v1::CommitResponse> {
        let request = v1::CommitRequest {
            group_id: group.to_owned(),
            member_id: member.member_id.clone(),
            member_epoch: member.member_epoch,
            offsets,
        };
        Ok(self.groups.clone().commit(request).await?.into_inner())
    }
}

impl Raw {
    async fn next(&mut self) -> Result<Event> {
        let event = tokio::time::timeout(PATIENCE, self.events.message()).await??;
        event.and_then(|event| event.event).context("the stream ended")
    }

    async fn joined(&mut self) -> Result<v1::Joined> {
        match self.next().await? {
            Event::Joined(joined) => Ok(joined),
            other => bail!("not taken in: {other:?}"),
        }
    }

    async fn assigned(&mut self) -> Result<v1::Assignment> {
        loop {
            if let Event::Assignment(assignment) = self.next().await? {
                return Ok(assignment);
            }
        }
    }

    /// Takes in whatever it is told, to the stream's end.
    async fn listen(mut self) {
        while let Ok(Some(_)) = self.events.message().await {}
    }

    async fn refused(&mut self) -> Result<v1::Error> {
        match self.next().await? {
            Event::Ended(error) => Ok(error),
            other => bail!("not refused: {other:?}"),
        }
    }
}

fn topics(names: &[&str]) -> v1::Subscribe {
    v1::Subscribe {
        topics: names.iter().map(ToString::to_string).collect(),
        ..v1::Subscribe::default()
    }
}

fn offset(partition: u32, offset: u64, metadata: usize) -> v1::OffsetToCommit {
    v1::OffsetToCommit {
        topic: TOPIC.to_owned(),
        partition,
        offset,
        leader_epoch: None,
        metadata: "m".repeat(metadata),
        topic_id: None,
    }
}

fn check(error: &v1::Error, code: ErrorCode, says: &str) -> Result<()> {
    ensure!(
        error.code == code.number() && error.message.contains(says),
        "{error:?} instead of {code} with {says:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_that_cannot_be_is_refused_by_itself() -> Result<()> {
    let bench = Bench::start().await?;
    let refused = async |subscription| bench.join("g", subscription).await?.refused().await;
    let regex = |regex: &str| v1::Subscribe {
        topic_regex: Some(regex.to_owned()),
        ..v1::Subscribe::default()
    };
    check(
        &refused(regex("orders(")).await?,
        ErrorCode::InvalidRegularExpression,
        "orders(",
    )?;
    check(
        &refused(regex(&"a".repeat(5000))).await?,
        ErrorCode::InvalidRegularExpression,
        "1024",
    )?;
    let sticky = v1::Subscribe {
        assignor: "sticky".to_owned(),
        ..topics(&[TOPIC])
    };
    check(&refused(sticky).await?, ErrorCode::UnsupportedAssignor, "uniform")?;
    check(&refused(topics(&[])).await?, ErrorCode::InvalidRequest, "topic")?;
    check(
        &refused(topics(&["no/such"])).await?,
        ErrorCode::InvalidTopicException,
        "no/such",
    )?;
    let unknown = bench.client.admin().describe_group("g").await.unwrap_err();
    assert_eq!(
        unknown.code(),
        Some(ErrorCode::GroupIdNotFound),
        "no refusal made a group"
    );

    // The library says it in its own error, and at once.
    let bad = bench
        .client
        .group("g")
        .topic_regex("orders(")
        .build()
        .await
        .unwrap_err();
    assert_eq!(bad.code(), Some(ErrorCode::InvalidRegularExpression), "{bad}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_does_not_exist_yet_is_said_and_waited_for() -> Result<()> {
    let bench = Bench::start().await?;
    let mut member = bench.join("early", topics(&["later"])).await?;
    member.joined().await?;
    let first = member.assigned().await?;
    assert_eq!(
        (first.unknown_topics, first.partitions.len()),
        (vec!["later".to_owned()], 0)
    );
    bench
        .client
        .admin()
        .create_topic(NewTopic::new("later").partitions(2))
        .await?;
    let second = member.assigned().await?;
    assert_eq!(
        (second.unknown_topics.len(), second.partitions[0].partitions.len()),
        (0, 2)
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_is_refused_for_what_is_wrong_with_it_alone() -> Result<()> {
    let bench = Bench::start().await?;
    let mut first = bench.join("g", topics(&[TOPIC])).await?;
    let joined = first.joined().await?;
    first.assigned().await?;
    let answer = bench
        .commit(
            &joined,
            "g",
            vec![
                offset(0, 7, 10),
                offset(1, 1, MAX_METADATA + 1),
                offset(99, 1, 0),
                offset(2, u64::MAX, 0),
            ],
        )
        .await?;
    ensure!(answer.error.is_none(), "{answer:?}");
    let codes: BTreeSet<(u32, i32)> = answer
        .failures
        .iter()
        .map(|failure| {
            (
                failure.partition,
                failure.error.as_ref().map_or(0, |error| error.code),
            )
        })
        .collect();
    let expected = [
        (1, ErrorCode::OffsetMetadataTooLarge.number()),
        (2, ErrorCode::InvalidRequest.number()),
        (99, ErrorCode::UnknownTopicOrPartition.number()),
    ];
    assert_eq!(codes, BTreeSet::from(expected));
    let committed = bench.client.admin().group_offsets("g").await?;
    assert_eq!(committed.len(), 1);
    assert_eq!((committed[0].offset, committed[0].metadata.len()), (7, 10));

    // Nobody in particular, while there are members; a member that never was; a group that is not.
    let nobody = bench
        .commit(&v1::Joined::default(), "g", vec![offset(0, 9, 0)])
        .await?;
    check(
        &nobody.error.context("taken")?,
        ErrorCode::UnknownMemberId,
        "only they may commit",
    )?;
    let stranger = v1::Joined {
        member_id: "stranger".to_owned(),
        member_epoch: 1,
        ..v1::Joined::default()
    };
    for group in ["g", "no-such-group"] {
        let answer = bench.commit(&stranger, group, vec![offset(0, 9, 0)]).await?;
        check(
            &answer.error.context("taken")?,
            ErrorCode::UnknownMemberId,
            "stranger",
        )?;
    }
    let admin = bench.client.admin();
    let in_use = admin.delete_group("g").await.unwrap_err();
    assert_eq!(in_use.code(), Some(ErrorCode::NonEmptyGroup), "{in_use}");
    let unknown = admin.delete_group("no-such-group").await.unwrap_err();
    assert_eq!(unknown.code(), Some(ErrorCode::GroupIdNotFound), "{unknown}");
    assert_eq!(admin.group_offsets("g").await?[0].offset, 7, "nothing moved it");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_beyond_the_end_is_out_of_range_for_the_next_reader() -> Result<()> {
    let bench = Bench::start().await?;
    let producer = bench.client.producer().build().await?;
    producer
        .send(Record::to(TOPIC).partition(0).value("only one"))
        .await?;
    let partitions = bench.client.partitions(TOPIC).await?;
    let beyond = [(partitions[0].clone(), 1_000)];
    bench.client.admin().commit_group_offsets("ahead", beyond).await?;

    let strict = bench
        .client
        .group("ahead")
        .topics([TOPIC])
        .auto_offset_reset(OffsetReset::None);
    let mut consumer = strict.build().await?;
    let error = tokio::time::timeout(PATIENCE, consumer.recv())
        .await?
        .unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::OffsetOutOfRange), "{error}");
    consumer.close(PATIENCE).await?;
    let lenient = bench
        .client
        .group("ahead")
        .topics([TOPIC])
        .auto_offset_reset(OffsetReset::Earliest);
    let mut consumer = lenient.build().await?;
    let record = tokio::time::timeout(PATIENCE, consumer.recv()).await??;
    assert_eq!(record.value.as_deref(), Some(&b"only one"[..]));
    Ok(())
}

/// A group that the same coordinator's task serves: in the same partition of the offsets topic.
fn beside(group: &str) -> Result<String> {
    let partition = |group: &str| Ok::<_, anyhow::Error>(coordinator_partition(&group.parse()?));
    let wanted = partition(group)?;
    for number in 0..1_000 {
        let name = format!("steady-{number}");
        if partition(&name)? == wanted {
            return Ok(name);
        }
    }
    bail!("no name in a thousand falls into partition {wanted}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_joins_and_dies_in_a_loop_holds_up_nobody_else() -> Result<()> {
    let bench = Bench::start().await?;
    let steady_group = beside("churned")?;
    let mut steady = bench.join(&steady_group, topics(&[TOPIC])).await?;
    let joined = steady.joined().await?;
    steady.assigned().await?;
    let mut resident = bench.join("churned", topics(&[TOPIC])).await?;
    resident.joined().await?;
    for number in 0..DEATHS {
        let mut passing = bench.join("churned", topics(&[TOPIC])).await?;
        passing.joined().await?;
        drop(passing);
        let answer = bench
            .commit(&joined, &steady_group, vec![offset(0, number as u64, 0)])
            .await?;
        ensure!(answer.error.is_none() && answer.failures.is_empty(), "{answer:?}");
    }
    let described = bench.client.admin().describe_group("churned").await?;
    assert_eq!(
        described.members.len(),
        DEATHS + 1,
        "each stays until its session ends"
    );
    let leave = v1::SessionRequest {
        request: Some(Request::Leave(v1::Leave::default())),
    };
    resident.say.send(leave).await?;
    wait::until("the resident's farewell", PATIENCE, async || {
        let described = bench.client.admin().describe_group("churned").await?;
        ensure!(described.members.len() == DEATHS, "{}", described.members.len());
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_takes_a_thousand_members_and_refuses_the_next() -> Result<()> {
    const MOST: usize = 1_000;
    let bench = Bench::start().await?;
    let mut members = JoinSet::new();
    for _ in 0..MOST {
        let mut member = bench.join("crowd", topics(&[TOPIC])).await?;
        member.joined().await?;
        // Each hears of every change, to the end of the test.
        members.spawn(member.listen());
    }
    let refused = bench.join("crowd", topics(&[TOPIC])).await?.refused().await?;
    check(&refused, ErrorCode::GroupMaxSizeReached, "1000 members")?;
    let mut other = bench.join("quiet", topics(&[TOPIC])).await?;
    other.joined().await?;
    let assigned = other.assigned().await?;
    assert_eq!(assigned.partitions[0].partitions.len(), PARTITIONS as usize);
    let described = bench.client.admin().describe_group("crowd").await?;
    let owned: usize = described.members.iter().map(|member| member.assigned.len()).sum();
    assert_eq!((described.members.len(), owned), (MOST, PARTITIONS as usize));
    Ok(())
}
