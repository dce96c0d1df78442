//! The invariants, looked at after every step.

use tidelog_types::Offset;

use crate::cluster::{Cluster, Node};
use crate::disk::{Entry, end, replay};

pub fn all(cluster: &mut Cluster) {
    r16_logs_agree_below_the_high_watermark(cluster);
    r18_isr_members_have_what_is_committed(cluster);
    r19_the_leader_counts_every_member(cluster);
    r22_a_leaders_high_watermark_never_falls(cluster);
    for node in cluster.nodes.iter().filter(|node| node.is_up) {
        r21_r25_what_is_derived_equals_a_scan(node);
    }
}

fn below(log: &[Entry], offset: Offset) -> &[Entry] {
    &log[..log.partition_point(|entry| entry.info.base_offset < offset)]
}

fn r16_logs_agree_below_the_high_watermark(cluster: &Cluster) {
    let up: Vec<_> = cluster.nodes.iter().filter(|node| node.is_up).collect();
    for (at, one) in up.iter().enumerate() {
        for other in &up[at + 1..] {
            let committed = one
                .replica
                .log()
                .high_watermark()
                .min(other.replica.log().high_watermark());
            let (ours, theirs) = (one.disk.log(), other.disk.log());
            assert_eq!(
                below(&ours, committed),
                below(&theirs, committed),
                "R16: {} and {}",
                one.id,
                other.id
            );
        }
    }
}

fn r18_isr_members_have_what_is_committed(cluster: &Cluster) {
    for member in &cluster.registration.isr {
        let node = cluster.node(*member);
        let durable = end(&node.disk.synced());
        assert!(
            durable >= cluster.committed,
            "R18: {member} has {durable} of {}",
            cluster.committed
        );
    }
}

fn r19_the_leader_counts_every_member(cluster: &Cluster) {
    let registration = &cluster.registration;
    let Some(leader) = registration.leader.map(|leader| cluster.node(leader)) else {
        return;
    };
    let leads = leader.replica.is_leader() && leader.replica.leader().1 == registration.leader_epoch;
    if leader.is_up && leads {
        let counted = leader.replica.maximal_isr();
        // A member that left may still be counted, one that joined must be.
        assert!(
            registration.isr.iter().all(|member| counted.contains(member)),
            "R19: {counted:?}"
        );
    }
}

fn r22_a_leaders_high_watermark_never_falls(cluster: &mut Cluster) {
    for node in cluster
        .nodes
        .iter()
        .filter(|node| node.is_up && node.replica.is_leader())
    {
        let epoch = node.replica.leader().1;
        let now = node.replica.log().high_watermark();
        let before = cluster.high_watermarks.insert(epoch, now).unwrap_or_default();
        assert!(before <= now, "R22: epoch {epoch} fell from {before} to {now}");
        cluster.committed = cluster.committed.max(now);
    }
}

fn r21_r25_what_is_derived_equals_a_scan(node: &Node) {
    let log = node.disk.log();
    let (epochs, producers) = replay(&log);
    assert_eq!(
        node.replica.log().log_end(),
        end(&log),
        "the machine and the store of {}",
        node.id
    );
    assert_eq!(node.replica.log().epochs(), &epochs, "R21 at {}", node.id);
    assert_eq!(
        node.replica.log().producers().states(),
        producers.states(),
        "R25 at {}",
        node.id
    );
}
