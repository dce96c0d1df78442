//! The checks, one file an invariant.

use std::time::Duration;

use crate::event::What;
use crate::invariant::Invariant;
use crate::world::World;

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
mod r16_replicas_agree;
mod r17_leaders_are_complete;
mod r18_members_are_durable;
mod r19_counts_every_member;
mod r20_one_leader;
mod r21_epochs_rise;
mod r22_high_watermark_rises;
mod r23_committed_is_kept;
mod r24_durable_when_acknowledged;
mod r25_producers_replayed;
#[cfg(test)]
mod tests;

/// An event, and its place in the history.
pub(crate) struct Moment<'a> {
    /// Its number, from 0.
    pub(crate) position: usize,
    pub(crate) at: Duration,
    pub(crate) what: &'a What,
}

/// What is wrong, where, and with which earlier event it collides.
pub(crate) type Verdict = Result<(), String>;

/// Looks at one invariant. It is asked about every event, before and after the event is part of the world, and may remember
/// what it saw.
pub(crate) trait Check: Send {
    /// Looks at an event and at the world as it was before it.
    fn before(&mut self, _moment: &Moment<'_>, _world: &World) -> Verdict {
        Ok(())
    }

    /// Looks at an event and at the world with it.
    fn after(&mut self, _moment: &Moment<'_>, _world: &World) -> Verdict {
        Ok(())
    }

    /// Looks back when the history ends, at the time of its last event.
    fn finish(&mut self, _at: Duration) -> Verdict {
        Ok(())
    }
}

/// Every check, by number.
pub(crate) fn all() -> Vec<(Invariant, Box<dyn Check>)> {
    vec![
        (Invariant::C1, Box::<c01_none_lost::NoneLost>::default()),
        (Invariant::C2, Box::<c02_one_value::OneValue>::default()),
        (Invariant::C3, Box::<c03_no_phantom::NoPhantom>::default()),
        (Invariant::C4, Box::<c04_at_most_once::AtMostOnce>::default()),
        (
            Invariant::C5,
            Box::<c05_later_is_higher::LaterIsHigher>::default(),
        ),
        (Invariant::C6, Box::<c06_send_order::SendOrder>::default()),
        (Invariant::C7, Box::<c07_no_gap::NoGap>::default()),
        (
            Invariant::C8,
            Box::<c08_end_covers_acknowledged::EndCoversAcknowledged>::default(),
        ),
        (Invariant::C9, Box::<c09_stays_readable::StaysReadable>::default()),
        (
            Invariant::C10,
            Box::<c10_below_high_watermark::BelowHighWatermark>::default(),
        ),
        (Invariant::C11, Box::<c11_within_log::WithinLog>::default()),
        (Invariant::G12, Box::<g12_commits_stay::CommitsStay>::default()),
        (
            Invariant::G13,
            Box::<g13_fenced_commits::FencedCommits>::default(),
        ),
        (Invariant::G14, Box::<g14_one_owner::OneOwner>::default()),
        (Invariant::G15, Box::<g15_all_delivered::AllDelivered>::default()),
        (
            Invariant::R16,
            Box::<r16_replicas_agree::ReplicasAgree>::default(),
        ),
        (
            Invariant::R17,
            Box::<r17_leaders_are_complete::LeadersAreComplete>::default(),
        ),
        (
            Invariant::R18,
            Box::<r18_members_are_durable::MembersAreDurable>::default(),
        ),
        (
            Invariant::R19,
            Box::<r19_counts_every_member::CountsEveryMember>::default(),
        ),
        (Invariant::R20, Box::<r20_one_leader::OneLeader>::default()),
        (Invariant::R21, Box::<r21_epochs_rise::EpochsRise>::default()),
        (
            Invariant::R22,
            Box::<r22_high_watermark_rises::HighWatermarkRises>::default(),
        ),
        (
            Invariant::R23,
            Box::<r23_committed_is_kept::CommittedIsKept>::default(),
        ),
        (
            Invariant::R24,
            Box::<r24_durable_when_acknowledged::DurableWhenAcknowledged>::default(),
        ),
        (
            Invariant::R25,
            Box::<r25_producers_replayed::ProducersReplayed>::default(),
        ),
        (Invariant::M26, Box::<m26_one_sequence::OneSequence>::default()),
        (Invariant::M27, Box::<m27_commands_stay::CommandsStay>::default()),
        (
            Invariant::M28,
            Box::<m28_epochs_rise::EpochsOfMetadataRise>::default(),
        ),
        (
            Invariant::M29,
            Box::<m29_leader_is_member::LeaderIsMember>::default(),
        ),
        (Invariant::M30, Box::<m30_votes_stay::VotesStay>::default()),
        (
            Invariant::L31,
            Box::<l31_lives_when_healed::LivesWhenHealed>::default(),
        ),
    ]
}
