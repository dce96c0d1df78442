//! Words for writing histories in tests: three brokers, one topic, small numbers.

use std::sync::Arc;
use std::time::Duration;

use tidelog_types::{
    BrokerId, LeaderEpoch, Offset, PartitionEpoch, PartitionIndex, PartitionRegistration, ProducerEpoch,
    ProducerId, ProducerStamp, Sequence, TopicId, TopicIdPartition,
};

use crate::event::{
    CommitResult, Entry, Event, Life, Name, ReadRecord, Reader, Request, SendId, Sender, Value, What,
};

/// A history whose events are a millisecond apart.
pub(crate) fn history(events: impl IntoIterator<Item = What>) -> Vec<Event> {
    let times = (0..).map(Duration::from_millis);
    times.zip(events).map(|(at, what)| Event { at, what }).collect()
}

/// A history of events at given seconds.
pub(crate) fn timed(events: impl IntoIterator<Item = (u64, What)>) -> Vec<Event> {
    let event = |(seconds, what)| Event {
        at: Duration::from_secs(seconds),
        what,
    };
    events.into_iter().map(event).collect()
}

/// Two lists of events in a row.
pub(crate) fn then(mut first: Vec<What>, second: impl IntoIterator<Item = What>) -> Vec<What> {
    first.extend(second);
    first
}

pub(crate) fn topic(partition: u32) -> TopicIdPartition {
    TopicIdPartition {
        topic_id: TopicId::from_slice(&[7; 16]).unwrap(),
        partition: PartitionIndex(partition),
    }
}

/// The partition that most histories are about.
pub(crate) fn p0() -> TopicIdPartition {
    topic(0)
}

pub(crate) fn broker(id: u32) -> BrokerId {
    BrokerId::new(id).unwrap()
}

pub(crate) fn brokers(ids: &[u32]) -> Vec<BrokerId> {
    ids.iter().map(|id| broker(*id)).collect()
}

pub(crate) fn values(numbers: &[u64]) -> Vec<Value> {
    numbers.iter().map(|number| Value(*number)).collect()
}

pub(crate) fn name(name: &str) -> Name {
    Arc::from(name)
}

// ---- producers and readers

/// An idempotent send to partition 0.
pub(crate) fn send(sender: u32, send: u64, numbers: &[u64]) -> What {
    What::SendBegan {
        sender: Sender(sender),
        send: SendId(send),
        partition: p0(),
        values: values(numbers),
        idempotent: true,
    }
}

/// A send without idempotence.
pub(crate) fn plain_send(sender: u32, send: u64, numbers: &[u64]) -> What {
    What::SendBegan {
        sender: Sender(sender),
        send: SendId(send),
        partition: p0(),
        values: values(numbers),
        idempotent: false,
    }
}

pub(crate) fn acked(send: u64, base: u64, epoch: u32) -> What {
    What::SendAcknowledged {
        send: SendId(send),
        base_offset: Offset(base),
        leader_epoch: LeaderEpoch(epoch),
    }
}

pub(crate) fn refused(send: u64) -> What {
    What::SendRefused { send: SendId(send) }
}

pub(crate) fn records(records: &[(u64, u64)]) -> Vec<ReadRecord> {
    let record = |(offset, value): &(u64, u64)| ReadRecord {
        offset: Offset(*offset),
        value: Value(*value),
    };
    records.iter().map(record).collect()
}

pub(crate) fn read(reader: u32, from: u64, next: u64, found: &[(u64, u64)]) -> What {
    read_from_start(reader, from, next, found, 0)
}

pub(crate) fn read_from_start(
    reader: u32,
    from: u64,
    next: u64,
    found: &[(u64, u64)],
    log_start: u64,
) -> What {
    What::Read {
        reader: Reader(reader),
        partition: p0(),
        from: Offset(from),
        next: Offset(next),
        records: records(found),
        log_start: Offset(log_start),
    }
}

pub(crate) fn read_to_end(log_start: u64, end: u64, found: &[(u64, u64)]) -> What {
    What::ReadToEnd {
        partition: p0(),
        log_start: Offset(log_start),
        end: Offset(end),
        records: records(found),
    }
}

pub(crate) fn end_asked(request: u64, epoch: Option<u32>) -> What {
    What::EndAsked {
        request: Request(request),
        partition: p0(),
        leader_epoch: epoch.map(LeaderEpoch),
    }
}

pub(crate) fn end_answered(request: u64, offset: u64, epoch: u32) -> What {
    What::EndAnswered {
        request: Request(request),
        offset: Offset(offset),
        leader_epoch: LeaderEpoch(epoch),
    }
}

// ---- groups

pub(crate) fn commit(request: u64, offset: u64) -> What {
    What::CommitBegan {
        request: Request(request),
        group: name("g"),
        partition: p0(),
        offset: Some(Offset(offset)),
    }
}

/// The deletion of the group.
pub(crate) fn delete(request: u64) -> What {
    What::CommitBegan {
        request: Request(request),
        group: name("g"),
        partition: p0(),
        offset: None,
    }
}

pub(crate) fn committed(request: u64, result: CommitResult) -> What {
    What::CommitEnded {
        request: Request(request),
        result,
    }
}

pub(crate) fn offset_asked(request: u64) -> What {
    What::OffsetAsked {
        request: Request(request),
        group: name("g"),
        partition: p0(),
    }
}

pub(crate) fn offset_answered(request: u64, offset: Option<u64>) -> What {
    What::OffsetAnswered {
        request: Request(request),
        offset: offset.map(Offset),
    }
}

pub(crate) fn delivered(offset: u64) -> What {
    What::Delivered {
        group: name("g"),
        partition: p0(),
        offset: Offset(offset),
    }
}

pub(crate) fn settled() -> What {
    What::GroupSettled {
        group: name("g"),
        partitions: vec![p0()],
    }
}

// ---- replicas

pub(crate) fn entry(base: u64, epoch: u32, numbers: &[u64]) -> Arc<Entry> {
    Arc::new(Entry {
        base_offset: Offset(base),
        leader_epoch: LeaderEpoch(epoch),
        values: values(numbers),
        producer: None,
    })
}

/// A batch of producer 9 in its epoch 0.
pub(crate) fn produced(base: u64, epoch: u32, numbers: &[u64], sequence: i32) -> Arc<Entry> {
    let stamp = ProducerStamp {
        id: ProducerId(9),
        epoch: ProducerEpoch(0),
        base_sequence: Sequence::from_wire(sequence).unwrap(),
    };
    let entry = Entry {
        producer: Some(stamp),
        ..(*entry(base, epoch, numbers)).clone()
    };
    Arc::new(entry)
}

pub(crate) fn recovered(id: u32, log_start: u64, log: Vec<Arc<Entry>>) -> What {
    What::Recovered {
        broker: broker(id),
        partition: p0(),
        log_start: Offset(log_start),
        log,
    }
}

pub(crate) fn crashed(id: u32) -> What {
    What::Crashed { broker: broker(id) }
}

pub(crate) fn disk_lost(id: u32) -> What {
    What::DiskLost {
        broker: broker(id),
        node: u64::from(id),
    }
}

pub(crate) fn leads(id: u32, life: u32, epoch: u32) -> What {
    What::Leads {
        broker: broker(id),
        life: Life(life),
        partition: p0(),
        epoch: LeaderEpoch(epoch),
    }
}

/// A leader appends.
pub(crate) fn appends(id: u32, entry: Arc<Entry>) -> What {
    What::Appended {
        broker: broker(id),
        partition: p0(),
        entry,
        leading: true,
    }
}

/// A follower appends.
pub(crate) fn copies(id: u32, entry: Arc<Entry>) -> What {
    What::Appended {
        broker: broker(id),
        partition: p0(),
        entry,
        leading: false,
    }
}

pub(crate) fn durable(id: u32, end: u64) -> What {
    What::Durable {
        broker: broker(id),
        partition: p0(),
        end: Offset(end),
    }
}

pub(crate) fn truncated(id: u32, to: u64) -> What {
    What::Truncated {
        broker: broker(id),
        partition: p0(),
        to: Offset(to),
    }
}

pub(crate) fn trimmed(id: u32, log_start: u64) -> What {
    What::Trimmed {
        broker: broker(id),
        partition: p0(),
        log_start: Offset(log_start),
    }
}

/// A leader's high watermark.
pub(crate) fn commits(id: u32, epoch: u32, to: u64) -> What {
    high_watermark(id, epoch, to, true)
}

/// A follower's high watermark.
pub(crate) fn learns(id: u32, epoch: u32, to: u64) -> What {
    high_watermark(id, epoch, to, false)
}

fn high_watermark(id: u32, epoch: u32, to: u64, leading: bool) -> What {
    What::HighWatermark {
        broker: broker(id),
        partition: p0(),
        epoch: LeaderEpoch(epoch),
        to: Offset(to),
        leading,
    }
}

/// A leader answers for a batch that it was asked to store.
pub(crate) fn acknowledges(id: u32, base: u64, numbers: &[u64]) -> What {
    What::Acknowledges {
        broker: broker(id),
        partition: p0(),
        base_offset: Offset(base),
        values: values(numbers),
    }
}

// ---- metadata

/// A registration of partition 0 on brokers 1 to 3 with min.insync.replicas 2.
pub(crate) fn registration(
    leader: Option<u32>,
    leader_epoch: u32,
    partition_epoch: u32,
    isr: &[u32],
    elr: &[u32],
) -> PartitionRegistration {
    PartitionRegistration {
        replicas: brokers(&[1, 2, 3]),
        isr: brokers(isr),
        elr: brokers(elr),
        leader: leader.map(broker),
        last_known_leader: None,
        leader_epoch: LeaderEpoch(leader_epoch),
        partition_epoch: PartitionEpoch(partition_epoch),
        min_insync_replicas: 2,
    }
}

pub(crate) fn registered(registration: PartitionRegistration) -> What {
    What::Registered {
        partition: p0(),
        registration,
    }
}

/// The topic would rather have a leader that may lack acknowledged records than none, or would not.
pub(crate) fn unclean_election(allowed: bool) -> What {
    What::UncleanElection {
        topic: p0().topic_id,
        allowed,
    }
}

/// In epoch 1 broker 1 is all that is left of the ISR; in epoch 2 broker 3 is elected, which the
/// topic allows.
pub(crate) fn elected_uncleanly() -> Vec<What> {
    vec![
        unclean_election(true),
        registered(registration(Some(1), 1, 8, &[1], &[])),
        registered(registration(Some(3), 2, 9, &[3], &[])),
    ]
}

/// Broker 1 leads 2 and 3 in epoch 1; they all have `entry`, at the log's beginning, on their
/// disks, and it is committed.
pub(crate) fn replicated(entry: &Arc<Entry>) -> Vec<What> {
    let end = entry.end_offset().0;
    let mut events = vec![
        registered(registration(Some(1), 1, 1, &[1, 2, 3], &[])),
        leads(1, 1, 1),
        appends(1, Arc::clone(entry)),
        copies(2, Arc::clone(entry)),
        copies(3, Arc::clone(entry)),
    ];
    events.extend([1, 2, 3].map(|id| durable(id, end)));
    events.push(commits(1, 1, end));
    events
}
