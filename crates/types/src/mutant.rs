//! Rules that can be broken on purpose, by name: what the simulation must notice.
//!
//! A rule of the protocol asks [`is_on`] at the place where it stands, and a test that breaks it
//! there must fail. Without the feature `mutants` the answer is the constant `false`, and neither
//! the names nor a switch are compiled: a program that is built without it cannot break a rule.
//! `cargo xtask sim` builds the simulation with the feature apart from everything else.

/// A rule, named by how it is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Mutant {
    /// R1, P24: a replica reports as durable what it has merely written.
    AcknowledgeBeforeSync = 1,
    /// R1: the leader counts its own written end and not its durable one.
    CountUnsyncedLeader,
    /// R3: a restarted broker goes on in the leader epoch that a former life of it was given.
    ResumeOldEpoch,
    /// R4: a replica may join the ISR without having reached where the leadership began.
    ForgetLeaderEpochStart,
    /// R6, R7: a fetch of an older leader epoch counts, and lets its sender join the ISR.
    JoinFromOlderEpoch,
    /// R1, P19: the high watermark goes by the committed ISR and leaves out who is being added.
    CountCommittedIsr,
    /// R7: whether a joining replica fetched in its broker's present life is not looked at.
    IgnoreBrokerEpoch,
    /// R5: a follower truncates to its high watermark and not by epoch.
    TruncateToHighWatermark,
    /// R5, P21: the epoch cache keeps what a truncation removed.
    StaleEpochCache,
    /// R9: a duplicate is answered before the high watermark covers the original.
    AnswerDuplicateEarly,
    /// R9, P25: a truncated tail that came from disk does not cause the producers' state to be
    /// rebuilt.
    SkipProducerRebuild,
    /// R1: the high watermark moves with fewer replicas in sync than min.insync.replicas.
    AdvanceUnderMinIsr,
    /// R4: the latest offset is served before the high watermark reaches where the leadership
    /// began.
    ServeLatestEarly,
    /// R10: consumers read past the high watermark.
    ReadAboveHighWatermark,
    /// R8: a leader goes by the min.insync.replicas of an older registration.
    StaleMinInsyncReplicas,
    /// M30: a Raft vote is answered before it is on stable storage.
    AnswerVoteBeforeSync,
    /// M27: the Raft log is purged before the snapshot that replaces it is on stable storage.
    PurgeBeforeSnapshotSync,
    /// G13: a commit of an older member epoch is taken.
    AcceptOldMemberEpoch,
    /// G14: a partition goes to its new owner before the old one gave it up.
    AssignBeforeRevoked,
    /// G12: a coordinator serves before it has replayed its partition to the end.
    ServeBeforeReplayed,
    /// R8, P18: a fenced leader is dropped and does not become an eligible leader replica.
    DropEligibleLeader,
    /// R8, M29: a leader is elected from outside ISR and ELR.
    ElectOutsideIsr,
    /// G12: a request that is meant for one topic takes effect in another that has its name now.
    GoByTopicName,
    /// R9: a producer takes a batch whose attempt was lost for one that was certainly not written,
    /// and numbers it anew.
    ForgetDoubt,
    /// R9: a producer sends a batch again under another sequence.
    ResendUnderNewSequence,
    /// C3: a producer says of a batch that may have been written that it was not.
    DenyDoubt,
    /// G12: a coordinator tells what a decision leads to once its records are appended, not once
    /// they are replicated.
    TellBeforeReplicated,
    /// G12: a coordinator that loads anew in its leadership leaves out what it appended before.
    ForgetOwnAppends,
    /// G12: a coordinator takes in records that its log refused.
    ApplyWhatWasRefused,
    /// A follower's fetch that the leader refused is never sent again.
    ForgetRefusedFetch,
    /// A fetch that must wait for the disk is dropped.
    DropDeferredFetch,
    /// A follower fetches on a new stream only what it did not fetch on the one before.
    ResumeStreamSilently,
}

/// Whether that rule is broken in what this thread does.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
#[expect(
    clippy::inline_always,
    reason = "the constant must fold where the rule stands"
)]
pub const fn is_on(_mutant: Mutant) -> bool {
    false
}

#[cfg(feature = "mutants")]
pub use switched::{is_on, switch_everywhere, switch_here};

#[cfg(feature = "mutants")]
mod switched {
    use std::cell::Cell;
    use std::sync::atomic::{AtomicU8, Ordering};

    use super::Mutant;

    thread_local! {
        static HERE: Cell<Option<Mutant>> = const { Cell::new(None) };
    }
    /// 0 for none.
    static EVERYWHERE: AtomicU8 = AtomicU8::new(0);

    /// Whether that rule is broken in what this thread does.
    pub fn is_on(mutant: Mutant) -> bool {
        HERE.get() == Some(mutant) || EVERYWHERE.load(Ordering::Relaxed) == mutant as u8
    }

    /// Breaks one rule, or none, in what this thread does from here on.
    pub fn switch_here(mutant: Option<Mutant>) {
        HERE.set(mutant);
    }

    /// Breaks one rule in what every thread of this process does.
    pub fn switch_everywhere(mutant: Mutant) {
        EVERYWHERE.store(mutant as u8, Ordering::Relaxed);
    }

    impl Mutant {
        /// Every one of them.
        pub const ALL: [Self; 32] = [
            Self::AcknowledgeBeforeSync,
            Self::CountUnsyncedLeader,
            Self::ResumeOldEpoch,
            Self::ForgetLeaderEpochStart,
            Self::JoinFromOlderEpoch,
            Self::CountCommittedIsr,
            Self::IgnoreBrokerEpoch,
            Self::TruncateToHighWatermark,
            Self::StaleEpochCache,
            Self::AnswerDuplicateEarly,
            Self::SkipProducerRebuild,
            Self::AdvanceUnderMinIsr,
            Self::ServeLatestEarly,
            Self::ReadAboveHighWatermark,
            Self::StaleMinInsyncReplicas,
            Self::AnswerVoteBeforeSync,
            Self::PurgeBeforeSnapshotSync,
            Self::AcceptOldMemberEpoch,
            Self::AssignBeforeRevoked,
            Self::ServeBeforeReplayed,
            Self::DropEligibleLeader,
            Self::ElectOutsideIsr,
            Self::GoByTopicName,
            Self::ForgetDoubt,
            Self::ResendUnderNewSequence,
            Self::DenyDoubt,
            Self::TellBeforeReplicated,
            Self::ForgetOwnAppends,
            Self::ApplyWhatWasRefused,
            Self::ForgetRefusedFetch,
            Self::DropDeferredFetch,
            Self::ResumeStreamSilently,
        ];

        /// Its name on a command line. The prefix is what a program that was built without mutants
        /// is searched for.
        pub const fn name(self) -> &'static str {
            match self {
                Self::AcknowledgeBeforeSync => "mutant:acknowledge-before-sync",
                Self::CountUnsyncedLeader => "mutant:count-unsynced-leader",
                Self::ResumeOldEpoch => "mutant:resume-old-epoch",
                Self::ForgetLeaderEpochStart => "mutant:forget-leader-epoch-start",
                Self::JoinFromOlderEpoch => "mutant:join-from-older-epoch",
                Self::CountCommittedIsr => "mutant:count-committed-isr",
                Self::IgnoreBrokerEpoch => "mutant:ignore-broker-epoch",
                Self::TruncateToHighWatermark => "mutant:truncate-to-high-watermark",
                Self::StaleEpochCache => "mutant:stale-epoch-cache",
                Self::AnswerDuplicateEarly => "mutant:answer-duplicate-early",
                Self::SkipProducerRebuild => "mutant:skip-producer-rebuild",
                Self::AdvanceUnderMinIsr => "mutant:advance-under-min-isr",
                Self::ServeLatestEarly => "mutant:serve-latest-early",
                Self::ReadAboveHighWatermark => "mutant:read-above-high-watermark",
                Self::StaleMinInsyncReplicas => "mutant:stale-min-insync-replicas",
                Self::AnswerVoteBeforeSync => "mutant:answer-vote-before-sync",
                Self::PurgeBeforeSnapshotSync => "mutant:purge-before-snapshot-sync",
                Self::AcceptOldMemberEpoch => "mutant:accept-old-member-epoch",
                Self::AssignBeforeRevoked => "mutant:assign-before-revoked",
                Self::ServeBeforeReplayed => "mutant:serve-before-replayed",
                Self::DropEligibleLeader => "mutant:drop-eligible-leader",
                Self::ElectOutsideIsr => "mutant:elect-outside-isr",
                Self::GoByTopicName => "mutant:go-by-topic-name",
                Self::ForgetDoubt => "mutant:forget-doubt",
                Self::ResendUnderNewSequence => "mutant:resend-under-new-sequence",
                Self::DenyDoubt => "mutant:deny-doubt",
                Self::TellBeforeReplicated => "mutant:tell-before-replicated",
                Self::ForgetOwnAppends => "mutant:forget-own-appends",
                Self::ApplyWhatWasRefused => "mutant:apply-what-was-refused",
                Self::ForgetRefusedFetch => "mutant:forget-refused-fetch",
                Self::DropDeferredFetch => "mutant:drop-deferred-fetch",
                Self::ResumeStreamSilently => "mutant:resume-stream-silently",
            }
        }

        /// The one of that name, with or without its prefix.
        pub fn by_name(name: &str) -> Option<Self> {
            let bare = |name: &str| name.trim_start_matches("mutant:").to_owned();
            Self::ALL
                .into_iter()
                .find(|mutant| bare(mutant.name()) == bare(name))
        }
    }
}
