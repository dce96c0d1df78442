//! A group under load that grows, shrinks, and loses members and coordinators: nothing is lost,
//! nothing comes twice that was committed, and whoever was removed commits nothing any more.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use parking_lot::Mutex;
use rustix::process::Signal;
use tempfile::TempDir;
use tidelog_client::{Client, ErrorCode, GroupMember, NewTopic, OffsetAndMetadata, OffsetReset, Record};
use tidelog_proto::v1;
use tidelog_proto::v1::groups_client::GroupsClient;
use tidelog_tests::cluster::{Cluster, Layout, READY};
use tidelog_tests::flights;
use tidelog_tests::group::judge::{Line, Silent, judge};
use tidelog_tests::group::process::{End, MemberProcess};
use tidelog_tests::group::told::{Happened, now_us};
use tidelog_tests::ledger::Ledger;
use tidelog_tests::scenario::{Load, SharedLedger, in_sync};
use tidelog_tests::wait;

const TOPIC: &str = "scaled";
const GROUP: &str = "scaled-readers";
const PARTITIONS: u32 = 6;
const BROKERS: u32 = 3;
/// A member's session and heartbeat here, so that a silent one is not waited for as long as in real
/// life.
const SESSION: Duration = Duration::from_secs(6);
const HEARTBEAT: Duration = Duration::from_secs(1);
/// How long any one step may take.
const PATIENCE: Duration = Duration::from_secs(90);
/// The week's flights, so often, in so long: more than all the changes take.
const ROUNDS: usize = 6;
const PACE: Duration = Duration::from_mins(1);

struct Scene {
    cluster: Cluster,
    client: Client,
    folder: TempDir,
    members: Vec<MemberProcess>,
    silent: Silent,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_grows_shrinks_and_loses_members_and_coordinators() -> Result<()> {
    let mut scene = Scene::start().await?;
    let ledger = SharedLedger::default();
    let load = Load {
        topic: TOPIC.to_owned(),
        flights: Arc::new(flights::read(&flights::week_file())?),
        rounds: ROUNDS,
        pace: PACE,
        disturbance: Arc::default(),
    };
    let produced = load.total();
    let loading = tokio::spawn(load.run(scene.client.clone(), Arc::clone(&ledger)));

    for count in [1, 2, 3] {
        scene.grow_to(count).await?;
    }
    scene.kill_coordinator().await?;
    for count in [6, 8] {
        scene.grow_to(count).await?;
    }
    scene.pause_past_its_session("member-2").await?;
    for victim in ["member-3", "member-5"] {
        scene.kill(victim)?;
    }
    scene.kill_coordinator().await?;
    scene.settled().await?;
    for leaver in ["member-4", "member-6", "member-7", "member-8"] {
        scene.member(leaver)?.leave().await?;
    }
    scene.settled().await?;

    let report = loading.await??;
    ensure!(report.produced == produced, "{report:?}");
    scene.have_read(&ledger).await?;
    for rest in ["member-1", "member-2"] {
        scene.member(rest)?.leave().await?;
    }
    scene.judge(&ledger)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_committed_offset_keeps_the_note_that_came_with_it() -> Result<()> {
    let cluster = Cluster::start(1).await?;
    let client = Client::builder(cluster.bootstrap()).connect().await?;
    client
        .admin()
        .create_topic(NewTopic::new(TOPIC).partitions(1))
        .await?;
    let mut consumer = client
        .group(GROUP)
        .topics([TOPIC])
        .auto_offset_reset(OffsetReset::Earliest)
        .build()
        .await?;
    client
        .producer()
        .build()
        .await?
        .send(Record::to(TOPIC).value("one"))
        .await?;
    let record = tokio::time::timeout(PATIENCE, consumer.recv()).await??;
    let offset = OffsetAndMetadata::new(record.offset + 1).metadata("checkpoint 7");
    consumer
        .commit_offsets([(record.topic_partition(), offset)])
        .await?;
    let committed = consumer.committed().await?;
    ensure!(committed.len() == 1, "{committed:?}");
    assert_eq!(
        (committed[0].offset, committed[0].metadata.as_str()),
        (1, "checkpoint 7")
    );
    assert_eq!(committed[0].leader_epoch, Some(record.leader_epoch));
    Ok(consumer.close(PATIENCE).await?)
}

impl Scene {
    async fn start() -> Result<Self> {
        let mut cluster = Cluster::lay_out(&Layout::of(BROKERS))?;
        for id in 1..=BROKERS {
            for (name, value) in [("SESSION_MS", SESSION), ("HEARTBEAT_MS", HEARTBEAT)] {
                let value = value.as_millis().to_string();
                cluster
                    .broker(id)
                    .set_env(&format!("TIDELOG__GROUPS__{name}"), value);
            }
        }
        cluster.start_all()?;
        cluster.wait_ready(READY).await?;
        let client = Client::builder(cluster.bootstrap()).connect().await?;
        let topic = NewTopic::new(TOPIC)
            .partitions(PARTITIONS)
            .replication_factor(BROKERS);
        client.admin().create_topic(topic).await?;
        Ok(Self {
            cluster,
            client,
            folder: tempfile::tempdir()?,
            members: Vec::new(),
            silent: Silent::new(),
        })
    }

    fn member(&mut self, name: &str) -> Result<&mut MemberProcess> {
        let found = self.members.iter_mut().find(|member| member.name == name);
        found.with_context(|| format!("no {name}"))
    }

    fn running(&mut self) -> impl Iterator<Item = &mut MemberProcess> {
        self.members
            .iter_mut()
            .filter(|member| member.end == End::Running)
    }

    async fn grow_to(&mut self, count: usize) -> Result<()> {
        let program = Path::new(env!("CARGO_BIN_EXE_member"));
        let bootstrap = self.cluster.bootstrap().join(",");
        for number in self.members.len() + 1..=count {
            let name = format!("member-{number}");
            let folder = self.folder.path();
            let member = MemberProcess::start(program, folder, &bootstrap, GROUP, TOPIC, &name)?;
            self.members.push(member);
        }
        self.settled().await
    }

    /// Waits until the running members share all partitions, each its part.
    async fn settled(&mut self) -> Result<()> {
        wait::until("the members to share all partitions", PATIENCE, async || {
            let mut all = BTreeSet::new();
            let (mut count, mut members, mut owners) = (0, 0, 0);
            for member in self.running() {
                member.check_alive()?;
                let owned = member.owned()?;
                members += 1;
                count += owned.len();
                owners += usize::from(!owned.is_empty());
                all.extend(owned);
            }
            let partitions = PARTITIONS as usize;
            ensure!(
                (all.len(), count) == (partitions, partitions),
                "{count} ownerships of {} partitions",
                all.len()
            );
            ensure!(
                owners == members.min(partitions),
                "{owners} of {members} members own any"
            );
            Ok(())
        })
        .await
    }

    fn kill(&mut self, name: &str) -> Result<()> {
        let member = self.member(name)?;
        member.kill()?;
        if let End::Killed(at) = member.end {
            self.silent.insert(name.to_owned(), at);
        }
        Ok(())
    }

    /// SIGKILL of the broker that coordinates the group; it is started again at once.
    async fn kill_coordinator(&mut self) -> Result<()> {
        in_sync(&self.client, TOPIC, BROKERS, PATIENCE).await?;
        in_sync(&self.client, "__consumer_offsets", BROKERS, PATIENCE).await?;
        let (id, _) = self.coordinator().await?;
        let broker = self.cluster.broker(id);
        broker.kill()?;
        broker.start()?;
        broker.wait_ready(READY).await
    }

    /// Who coordinates the group: id and address.
    async fn coordinator(&self) -> Result<(u32, String)> {
        wait::until("a coordinator", PATIENCE, async || {
            let address = self.cluster.bootstrap()[0].clone();
            let request = v1::FindCoordinatorRequest {
                group_ids: vec![GROUP.to_owned()],
            };
            let mut groups = GroupsClient::connect(format!("http://{address}")).await?;
            let found = groups.find_coordinator(request).await?.into_inner();
            let found = found.coordinators.into_iter().next().context("no answer")?;
            let leader = found.coordinator.with_context(|| format!("{:?}", found.error))?;
            Ok((leader.broker_id, leader.address))
        })
        .await
    }

    /// The group's member with this process' name, if it has it.
    async fn known(&self, name: &str) -> Result<Option<GroupMember>> {
        let group = self.client.admin().describe_group(GROUP).await?;
        Ok(group.members.into_iter().find(|member| member.client_id == name))
    }

    async fn pause_past_its_session(&mut self, name: &str) -> Result<()> {
        let before = self.known(name).await?.context("the member is not known")?;
        let owned = self.member(name)?.owned()?;
        ensure!(!owned.is_empty(), "{name} owns nothing that could be taken away");
        self.member(name)?.signal(Signal::STOP)?;
        self.silent.insert(name.to_owned(), now_us());
        wait::until("the silent member's removal", PATIENCE, async || {
            ensure!(self.known(name).await?.is_none(), "it is still a member");
            Ok(())
        })
        .await?;
        self.zombie_commit_is_refused(&before, &owned).await?;
        self.member(name)?.signal(Signal::CONT)?;
        let lost = |told: &[Happened]| told.iter().any(|what| matches!(what, Happened::Lost(_)));
        wait::until("the member to hear of its removal", PATIENCE, async || {
            let told = self.member(name)?.told()?;
            let told: Vec<Happened> = told.into_iter().map(|told| told.what).collect();
            ensure!(lost(&told), "it lost nothing yet");
            Ok(())
        })
        .await?;
        self.settled().await
    }

    /// The commit that the paused member would send, had it not noticed anything.
    async fn zombie_commit_is_refused(&self, member: &GroupMember, owned: &BTreeSet<u32>) -> Result<()> {
        let offset = |partition: &u32| v1::OffsetToCommit {
            topic: TOPIC.to_owned(),
            partition: *partition,
            offset: 1,
            leader_epoch: None,
            metadata: String::new(),
            topic_id: None,
        };
        let request = v1::CommitRequest {
            group_id: GROUP.to_owned(),
            member_id: member.member_id.clone(),
            member_epoch: member.member_epoch,
            offsets: owned.iter().map(offset).collect(),
        };
        let (_, address) = self.coordinator().await?;
        let mut groups = GroupsClient::connect(format!("http://{address}")).await?;
        let answer = groups.commit(request).await?.into_inner();
        let error = answer.error.context("a removed member's commit was taken")?;
        ensure!(
            error.code == ErrorCode::UnknownMemberId.number(),
            "refused for another reason: {error:?}"
        );
        Ok(())
    }

    /// Waits until every acknowledged record was handed to some member.
    async fn have_read(&mut self, ledger: &Mutex<Ledger>) -> Result<()> {
        let rows = ledger.lock().rows_acknowledged();
        wait::until("everything to be read", PATIENCE, async || {
            let mut read = BTreeSet::new();
            for member in &mut self.members {
                for told in member.told()? {
                    if let Happened::Delivered { row, .. } = told.what {
                        read.insert(row);
                    }
                }
            }
            ensure!(read.len() == rows, "{} of {rows} records", read.len());
            Ok(())
        })
        .await
    }

    fn judge(&self, ledger: &Mutex<Ledger>) -> Result<()> {
        let mut lines = Vec::new();
        let mut ledger = ledger.lock();
        for member in &self.members {
            for told in member.told()? {
                if let Happened::Delivered {
                    partition,
                    offset,
                    row,
                } = told.what
                {
                    ledger.deliver(row, (partition, offset));
                }
                lines.push(Line {
                    member: member.name.clone(),
                    told,
                });
            }
        }
        let patience = SESSION.saturating_sub(HEARTBEAT).as_micros() as u64;
        let summary = judge(lines, &self.silent, patience)?;
        let sums = ledger.sums();
        println!("{summary:?}, {sums:?}");
        ensure!(sums.lost == 0 && sums.stored_twice == 0, "{sums:?}");
        ensure!(
            summary.ownerships > 20 && summary.commits > 20,
            "little happened: {summary:?}"
        );
        Ok(())
    }
}
