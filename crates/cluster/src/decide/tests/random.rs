//! Random sequences of commands.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::command::AlterTopicConfigs;

/// A step of a random history, with numbers that are bent to what exists.
#[derive(Debug, Clone)]
enum Step {
    Register {
        broker: u32,
        disk: u32,
    },
    Fence {
        broker: u32,
        stale: bool,
    },
    Unfence(u32),
    Drain(u32),
    Create {
        topic: u32,
        factor: u32,
        unclean: bool,
        min_insync: u32,
    },
    Delete(u32),
    MinInsync {
        topic: u32,
        min_insync: u32,
    },
    Alter {
        topic: u32,
        partition: u32,
        members: u8,
        stale: bool,
    },
    Balance,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (1_u32..6, 1_u32..3).prop_map(|(broker, disk)| Step::Register { broker, disk }),
        4 => (1_u32..6, prop::bool::weighted(0.1)).prop_map(|(broker, stale)| Step::Fence { broker, stale }),
        6 => (1_u32..6).prop_map(Step::Unfence),
        1 => (1_u32..6).prop_map(Step::Drain),
        2 => (1_u32..4, 1_u32..4, any::<bool>(), 1_u32..4)
            .prop_map(|(topic, factor, unclean, min_insync)| Step::Create { topic, factor, unclean, min_insync }),
        1 => (1_u32..4).prop_map(Step::Delete),
        2 => (1_u32..4, 1_u32..4).prop_map(|(topic, min_insync)| Step::MinInsync { topic, min_insync }),
        8 => (1_u32..4, 0_u32..3, any::<u8>(), prop::bool::weighted(0.1))
            .prop_map(|(topic, partition, members, stale)| Step::Alter { topic, partition, members, stale }),
        1 => Just(Step::Balance),
    ];
    prop::collection::vec(step, 1..120)
}

fn command(log: &Log, step: &Step) -> Option<Command> {
    Some(match *step {
        Step::Register { broker, disk } => Command::RegisterBroker(registration(broker, disk)),
        Step::Fence { broker, stale } => {
            let mut incarnation = log.incarnation(broker);
            incarnation.epoch.0 -= u64::from(stale && incarnation.epoch.0 > 0);
            Command::FenceBroker(incarnation)
        }
        Step::Unfence(broker) => Command::UnfenceBroker(log.incarnation(broker)),
        Step::Drain(broker) => Command::DrainBroker(log.incarnation(broker)),
        Step::Create {
            topic: number,
            factor,
            unclean,
            min_insync,
        } => Command::CreateTopic(CreateTopic {
            topic_id: topic_id(number),
            placement_start: u64::from(number),
            configs: BTreeMap::from([
                ("unclean.leader.election.enable".to_owned(), unclean.to_string()),
                ("min.insync.replicas".to_owned(), min_insync.to_string()),
            ]),
            ..topic(&format!("t{number}"), 3, factor, &[])
        }),
        Step::Delete(number) => Command::DeleteTopic(DeleteTopic {
            topic_id: topic_id(number),
        }),
        Step::MinInsync { topic, min_insync } => Command::AlterTopicConfigs(AlterTopicConfigs {
            topic_id: topic_id(topic),
            set: BTreeMap::from([("min.insync.replicas".to_owned(), min_insync.to_string())]),
            remove: Vec::new(),
        }),
        Step::Alter {
            topic,
            partition,
            members,
            stale,
        } => {
            let partition = TopicIdPartition {
                topic_id: topic_id(topic),
                partition: PartitionIndex(partition),
            };
            let old = log.image.partition(partition)?;
            let leader = old.leader?;
            let chosen = old
                .replicas
                .iter()
                .zip(0..)
                .filter(|(id, bit)| **id == leader || members & (1 << bit) != 0);
            Command::AlterPartition(AlterPartition {
                partition,
                leader: log.incarnation(leader.get()),
                leader_epoch: old.leader_epoch,
                partition_epoch: if stale {
                    old.partition_epoch.next()
                } else {
                    old.partition_epoch
                },
                isr: chosen.map(|(id, _)| log.incarnation(id.get())).collect(),
            })
        }
        Step::Balance => Command::ElectPreferredLeaders,
    })
}

fn check(old: &ClusterImage, new: &ClusterImage) {
    for topic in new.topics() {
        for (partition, now) in topic.iter() {
            let isr: BTreeSet<_> = now.isr.iter().collect();
            let elr: BTreeSet<_> = now.elr.iter().collect();
            assert_eq!(
                (isr.len(), elr.len()),
                (now.isr.len(), now.elr.len()),
                "no member twice"
            );
            assert!(
                isr.is_disjoint(&elr),
                "{partition}: ISR and ELR share a member: {now:?}"
            );
            assert!(
                isr.union(&elr).all(|member| now.replicas.contains(member)),
                "members are replicas"
            );
            assert!(
                now.isr.iter().all(|member| new.is_unfenced(*member)),
                "{partition}: fenced in ISR: {now:?}"
            );
            assert!(
                now.leader.is_none_or(|leader| now.isr.contains(&leader)),
                "M29 {partition}: {now:?}"
            );
            assert_eq!(
                now.leader.is_none(),
                now.isr.is_empty(),
                "whoever is in sync leads"
            );
            assert!(now.isr.len() < now.effective_min_insync_replicas() || now.elr.is_empty());
            let Some(before) = old.partition(partition) else {
                continue;
            };
            assert!(
                now.leader == before.leader || now.leader_epoch > before.leader_epoch,
                "M28"
            );
            assert!(
                now == before || now.partition_epoch > before.partition_epoch,
                "M28"
            );
            assert!(now.leader_epoch >= before.leader_epoch);
            check_r3(partition, before, now, old, new);
        }
    }
}

/// A leader keeps its epoch only while its broker epoch lives.
fn check_r3(
    partition: TopicIdPartition,
    before: &PartitionRegistration,
    now: &PartitionRegistration,
    old: &ClusterImage,
    new: &ClusterImage,
) {
    let Some(leader) = before.leader else { return };
    let epoch = |image: &ClusterImage| image.broker(leader).map(|broker| broker.epoch);
    assert!(
        epoch(old) == epoch(new) || now.leader_epoch > before.leader_epoch,
        "R3 {partition}: {leader} was registered anew and kept epoch {}",
        now.leader_epoch
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn random_histories_keep_m28_m29_r3_and_rebuild_from_their_snapshot(steps in steps()) {
        let mut log = Log::with_brokers(3);
        let mut epochs = BTreeSet::new();
        for step in &steps {
            let Some(command) = command(&log, step) else { continue };
            let before = log.image.clone();
            if let Ok(Accepted::BrokerRegistered { epoch }) = log.apply(command) {
                prop_assert!(epochs.insert(epoch), "M28: a broker epoch is unique");
            }
            check(&before, &log.image);
            prop_assert_eq!(log.image.delta_since(&before).is_empty(), {
                let mut same = before.clone();
                same.index = log.image.index;
                same == log.image
            });
        }
        let mut rebuilt = ClusterImage::default();
        rebuilt.replay(log.image.index, &log.image.to_changes());
        prop_assert_eq!(rebuilt, log.image);
    }
}
