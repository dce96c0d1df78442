//! The checks, one file an invariant.

use std::time::Duration;

use crate::invariant::Invariant;
use crate::world::{Moment, Verdict, World};

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
#[cfg(test)]
mod tests;

/// Looks at one invariant. It is asked about every event, before and after the event is part of the
/// world, and may remember what it saw.
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

macro_rules! checks {
    ($($invariant:ident: $file:ident::$check:ident,)*) => {
        /// Every check, by number.
        pub(crate) fn all() -> Vec<(Invariant, Box<dyn Check>)> {
            vec![$((Invariant::$invariant, Box::<$file::$check>::default()),)*]
        }
    };
}

checks! {
    C1: c01_none_lost::NoneLost,
    C2: c02_one_value::OneValue,
    C3: c03_no_phantom::NoPhantom,
    C4: c04_at_most_once::AtMostOnce,
    C5: c05_later_is_higher::LaterIsHigher,
    C6: c06_send_order::SendOrder,
    C7: c07_no_gap::NoGap,
    C8: c08_end_covers_acknowledged::EndCoversAcknowledged,
    C9: c09_stays_readable::StaysReadable,
    C10: c10_below_high_watermark::BelowHighWatermark,
    C11: c11_within_log::WithinLog,
    G12: g12_commits_stay::CommitsStay,
    G13: g13_fenced_commits::FencedCommits,
    G14: g14_one_owner::OneOwner,
    G15: g15_all_delivered::AllDelivered,
    P16: p16_replicas_agree::ReplicasAgree,
    P17: p17_leaders_are_complete::LeadersAreComplete,
    P18: p18_members_are_durable::MembersAreDurable,
    P19: p19_counts_every_member::CountsEveryMember,
    P20: p20_one_leader::OneLeader,
    P21: p21_epochs_rise::EpochsRise,
    P22: p22_high_watermark_rises::HighWatermarkRises,
    P23: p23_committed_is_kept::CommittedIsKept,
    P24: p24_durable_when_acknowledged::DurableWhenAcknowledged,
    P25: p25_producers_replayed::ProducersReplayed,
    M26: m26_one_sequence::OneSequence,
    M27: m27_commands_stay::CommandsStay,
    M28: m28_epochs_rise::EpochsOfMetadataRise,
    M29: m29_leader_is_member::LeaderIsMember,
    M30: m30_votes_stay::VotesStay,
    L31: l31_lives_when_healed::LivesWhenHealed,
}
