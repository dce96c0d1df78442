use std::sync::Arc;
use std::time::Duration;

use tidelog_history::event::Life;
use tidelog_types::{BrokerId, DirectoryId};

use super::*;
use crate::config::Config;
use crate::context::Context;
use crate::message::{Address, Site};
use crate::random::Random;
use crate::recorder::{Options, Recorder};

fn context() -> Context {
    let mut random = Random::new(1);
    let config = Config::draw(&mut random);
    Context::new(random, config, Recorder::new(Options::default()))
}

fn address(broker: u32) -> Address {
    Address {
        site: Site::Broker(BrokerId::new(broker).unwrap()),
        life: Life(1),
    }
}

fn node(broker: u32) -> NodeId {
    let directory = DirectoryId::from_slice(&[broker as u8; 16]).unwrap();
    node_id(BrokerId::new(broker).unwrap(), directory)
}

/// The first of three voters, elected by the second.
fn leader(context: &mut Context) -> Raft {
    let voters = Payload::Membership(vec![(1..=3).map(node).collect()]);
    let first = Arc::new(LogEntry {
        term: 0,
        payload: voters,
    });
    let mut raft = Raft::new(node(1), address(1), MetadataDisk::formed(vec![first]), context);
    context.now = Duration::from_secs(10);
    raft.tick(context);
    raft.synced(context);
    let granted = RaftMessage::Vote {
        term: 1,
        node: node(2),
        granted: true,
    };
    raft.receive(address(2), granted, context);
    assert_eq!(raft.leads(), Some(1));
    raft
}

#[test]
fn a_leader_knows_since_when_no_majority_answered_it() {
    let mut context = context();
    let mut raft = leader(&mut context);
    let elected = context.now;
    assert_eq!(raft.since_quorum_ack(&context), None, "nobody answered yet");
    let answer = |broker, sent| RaftMessage::Appended {
        term: 1,
        node: node(broker),
        matched: Ok(1),
        sent,
    };
    let second = Duration::from_secs(1);
    context.now = elected + 2 * second;
    raft.receive(address(2), answer(2, elected), &mut context);
    assert_eq!(
        raft.since_quorum_ack(&context),
        Some(2 * second),
        "it counts from the question"
    );
    context.now = elected + 5 * second;
    assert_eq!(raft.since_quorum_ack(&context), Some(5 * second));
    raft.receive(address(3), answer(3, elected + 4 * second), &mut context);
    assert_eq!(raft.since_quorum_ack(&context), Some(second));
    raft.receive(address(2), answer(2, elected + second), &mut context);
    assert_eq!(
        raft.since_quorum_ack(&context),
        Some(second),
        "the newest majority counts"
    );
    let newer = RaftMessage::Vote {
        term: 2,
        node: node(3),
        granted: false,
    };
    raft.receive(address(3), newer, &mut context);
    assert_eq!(raft.since_quorum_ack(&context), None, "it leads no more");
}
