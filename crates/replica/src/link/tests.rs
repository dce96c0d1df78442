use tidelog_types::{LeaderEpoch, Offset, PartitionIndex, TopicId};

use super::*;

const EPOCH: BrokerEpoch = BrokerEpoch(7);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn broker(id: u32) -> BrokerId {
    BrokerId::new(id).unwrap()
}

fn id(partition: u32) -> TopicIdPartition {
    TopicIdPartition {
        topic_id: TopicId::from_slice(&[1; 16]).unwrap(),
        partition: PartitionIndex(partition),
    }
}

fn position(leader: u32) -> FetchPosition {
    FetchPosition {
        leader: broker(leader),
        leader_epoch: LeaderEpoch(3),
        fetch_offset: Offset(5),
        last_fetched_epoch: Some(LeaderEpoch(3)),
        durable_end: Offset(4),
    }
}

fn ask(partition: u32, fetch: bool, durable: bool) -> Ask {
    Ask {
        partition: id(partition),
        fetch,
        durable,
    }
}

/// Everything that is due.
fn due(link: &mut Link, now: Duration) -> Vec<Step> {
    std::iter::from_fn(|| link.advance(now, Some(EPOCH))).collect()
}

/// A link to broker 2, with an open stream on which each of these partitions has fetched.
fn open(partitions: &[u32]) -> Link {
    let mut link = Link::new(broker(2), 10);
    for partition in partitions {
        link.queue(id(*partition), LinkWork::Fetch);
    }
    let ids: Vec<_> = partitions.iter().map(|partition| id(*partition)).collect();
    assert_eq!(due(&mut link, ms(0)), [Step::Look(ids), Step::Open(EPOCH)]);
    link.opened(ms(0));
    assert_eq!(link.ask().len(), partitions.len());
    assert_eq!(due(&mut link, ms(0)), [Step::Beat]);
    link
}

#[test]
fn a_stream_is_opened_once_something_follows_and_the_broker_is_registered() {
    let mut link = Link::new(broker(2), 10);
    assert_eq!(due(&mut link, ms(0)), []);
    assert_eq!(link.next_wake(), None);
    link.queue(id(1), LinkWork::Durable);
    assert_eq!(link.advance(ms(1), None), None);
    assert_eq!(link.next_wake(), None, "only a registration helps");
    assert_eq!(
        due(&mut link, ms(2)),
        [Step::Look(vec![id(1)]), Step::Open(EPOCH)]
    );
    assert!(
        !link.has_to_say() && link.ask().is_empty(),
        "the stream is not open yet"
    );
    link.opened(ms(3));
    assert_eq!(due(&mut link, ms(3)), [Step::Beat]);
    assert_eq!(link.ask(), [ask(1, true, true)], "and it fetches, too");
    assert!(!link.has_to_say());
}

#[test]
fn no_stream_is_opened_for_partitions_that_follow_no_more() {
    let mut link = Link::new(broker(2), 10);
    for partition in [1, 2] {
        link.queue(id(partition), LinkWork::Fetch);
    }
    assert_eq!(
        link.advance(ms(0), Some(EPOCH)),
        Some(Step::Look(vec![id(1), id(2)]))
    );
    // One of them was made to follow again while it was looked at.
    link.queue(id(2), LinkWork::Fetch);
    link.gone(&[id(1), id(2)]);
    assert!(!link.has(id(1)) && link.has(id(2)));
    assert_eq!(due(&mut link, ms(0)), [Step::Open(EPOCH)]);
    link.closed(ms(1), 0);
    assert_eq!(
        link.advance(ms(100), Some(EPOCH)),
        Some(Step::Look(vec![id(2)])),
        "after every stream"
    );
    link.gone(&[id(2)]);
    assert_eq!(due(&mut link, ms(200)), []);
}

#[test]
fn pauses_between_streams_double_until_one_lasts() {
    let mut link = open(&[1]);
    let mut now = ms(0);
    let mut reopen = |link: &mut Link, lasts: Option<u64>, jitter_per_mille: u32| {
        now += ms(lasts.unwrap_or_default());
        link.closed(now, jitter_per_mille);
        let open_at = link.next_wake().unwrap();
        let pause = open_at.saturating_sub(now);
        assert_eq!(due(link, open_at.saturating_sub(ms(1))), []);
        now = open_at;
        assert_eq!(due(link, now), [Step::Look(vec![id(1)]), Step::Open(EPOCH)]);
        if lasts.is_some() {
            link.opened(now);
        }
        pause.as_millis()
    };
    assert_eq!(reopen(&mut link, Some(1000), 0), 20);
    assert_eq!(
        [(); 7].map(|()| reopen(&mut link, None, 0)),
        [40, 80, 160, 320, 640, 1000, 1000]
    );
    assert_eq!(
        reopen(&mut link, Some(1000), 500),
        1500,
        "it lasted no longer than a pause"
    );
    assert_eq!(reopen(&mut link, Some(1001), 0), 20);
    assert_eq!(reopen(&mut link, Some(0), 250), 50);
}

#[test]
fn a_stream_that_does_not_open_in_time_is_closed() {
    let mut link = open(&[1]);
    link.closed(ms(0), 0);
    assert_eq!(due(&mut link, ms(20)).last(), Some(&Step::Open(EPOCH)));
    assert_eq!(link.next_wake(), Some(ms(5_020)));
    assert_eq!(due(&mut link, ms(5_019)), []);
    let close = Step::Close(Closing::NotOpened);
    assert_eq!(link.advance(ms(5_020), Some(EPOCH)), Some(close));
    link.closed(ms(5_020), 0);
    assert_eq!(
        link.next_wake(),
        Some(ms(5_060)),
        "the wait does not count as a stream that lasted"
    );
}

#[test]
fn a_stream_ends_with_the_registration_that_it_was_opened_under() {
    let anew = Some(BrokerEpoch(8));
    for is_open in [false, true] {
        let mut link = Link::new(broker(2), 10);
        link.queue(id(1), LinkWork::Fetch);
        assert_eq!(due(&mut link, ms(0)).len(), 2);
        if is_open {
            link.opened(ms(1));
        }
        let close = Some(Step::Close(Closing::RegisteredAnew));
        assert_eq!(link.advance(ms(2), None), close);
        assert_eq!(link.advance(ms(2), anew), close);
        link.closed(ms(2), 0);
        assert_eq!(link.advance(ms(30), anew), Some(Step::Look(vec![id(1)])));
        assert_eq!(link.advance(ms(30), anew), Some(Step::Open(BrokerEpoch(8))));
    }
}

#[test]
fn a_sign_of_life_is_due_when_the_stream_opens_and_every_half_second() {
    let mut link = open(&[1]);
    assert_eq!(link.next_wake(), Some(ms(500)));
    assert_eq!(due(&mut link, ms(499)), []);
    assert_eq!(due(&mut link, ms(700)), [Step::Beat]);
    assert_eq!(
        link.next_wake(),
        Some(ms(1200)),
        "what was late is not made up for"
    );
}

#[test]
fn a_partition_is_asked_once_however_much_it_has_to_say() {
    let mut link = open(&[1, 2]);
    link.queue(id(2), LinkWork::Durable);
    link.queue(id(1), LinkWork::Fetch);
    link.queue(id(2), LinkWork::Fetch);
    link.queue(id(1), LinkWork::Fetch);
    assert_eq!(link.ask(), [ask(2, true, true), ask(1, true, false)]);
    assert_eq!(link.ask(), []);
}

#[test]
fn a_message_speaks_of_so_many_partitions_and_the_next_of_the_others() {
    let mut link = Link::new(broker(2), 2);
    for partition in 1..=3 {
        link.queue(id(partition), LinkWork::Fetch);
    }
    assert_eq!(due(&mut link, ms(0)).len(), 2);
    link.opened(ms(0));
    assert_eq!(link.ask(), [ask(1, true, false), ask(2, true, false)]);
    assert!(link.has_to_say());
    // What is said again waits its turn.
    link.queue(id(1), LinkWork::Durable);
    assert_eq!(link.ask(), [ask(3, true, false), ask(1, false, true)]);
    assert!(!link.has_to_say());
}

#[test]
fn a_request_holds_what_is_for_this_leader_and_who_follows_another_is_forgotten() {
    let mut link = open(&[1, 2, 3, 4, 5]);
    let standing = |follows: Option<u32>, fetch: Option<u32>, durable: Option<u32>| Standing {
        follows: follows.map(broker),
        fetch: fetch.map(position),
        durable: durable.map(position),
    };
    let replies = vec![
        (id(1), standing(Some(2), Some(2), Some(2))),
        // It may not fetch now, and stays.
        (id(2), standing(Some(2), None, Some(2))),
        (id(3), standing(Some(9), Some(9), Some(9))),
        (id(4), Standing::default()),
        (id(5), Standing::default()),
    ];
    // Made to follow again since it was asked.
    link.queue(id(5), LinkWork::Fetch);
    let request = Request {
        fetches: vec![(id(1), position(2))],
        durable: vec![(id(1), position(2)), (id(2), position(2))],
    };
    assert_eq!(link.request(replies), request);
    let has = [1, 2, 3, 4, 5].map(|partition| link.has(id(partition)));
    assert_eq!(has, [true, true, false, false, true]);
    assert!(link.request(Vec::new()).is_empty());
}

#[test]
fn a_refused_partition_fetches_again_after_a_while() {
    let mut link = open(&[1, 2, 3]);
    link.taken(id(1), Taken::Refused, ms(10));
    link.taken(id(3), Taken::Refused, ms(40));
    assert_eq!(link.next_wake(), Some(ms(60)));
    assert_eq!(due(&mut link, ms(59)), []);
    assert!(!link.has_to_say());
    assert_eq!(due(&mut link, ms(60)), []);
    assert_eq!(link.ask(), [ask(1, true, false), ask(3, true, false)]);
    // One that was refused later is not asked for earlier, nor is one that is gone.
    link.taken(id(1), Taken::Refused, ms(70));
    link.taken(id(2), Taken::Refused, ms(70));
    link.gone(&[id(2)]);
    assert_eq!(due(&mut link, ms(119)), []);
    assert!(!link.has_to_say());
    assert_eq!(due(&mut link, ms(120)), []);
    assert_eq!(link.ask(), [ask(1, true, false)]);
}

#[test]
fn on_a_new_stream_everything_is_fetched_and_nothing_waits_for_having_been_refused() {
    let mut link = open(&[1, 2]);
    link.taken(id(1), Taken::Refused, ms(10));
    link.closed(ms(11), 0);
    assert_eq!(due(&mut link, ms(31)).len(), 2);
    link.opened(ms(32));
    assert_eq!(due(&mut link, ms(32)), [Step::Beat]);
    assert_eq!(link.ask(), [ask(1, true, false), ask(2, true, false)]);
    assert_eq!(due(&mut link, ms(100)), []);
    assert_eq!(link.ask(), []);
}

#[test]
fn a_taken_answer_lets_a_partition_fetch_on_and_a_silent_one_is_asked_whether_it_follows() {
    let mut link = open(&[1, 2]);
    link.taken(id(2), Taken::FetchOn, ms(10));
    link.taken(id(1), Taken::Silent, ms(10));
    link.taken(id(9), Taken::Silent, ms(10));
    assert_eq!(link.ask(), [ask(2, true, false), ask(1, false, false)]);
    assert!(!link.has(id(9)));
}

#[test]
fn what_a_partition_made_of_an_answer() {
    let stale = InvalidFetch::Stale {
        answered: LeaderEpoch(1),
    };
    let gap = InvalidFetch::Gap {
        base_offset: Offset(3),
        log_end: Offset(2),
    };
    let disorder = InvalidFetch::EpochOutOfOrder {
        base_offset: Offset(3),
        epoch: LeaderEpoch(1),
        after: Some(LeaderEpoch(2)),
    };
    assert_eq!(
        [Ok(true), Ok(false), Err(&stale), Err(&gap), Err(&disorder)].map(Taken::from),
        [
            Taken::FetchOn,
            Taken::Silent,
            Taken::Silent,
            Taken::Refused,
            Taken::Refused
        ]
    );
}
