use super::*;
use crate::recorder::Options;

/// A cluster that has come about, and in which nothing breaks by itself.
fn formed(seed: u64) -> World {
    let mut world = World::new(seed, Options::default());
    for _ in 0..200 {
        let next = world.context.now + Duration::from_millis(100);
        assert!(world.run_until(next), "{:?}", world.context.history.violation);
        if world.has_topics() {
            return world;
        }
    }
    panic!("the cluster of seed {seed} did not come about");
}

fn later(world: &mut World, after: Duration) {
    let until = world.context.now + after;
    assert!(world.run_until(until), "{:?}", world.context.history.violation);
}

#[test]
fn what_breaks_nothing_is_no_fault() {
    let mut world = formed(1);
    let broker = world.hosts[0].broker;
    assert!(world.inflict(Kind::PowerLoss));
    assert!(!world.inflict(Kind::PowerLoss), "all are down");
    assert!(!world.crash_one(Some(broker), 1, 1));
    assert!(!world.pause_one(Some(broker)));
    later(&mut world, Duration::from_secs(6));
    assert!(world.pause_one(Some(broker)));
    assert!(!world.pause_one(Some(broker)), "it is paused");
    assert!(world.crash_one(Some(broker), 1, 1));
}

#[test]
fn healing_ends_every_fault_and_calls_off_what_was_planned() {
    for seed in 0..4 {
        let mut world = formed(seed);
        assert!(world.roll());
        assert!(world.inflict(Kind::Stop));
        assert!(world.inflict(Kind::SlowDisk));
        assert!(world.inflict(Kind::Isolate));
        let paused = world.hosts[2].broker;
        world.pause_one(Some(paused));
        later(&mut world, Duration::from_millis(20));
        world.heal_everything();
        assert!(world.is_whole() && world.nemesis.is_healed());
        for _ in 0..100 {
            later(&mut world, Duration::from_millis(100));
            assert!(world.is_whole(), "seed {seed}: a broker is down after healing");
        }
    }
}

#[test]
fn a_broker_that_goes_down_after_healing_breaks_the_run() {
    let mut world = formed(1);
    world.heal_everything();
    world.crash(0);
    let violation = world.context.history.violation.as_ref();
    assert!(violation.is_some_and(|breach| breach.what.starts_with("L31: broker 1 goes down")));
}
