//! Random schedules: members that act on pushes late, lose streams, crash and start over; a log
//! that replicates late; coordinators that fail over and lose what was not replicated; the topic is
//! deleted and made anew under its name. Checked after every step: G12, G13, G14, and that an
//! instance id has one holder.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;

use super::*;

const MEMBERS: u8 = 4;
const PARTITIONS: u32 = 5;
/// Fewer names than members, so that they are fought over.
const INSTANCES: u8 = 2;

#[derive(Debug, Clone)]
enum Step {
    /// Joins, or resumes if it was a member and lost its stream.
    Connect(u8),
    /// Forgets everything and starts over, as a restarted process does.
    Crash(u8),
    /// Starts over under a static name, which another member may hold, or without one.
    Rename(u8, Option<u8>),
    Disconnect(u8),
    /// Acts on the oldest event that reached it.
    Act(u8),
    Heartbeat(u8),
    Leave(u8),
    Commit(u8, u32),
    Replicate,
    FailOver,
    Pass(u8),
    Grow(u32),
    /// The topic is deleted and made anew, with as many partitions.
    Recreate,
}

fn step() -> impl Strategy<Value = Step> {
    let member = 0..MEMBERS;
    prop_oneof![
        3 => member.clone().prop_map(Step::Connect),
        1 => member.clone().prop_map(Step::Crash),
        1 => (member.clone(), prop::option::of(0..INSTANCES)).prop_map(|(member, name)| Step::Rename(member, name)),
        1 => member.clone().prop_map(Step::Disconnect),
        6 => member.clone().prop_map(Step::Act),
        2 => member.clone().prop_map(Step::Heartbeat),
        1 => member.clone().prop_map(Step::Leave),
        4 => (member, 0..PARTITIONS).prop_map(|(member, partition)| Step::Commit(member, partition)),
        5 => Just(Step::Replicate),
        1 => Just(Step::FailOver),
        1 => (1..20_u8).prop_map(Step::Pass),
        1 => (1..=PARTITIONS).prop_map(Step::Grow),
        1 => Just(Step::Recreate),
    ]
}

#[derive(Default)]
struct Client {
    stream: Option<StreamId>,
    instance: Option<u8>,
    /// 0 until it joined.
    epoch: MemberEpoch,
    owned: BTreeSet<TopicIdPartition>,
    inbox: VecDeque<Effect>,
    /// When the coordinator may have given up on it: what it owns does not count then.
    heard: Duration,
}

struct World {
    bench: Bench,
    clients: BTreeMap<u8, Client>,
    next_stream: u64,
    next_offset: u64,
    /// What a commit asked for, until it is answered.
    asked: BTreeMap<RequestId, (u8, TopicIdPartition, u64)>,
    /// The newest acknowledged commit.
    acknowledged: BTreeMap<TopicIdPartition, u64>,
    grown: u32,
    /// The id of the topic that exists.
    topic: u8,
}

impl World {
    fn new() -> Self {
        let mut bench = Bench::new(&[PARTITIONS]);
        bench.hold = true;
        Self {
            bench,
            clients: (0..MEMBERS).map(|n| (n, Client::default())).collect(),
            next_stream: 1,
            next_offset: 1,
            asked: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            grown: PARTITIONS,
            topic: 1,
        }
    }

    fn client(&mut self, n: u8) -> &mut Client {
        self.clients.get_mut(&n).unwrap()
    }

    fn perform(&mut self, step: &Step) {
        match *step {
            Step::Connect(n) => self.connect(n),
            Step::Crash(n) => {
                self.disconnect(n);
                *self.client(n) = Client::default();
                self.connect(n);
            }
            Step::Rename(n, instance) => {
                self.disconnect(n);
                *self.client(n) = Client {
                    instance,
                    ..Client::default()
                };
                self.connect(n);
            }
            Step::Disconnect(n) => self.disconnect(n),
            Step::Act(n) => self.act(n),
            Step::Heartbeat(n) => {
                if let Some(stream) = self.client(n).stream {
                    let epoch = self.client(n).epoch;
                    self.run(Command::Heartbeat { stream, epoch });
                }
            }
            Step::Leave(n) => {
                if let Some(stream) = self.client(n).stream {
                    self.client(n).owned.clear();
                    self.run(Command::Leave {
                        stream,
                        keep_instance: false,
                    });
                    *self.client(n) = Client::default();
                }
            }
            Step::Commit(n, partition) => self.commit(n, PartitionIndex(partition)),
            Step::Replicate => {
                let effects = self.bench.replicate();
                self.deliver(effects);
            }
            Step::FailOver => self.fail_over(),
            Step::Pass(seconds) => {
                let effects = self.bench.pass(Duration::from_secs(seconds.into()));
                self.deliver(effects);
            }
            Step::Grow(count) => {
                self.grown = self.grown.max(PARTITIONS + count);
                let effects = self.bench.recreate(self.topic, self.grown);
                self.deliver(effects);
            }
            Step::Recreate => {
                self.topic += 1;
                let effects = self.bench.recreate(self.topic, self.grown);
                self.deliver(effects);
            }
        }
    }

    fn run(&mut self, command: Command) {
        let effects = self.bench.run(command);
        self.deliver(effects);
    }

    fn connect(&mut self, n: u8) {
        let stream = StreamId(self.next_stream);
        self.next_stream += 1;
        let client = self.client(n);
        client.inbox.clear();
        client.stream = Some(stream);
        let (epoch, owned) = (client.epoch, client.owned.clone());
        let instance_id = client
            .instance
            .map(|instance| format!("instance-{instance}").parse().unwrap());
        self.run(Command::Join {
            stream,
            join: Box::new(Join {
                epoch,
                instance_id,
                owned,
                ..join(n)
            }),
        });
    }

    fn disconnect(&mut self, n: u8) {
        self.client(n).inbox.clear();
        if let Some(stream) = self.client(n).stream.take() {
            self.run(Command::Disconnected { stream });
        }
    }

    /// A conforming member: gives up first, then says so; takes what it is given.
    fn act(&mut self, n: u8) {
        match self.client(n).inbox.pop_front() {
            Some(Effect::Joined { epoch, .. }) => {
                let client = self.client(n);
                client.epoch = client.epoch.max(epoch);
            }
            Some(Effect::Assign {
                stream,
                version,
                epoch,
                partitions,
                ..
            }) => {
                let client = self.client(n);
                client.owned = (*partitions).clone();
                client.epoch = epoch;
                let owned = client.owned.clone();
                self.run(Command::Revoked {
                    stream,
                    version,
                    owned,
                });
            }
            // Fenced or removed: everything is lost.
            Some(Effect::End { .. }) => *self.client(n) = Client::default(),
            _ => {}
        }
    }

    /// A member commits for the topic that it read, which may be gone.
    fn commit(&mut self, n: u8, index: PartitionIndex) {
        let exists = p(self.topic, index.0);
        let client = self.client(n);
        if client.epoch == MemberEpoch::NONE {
            return;
        }
        let epoch = client.epoch;
        let read = client.owned.iter().find(|owned| owned.partition == index);
        let partition = read.copied().unwrap_or(exists);
        let request = RequestId(self.next_offset);
        let offset = self.next_offset;
        self.next_offset += 1;
        self.asked.insert(request, (n, partition, offset));
        let commit = OffsetToCommit {
            topic_id: Some(partition.topic_id),
            ..to_commit("t1", None, index.0, offset)
        };
        // G13, judged from outside: what the log says now of this member decides.
        let latest = self.bench.coordinator.latest().group(&group_id());
        let may = latest.is_some_and(|group| {
            group.member(&member_id(n)).is_some()
                && group.member_epoch(&member_id(n)) == epoch
                && group.owner(partition).is_none_or(|owner| *owner == member_id(n))
                && partition == exists
        });
        let before = self.bench.log.len();
        let member = Some((member_id(n), epoch));
        self.run(Command::Commit {
            request,
            group: group_id(),
            member,
            offsets: vec![commit],
        });
        assert_eq!(
            self.bench.log.len() > before,
            may,
            "G13: a commit of {n} at {epoch}"
        );
    }

    fn fail_over(&mut self) {
        self.bench.fail_over();
        self.asked.clear();
        for client in self.clients.values_mut() {
            client.stream = None;
            client.inbox.clear();
        }
        // What was acknowledged is in the next coordinator (G12).
        self.check_offsets();
        let effects = self.bench.run_due();
        self.deliver(effects);
    }

    fn deliver(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            let stream = match &effect {
                Effect::Joined { stream, .. }
                | Effect::Assign { stream, .. }
                | Effect::HeartbeatAnswer { stream, .. }
                | Effect::End { stream, .. } => *stream,
                Effect::Reply { request, reply } => {
                    let (_, partition, offset) = self.asked.remove(request).unwrap();
                    if *reply == Reply::Committed(Ok(Vec::new())) {
                        self.acknowledged.insert(partition, offset);
                    }
                    continue;
                }
            };
            if let Some(client) = self
                .clients
                .values_mut()
                .find(|client| client.stream == Some(stream))
            {
                client.inbox.push_back(effect);
            }
        }
        let now = self.bench.now.monotonic;
        let sessions = self.bench.coordinator.sessions();
        for (n, client) in &mut self.clients {
            if sessions.get(&group_id(), &member_id(*n)).is_some() {
                client.heard = now;
            }
        }
    }

    /// G12: what the committed state answers is at least what was acknowledged, of the topic that
    /// exists.
    fn check_offsets(&self) {
        let exists = |partition: &TopicIdPartition| partition.topic_id == topic_id(self.topic);
        for (partition, offset) in self
            .acknowledged
            .iter()
            .filter(|(partition, _)| exists(partition))
        {
            let answered = self.bench.committed(*partition);
            assert!(
                answered >= Some(*offset),
                "G12: {partition} acknowledged at {offset}, answered {answered:?}"
            );
        }
    }

    /// G14: among the members that the log counts, no partition is *used* by two; and whoever uses
    /// one is its owner there.
    fn check_owners(&self) {
        for state in [
            self.bench.coordinator.committed(),
            self.bench.coordinator.latest(),
        ] {
            let Some(group) = state.group(&group_id()) else {
                continue;
            };
            assert!(group.has_single_owners());
            assert!(group.has_single_instances(), "two members hold one instance id");
        }
        let committed = self.bench.coordinator.committed().group(&group_id());
        let mut users: BTreeMap<TopicIdPartition, u8> = BTreeMap::new();
        for (n, client) in &self.clients {
            let counts = committed.is_some_and(|group| {
                group.member(&member_id(*n)).is_some() && {
                    let current = group.current(&member_id(*n));
                    client.epoch == current.epoch || client.epoch == current.previous_epoch
                }
            });
            for partition in client.owned.iter().filter(|_| counts) {
                let other = users.insert(*partition, *n);
                assert_eq!(other, None, "G14: {partition} is used by {n} and {other:?}");
            }
        }
    }

    /// Everybody connects, acts on everything and is replicated: then the group is stable and
    /// everything is owned once.
    fn settle(&mut self) {
        self.bench.hold = false;
        let effects = self.bench.replicate();
        self.deliver(effects);
        for n in 0..MEMBERS {
            self.disconnect(n);
            *self.client(n) = Client::default();
            self.connect(n);
        }
        while self.clients.values().any(|client| !client.inbox.is_empty()) {
            for n in 0..MEMBERS {
                self.act(n);
            }
        }
        let description = self.bench.coordinator.describe(&group_id()).unwrap();
        assert_eq!(description.phase, GroupPhase::Stable);
        let owned: usize = self.clients.values().map(|client| client.owned.len()).sum();
        assert_eq!(owned, self.grown as usize);
        assert_eq!(
            self.bench.coordinator.committed(),
            self.bench.coordinator.latest()
        );
        self.check_owners();
        self.check_offsets();
    }
}

fn run(steps: &[Step]) {
    let mut world = World::new();
    for step in steps {
        world.perform(step);
        world.check_owners();
        world.check_offsets();
    }
    world.settle();
}

/// The simulation's topics never go, so that this rule is broken here.
#[cfg(feature = "mutants")]
#[test]
fn the_mutant_that_goes_by_topic_name_is_noticed() {
    use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};
    use tidelog_types::mutant::{Mutant, switch_here};

    switch_here(Some(Mutant::GoByTopicName));
    let config = Config {
        failure_persistence: None,
        ..Config::with_cases(300)
    };
    let random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(config, random);
    let outcome = runner.run(&prop::collection::vec(step(), 1..120), |steps| {
        run(&steps);
        Ok(())
    });
    switch_here(None);
    let Err(TestError::Fail(reason, _)) = outcome else {
        panic!("nobody noticed: {outcome:?}")
    };
    assert!(reason.message().contains("G1"), "{reason}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn g12_g13_g14_hold_on_every_schedule(steps in prop::collection::vec(step(), 1..120)) {
        run(&steps);
    }
}
