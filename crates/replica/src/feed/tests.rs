use tidelog_types::{BrokerEpoch, BrokerId, Offset, PartitionIndex, TopicId};

use super::*;
use crate::fetched::DivergingEpoch;

const LIMITS: Limits = Limits {
    partition_bytes: 100,
    message_bytes: 300,
    read_bytes: 200,
    progress_delay: Duration::from_millis(20),
};

/// Batches that are as many bytes.
type Bytes = usize;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn id(partition: u32) -> TopicIdPartition {
    TopicIdPartition {
        topic_id: TopicId::from_slice(&[1; 16]).unwrap(),
        partition: PartitionIndex(partition),
    }
}

fn fetch(offset: u64) -> FollowerFetch {
    FollowerFetch {
        broker: BrokerId::new(2).unwrap(),
        broker_epoch: BrokerEpoch(1),
        leader_epoch: LeaderEpoch(3),
        fetch_offset: Offset(offset),
        last_fetched_epoch: None,
        durable_end: Offset::ZERO,
    }
}

fn with<B>(batches: B) -> Fetched<B> {
    Fetched::Batches {
        batches,
        high_watermark: Offset(4),
        log_start: Offset(1),
    }
}

fn range() -> LogRange {
    LogRange {
        from: Offset(2),
        until: Offset(9),
    }
}

fn on_disk() -> Found<Bytes> {
    Found::OnDisk {
        range: range(),
        answer: with(range()),
    }
}

fn in_memory(bytes: Bytes) -> Found<Bytes> {
    Found::Answer(with(bytes))
}

fn answer(partition: u32, result: Result<Fetched<Bytes>, ErrorCode>) -> Answer<Bytes> {
    Answer {
        partition: id(partition),
        leader_epoch: LeaderEpoch(3),
        result,
    }
}

/// A feed with a fetch of each of these partitions.
fn fetched(partitions: &[u32]) -> Feed<Bytes> {
    let mut feed = Feed::new(LIMITS, |bytes| *bytes);
    for partition in partitions {
        feed.fetch(id(*partition), fetch(0));
    }
    feed
}

/// Has the next fetch, which is this partition's, find something.
fn try_next(
    feed: &mut Feed<Bytes>,
    partition: u32,
    found: Result<Found<Bytes>, ErrorCode>,
) -> Option<DiskRead> {
    let (next, fetch) = feed.next_fetch().expect("a fetch");
    assert_eq!(next, id(partition));
    feed.tried(next, fetch, found)
}

/// The next message is this one.
fn assert_sends(feed: &mut Feed<Bytes>, now: Duration, answers: Vec<Answer<Bytes>>, progressed: &[u32]) {
    let message = Message {
        answers,
        progressed: progressed.iter().map(|partition| id(*partition)).collect(),
    };
    assert_eq!(feed.message(now), Some(message));
}

#[test]
fn fetches_are_answered_together_in_the_order_they_came() {
    let mut feed = fetched(&[3, 1, 2]);
    assert_eq!(feed.next_wake(), Some(ms(0)));
    let diverging = Fetched::Diverging(DivergingEpoch {
        epoch: LeaderEpoch(1),
        end_offset: Offset(3),
    });
    assert_eq!(try_next(&mut feed, 3, Ok(in_memory(10))), None);
    assert_eq!(try_next(&mut feed, 1, Err(ErrorCode::FencedLeaderEpoch)), None);
    assert_eq!(try_next(&mut feed, 2, Ok(Found::Answer(diverging))), None);
    assert_eq!(feed.next_fetch(), None);
    let answers = vec![
        answer(3, Ok(with(10))),
        answer(1, Err(ErrorCode::FencedLeaderEpoch)),
        answer(2, Ok(diverging)),
    ];
    assert_sends(&mut feed, ms(0), answers, &[]);
    assert_eq!((feed.message(ms(0)), feed.next_wake()), (None, None));
}

#[test]
fn a_fetch_waits_until_its_partition_has_something() {
    let mut feed = fetched(&[1]);
    assert_eq!(try_next(&mut feed, 1, Ok(Found::Nothing)), None);
    assert_eq!(
        (feed.next_fetch(), feed.message(ms(0)), feed.next_wake()),
        (None, None, None)
    );
    feed.ready(id(2));
    feed.ready(id(1));
    feed.ready(id(1));
    assert_eq!(feed.next_wake(), Some(ms(0)));
    assert_eq!(feed.next_fetch(), Some((id(1), fetch(0))), "no fetch of 2 waits");
    assert_eq!(feed.next_fetch(), None, "tried once");
}

#[test]
fn a_partition_that_is_ready_while_it_is_asked_is_asked_again() {
    let mut feed = fetched(&[1]);
    let (partition, fetch) = feed.next_fetch().unwrap();
    feed.ready(partition);
    assert_eq!(feed.tried(partition, fetch, Ok(Found::Nothing)), None);
    assert_eq!(feed.next_fetch(), Some((partition, fetch)));
}

#[test]
fn a_new_fetch_takes_the_place_of_one_that_waits() {
    let mut feed = fetched(&[1]);
    feed.fetch(id(1), fetch(5));
    let (partition, taken) = feed.next_fetch().unwrap();
    assert_eq!(taken, fetch(5));
    // It comes while the one before it is tried.
    feed.fetch(id(1), fetch(6));
    assert_eq!(feed.tried(partition, taken, Ok(Found::Nothing)), None);
    assert_eq!(feed.next_fetch(), Some((id(1), fetch(6))));
    assert_eq!(feed.next_fetch(), None);
}

#[test]
fn what_is_read_from_the_disk_is_answered_later_and_holds_nobody_back() {
    let mut feed = fetched(&[1, 2]);
    let read = try_next(&mut feed, 1, Ok(on_disk())).unwrap();
    assert_eq!((read.partition, read.range), (id(1), range()));
    let failed = try_next(&mut feed, 2, Ok(on_disk())).unwrap();
    feed.fetch(id(3), fetch(0));
    try_next(&mut feed, 3, Ok(in_memory(10)));
    assert_sends(&mut feed, ms(0), vec![answer(3, Ok(with(10)))], &[]);
    assert_eq!(feed.next_wake(), None);

    feed.read(read, Ok(70));
    feed.read(failed, Err(ErrorCode::StorageError));
    assert_eq!(feed.next_wake(), Some(ms(0)));
    assert_eq!(feed.next_fetch(), None);
    let answers = vec![answer(1, Ok(with(70))), answer(2, Err(ErrorCode::StorageError))];
    assert_sends(&mut feed, ms(0), answers, &[]);
    assert_eq!(feed.reading_bytes, 0);
}

#[test]
fn a_message_is_full_at_its_bytes_and_the_next_one_takes_what_is_left() {
    let mut feed = fetched(&[1, 2, 3, 4]);
    let reads = [1, 2].map(|partition| try_next(&mut feed, partition, Ok(on_disk())).unwrap());
    for read in reads {
        feed.read(read, Ok(150));
    }
    assert_eq!(feed.next_fetch(), None, "what was read goes first, and fills it");
    let read = |partition| answer(partition, Ok(with(150)));
    assert_sends(&mut feed, ms(0), vec![read(1), read(2)], &[]);
    try_next(&mut feed, 3, Ok(in_memory(299)));
    try_next(&mut feed, 4, Ok(in_memory(299)));
    assert_eq!(feed.message(ms(0)).unwrap().answers.len(), 2);
}

#[test]
fn fetches_beyond_the_budget_of_reads_wait_until_answers_are_sent() {
    let mut feed = fetched(&[1, 2, 3, 4]);
    let first = try_next(&mut feed, 1, Ok(on_disk())).unwrap();
    let second = try_next(&mut feed, 2, Ok(on_disk())).unwrap();
    assert_eq!(try_next(&mut feed, 3, Ok(on_disk())), None);
    assert_eq!(try_next(&mut feed, 4, Ok(on_disk())), None);
    // Fetched anew, and put aside again.
    feed.fetch(id(3), fetch(1));
    assert_eq!(try_next(&mut feed, 3, Ok(on_disk())), None);
    assert_eq!((feed.next_fetch(), feed.next_wake()), (None, None));

    // A batch larger than a read counts in full.
    feed.read(first, Ok(200));
    feed.read(second, Ok(0));
    assert_eq!(
        feed.next_fetch(),
        Some((id(3), fetch(1))),
        "its answer is in a message"
    );
    assert_eq!(feed.next_fetch(), Some((id(4), fetch(0))));
    assert_eq!(feed.next_fetch(), None, "each once");
}

#[test]
fn a_finished_read_takes_room_until_its_answer_goes_out() {
    let mut feed = fetched(&[1, 2, 3]);
    let read = try_next(&mut feed, 1, Ok(on_disk())).unwrap();
    feed.read(read, Ok(250));
    try_next(&mut feed, 2, Ok(in_memory(100)));
    assert_eq!(feed.next_fetch(), None, "the message is full");
    feed.message(ms(0)).unwrap();

    let read = try_next(&mut feed, 3, Ok(on_disk())).unwrap();
    feed.read(read, Ok(250));
    assert!(!feed.may_read());
    feed.next_fetch();
    assert!(feed.may_read());
}

#[test]
fn a_high_watermark_rides_along_or_follows_shortly_after() {
    let mut feed = fetched(&[1]);
    assert!(feed.progressed(id(2), ms(100)));
    assert!(!feed.progressed(id(3), ms(110)), "they go together");
    assert_eq!(feed.message(ms(119)), None);
    try_next(&mut feed, 1, Ok(in_memory(10)));
    assert_sends(&mut feed, ms(119), vec![answer(1, Ok(with(10)))], &[2, 3]);
    assert_eq!((feed.message(ms(120)), feed.next_wake()), (None, None));

    assert!(feed.progressed(id(2), ms(200)));
    assert_eq!(feed.next_wake(), Some(ms(220)));
    assert_eq!(feed.message(ms(219)), None);
    assert_sends(&mut feed, ms(220), vec![], &[2]);
    assert_eq!((feed.message(ms(300)), feed.next_wake()), (None, None));
}

#[test]
fn what_an_answer_says_of_the_high_watermark_is_not_told_twice() {
    let mut feed = fetched(&[1]);
    feed.progressed(id(1), ms(0));
    try_next(&mut feed, 1, Ok(in_memory(10)));
    assert_sends(&mut feed, ms(5), vec![answer(1, Ok(with(10)))], &[]);
    // Nor is there anything to tell later.
    feed.fetch(id(1), fetch(0));
    feed.progressed(id(1), ms(10));
    let (partition, fetch) = feed.next_fetch().unwrap();
    feed.message(ms(10));
    feed.tried(partition, fetch, Ok(in_memory(10)));
    feed.message(ms(11)).unwrap();
    assert_eq!((feed.message(ms(30)), feed.next_wake()), (None, None));
}

#[test]
fn a_high_watermark_that_no_answer_tells_is_told_apart() {
    // It moved while the partition was asked.
    let mut feed = fetched(&[1]);
    let (partition, fetch) = feed.next_fetch().unwrap();
    feed.progressed(partition, ms(0));
    feed.tried(partition, fetch, Ok(in_memory(10)));
    assert_sends(&mut feed, ms(0), vec![answer(1, Ok(with(10)))], &[1]);
    // The answer has no high watermark, is there later, or not at all.
    for found in [
        Err(ErrorCode::FencedLeaderEpoch),
        Ok(on_disk()),
        Ok(Found::Nothing),
    ] {
        let mut feed = fetched(&[1]);
        feed.progressed(id(1), ms(0));
        try_next(&mut feed, 1, found);
        assert_eq!(feed.message(ms(20)).unwrap().progressed, [id(1)]);
    }
}
