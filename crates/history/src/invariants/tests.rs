//! Every invariant is shown histories that it must reject, and as like as possible ones that it
//! must accept.

mod c01_none_lost;
mod c02_one_value;
mod c03_no_phantom;
mod c04_at_most_once;
mod c05_later_is_higher;
mod c06_send_order;
mod c07_no_gap;
mod c08_end_covers_acknowledged;
mod c09_stays_readable;
mod c10_below_high_watermark;
mod c11_within_log;
mod g12_commits_stay;
mod g13_fenced_commits;
mod g14_one_owner;
mod g15_all_delivered;
mod l31_lives_when_healed;
mod m26_one_sequence;
mod m27_commands_stay;
mod m28_epochs_rise;
mod m29_leader_is_member;
mod m30_votes_stay;
mod p16_replicas_agree;
mod p17_leaders_are_complete;
mod p18_members_are_durable;
mod p19_counts_every_member;
mod p20_one_leader;
mod p21_epochs_rise;
mod p22_high_watermark_rises;
mod p23_committed_is_kept;
mod p24_durable_when_acknowledged;
mod p25_producers_replayed;

use crate::checker::check;
use crate::event::Event;
use crate::invariant::Invariant;

/// Histories by what they show.
pub(crate) struct Cases {
    /// What no correct cluster does: rejected, and by this invariant.
    pub(crate) bad: Vec<(&'static str, Vec<Event>)>,
    /// What a correct cluster may do: accepted by every invariant.
    pub(crate) good: Vec<(&'static str, Vec<Event>)>,
}

fn judge(invariant: Invariant, cases: &Cases) {
    assert!(
        !cases.bad.is_empty() && !cases.good.is_empty(),
        "{invariant} needs histories of both kinds"
    );
    for (name, history) in &cases.bad {
        let violation = check(history).expect_err(&format!("{invariant} accepts what is bad: {name}"));
        assert_eq!(violation.invariant, invariant, "{name}: {violation}");
        assert_eq!(
            violation.position,
            history.len() - 1,
            "{name}: the last event is the bad one: {violation}"
        );
    }
    for (name, history) in &cases.good {
        if let Err(violation) = check(history) {
            panic!("{invariant} or another rejects what is good: {name}: {violation}");
        }
    }
}

macro_rules! each {
    ($($file:ident: $invariant:ident,)*) => {
        $(
            #[test]
            fn $file() {
                judge(Invariant::$invariant, &$file::cases());
            }
        )*

        const SHOWN: &[Invariant] = &[$(Invariant::$invariant,)*];
    };
}

each! {
    c01_none_lost: C1,
    c02_one_value: C2,
    c03_no_phantom: C3,
    c04_at_most_once: C4,
    c05_later_is_higher: C5,
    c06_send_order: C6,
    c07_no_gap: C7,
    c08_end_covers_acknowledged: C8,
    c09_stays_readable: C9,
    c10_below_high_watermark: C10,
    c11_within_log: C11,
    g12_commits_stay: G12,
    g13_fenced_commits: G13,
    g14_one_owner: G14,
    g15_all_delivered: G15,
    p16_replicas_agree: P16,
    p17_leaders_are_complete: P17,
    p18_members_are_durable: P18,
    p19_counts_every_member: P19,
    p20_one_leader: P20,
    p21_epochs_rise: P21,
    p22_high_watermark_rises: P22,
    p23_committed_is_kept: P23,
    p24_durable_when_acknowledged: P24,
    p25_producers_replayed: P25,
    m26_one_sequence: M26,
    m27_commands_stay: M27,
    m28_epochs_rise: M28,
    m29_leader_is_member: M29,
    m30_votes_stay: M30,
    l31_lives_when_healed: L31,
}

#[test]
fn every_invariant_has_its_check_and_its_histories() {
    assert_eq!(SHOWN, Invariant::ALL);
    let checked: Vec<_> = super::all().into_iter().map(|(invariant, _)| invariant).collect();
    assert_eq!(checked, Invariant::ALL);
}
