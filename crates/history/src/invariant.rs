//! The invariants, by the numbers that documents, code and tests cite.

use std::fmt;

macro_rules! invariants {
    ($($name:ident: $statement:literal,)*) => {
        /// One promise. `C` is seen by clients, `G` by groups, `P` in the replicas of partitions,
        /// `M` in metadata, `L` is liveness.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Invariant {
            $(#[doc = $statement] $name,)*
        }

        impl Invariant {
            /// Every one of them, by number.
            pub const ALL: [Self; 31] = [$(Self::$name,)*];

            /// What is promised, in one line.
            pub const fn statement(self) -> &'static str {
                match self {
                    $(Self::$name => $statement,)*
                }
            }

            /// Its letter and number.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }
        }
    };
}

invariants! {
    C1: "every acknowledged record is read by a reader that reads to the end after healing (none lost)",
    C2: "an offset has one value for ever, on every replica and every read",
    C3: "no record is read that was never sent (no phantom)",
    C4: "an idempotent producer's record stands at most once, whatever was retried, across leader changes",
    C5: "a send begun after another's acknowledgement, same partition, gets the higher offset",
    C6: "one producer's records to a partition stand in send order",
    C7: "a reader's successive offsets rise, with no unexplained gap",
    C8: "a read to the end begun after an acknowledgement, by a reader that carries its leader epoch, sees that record",
    C9: "what was once read stays readable (retention aside)",
    C10: "nothing above the high watermark is handed to a consumer",
    C11: "every offset handed out lies between log start and log end",
    G12: "an acknowledged commit is what a later fetch of offsets answers; it never goes back by itself",
    G13: "a fenced or removed member's commit is refused",
    G14: "no partition has two owners in one generation; none goes to a new owner before the old one revoked or was removed for silence",
    G15: "after everything settles, every record was delivered to the group at least once",
    P16: "below the high watermark all replicas are byte-identical (compacted topics: in what is left)",
    P17: "a new leader's log holds everything acknowledged before",
    P18: "every ISR and ELR member's durable end ≥ high watermark (a lost disk: from its new registration on it is no member)",
    P19: "the maximal ISR the leader counts ⊇ the committed ISR",
    P20: "at most one leader appends in one epoch",
    P21: "epochs in a log never fall; the epoch cache equals a scan of the log",
    P22: "a leader's high watermark never falls while it leads",
    P23: "nothing below the high watermark is ever truncated",
    P24: "at the acknowledgement the record was durable on ≥ min.insync.replicas",
    P25: "producer state equals a replay of the log",
    M26: "brokers apply one sequence of metadata commands; state after index i is the same everywhere",
    M27: "no acknowledged metadata command is lost, across restarts, snapshots and membership changes",
    M28: "partition and leader epochs rise by every change; broker epochs are unique",
    M29: "a leader is a member of the ISR (or ELR when elected from it)",
    M30: "a vote once given is never forgotten; an emptied disk never votes as the node it was",
    L31: "once a majority is healed, every partition with a live ISR or ELR member is read within 30 s, and written if enough replicas live",
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
