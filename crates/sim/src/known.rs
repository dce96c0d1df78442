//! What notices each mutant. `tidelog-sim --all-mutants` looks for it afresh and prints these
//! lines, and those of the table in `docs/replication.md`; `--known-mutants` runs them.

use std::fmt::Display;

use tidelog_history::Invariant;
use tidelog_types::mutant::Mutant;

use crate::recorder::Broken;
use crate::recorder::Broken::Invariant as By;

/// The first seed that notices each, and by what. A run that panics notices, too.
pub const KNOWN: [(Mutant, u64, Broken); 29] = [
    (Mutant::AcknowledgeBeforeSync, 0, By(Invariant::P18)),
    (Mutant::CountUnsyncedLeader, 0, By(Invariant::P18)),
    (Mutant::ResumeOldEpoch, 0, By(Invariant::P20)),
    (Mutant::ForgetLeaderEpochStart, 1, By(Invariant::P18)),
    (Mutant::JoinFromOlderEpoch, 58, By(Invariant::P18)),
    (Mutant::CountCommittedIsr, 0, By(Invariant::P19)),
    (Mutant::IgnoreBrokerEpoch, 15, By(Invariant::P18)),
    (Mutant::TruncateToHighWatermark, 1, By(Invariant::P23)),
    (Mutant::StaleEpochCache, 3, By(Invariant::P21)),
    (Mutant::AnswerDuplicateEarly, 9, By(Invariant::P24)),
    (Mutant::SkipProducerRebuild, 1, By(Invariant::P25)),
    (Mutant::AdvanceUnderMinIsr, 0, By(Invariant::P18)),
    (Mutant::ServeLatestEarly, 2, By(Invariant::C8)),
    (Mutant::ReadAboveHighWatermark, 0, By(Invariant::C10)),
    (Mutant::StaleMinInsyncReplicas, 46, By(Invariant::P18)),
    (Mutant::AcceptOldMemberEpoch, 1, By(Invariant::G13)),
    (Mutant::AssignBeforeRevoked, 0, By(Invariant::G14)),
    (Mutant::ServeBeforeReplayed, 0, By(Invariant::G12)),
    (Mutant::DropEligibleLeader, 0, By(Invariant::L31)),
    (Mutant::ElectOutsideIsr, 1, By(Invariant::M29)),
    (Mutant::ForgetDoubt, 2, By(Invariant::C3)),
    (Mutant::ResendUnderNewSequence, 1, By(Invariant::C4)),
    (Mutant::DenyDoubt, 2, By(Invariant::C3)),
    (Mutant::TellBeforeReplicated, 0, By(Invariant::G12)),
    (Mutant::ForgetOwnAppends, 0, By(Invariant::G12)),
    (Mutant::ApplyWhatWasRefused, 11, By(Invariant::G12)),
    (Mutant::ForgetRefusedFetch, 1, By(Invariant::L31)),
    (Mutant::DropDeferredFetch, 0, By(Invariant::L31)),
    (Mutant::ResumeStreamSilently, 1, By(Invariant::L31)),
];

/// About what is not simulated, and where they are noticed, by these invariants: the storage of the
/// real Raft in the tests of the metadata crate, topics that are made anew under their names in the
/// random schedules of the group crate.
pub const ELSEWHERE: [(Mutant, &str, Invariant); 3] = [
    (Mutant::AnswerVoteBeforeSync, "crash test", Invariant::M30),
    (Mutant::PurgeBeforeSnapshotSync, "crash test", Invariant::M27),
    (Mutant::GoByTopicName, "random schedules", Invariant::G12),
];

/// The invariant by which a mutant must be noticed, where others notice it, too, and it is the one
/// that looks at the rule itself.
pub const fn own(mutant: Mutant) -> Option<Invariant> {
    match mutant {
        Mutant::AnswerDuplicateEarly => Some(Invariant::P24),
        Mutant::ResumeOldEpoch => Some(Invariant::P20),
        Mutant::ServeBeforeReplayed => Some(Invariant::G12),
        _ => None,
    }
}

/// Those that the simulation must notice.
pub fn simulated() -> impl Iterator<Item = Mutant> {
    let is_elsewhere = |mutant| ELSEWHERE.iter().any(|(other, ..)| *other == mutant);
    Mutant::ALL
        .into_iter()
        .filter(move |mutant| !is_elsewhere(*mutant))
}

/// A line of [`KNOWN`].
pub fn line(mutant: Mutant, seed: u64, broken: Broken) -> String {
    let by = match broken {
        Broken::Invariant(invariant) => format!("By(Invariant::{invariant})"),
        Broken::Panic => "Broken::Panic".to_owned(),
    };
    format!("    (Mutant::{mutant:?}, {seed}, {by}),")
}

/// The table in `docs/replication.md` of what was found of each.
pub fn table(found: &[(Mutant, u64, Broken)]) -> String {
    let row = |mutant: Mutant, seed: &dyn Display, by: &dyn Display| {
        let name = mutant.name().trim_start_matches("mutant:");
        format!("| {name} | {seed} | {by} |\n")
    };
    let here = found
        .iter()
        .map(|(mutant, seed, broken)| row(*mutant, seed, broken));
    let elsewhere = ELSEWHERE
        .iter()
        .map(|(mutant, place, invariant)| row(*mutant, place, invariant));
    let rows: Vec<_> = here.chain(elsewhere).collect();
    rows.concat()
}

/// Whether the documentation has the table of what is known.
pub fn is_documented() -> bool {
    include_str!("../../../docs/replication.md").contains(&format!("|\n{}\n", table(&KNOWN)))
}
