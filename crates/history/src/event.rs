//! The vocabulary of a history: what clients saw, what members of groups saw, and, in a simulation,
//! what happened inside of brokers.
//!
//! A history is a list of [`Event`]s in the order in which they happened. Clients' events are known
//! of real clusters too; those of replicas and of metadata only where somebody can look inside. An
//! invariant whose events are missing holds vacuously.

use std::sync::Arc;
use std::time::Duration;

use tidelog_types::{
    BrokerEpoch, BrokerId, DirectoryId, EpochEntry, LeaderEpoch, Offset, PartitionRegistration,
    ProducerStamp, ProducerState, TopicId, TopicIdPartition,
};

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When, since the run began.
    pub at: Duration,
    pub what: What,
}

/// The identity of a record as its sender made it: no two records that were sent share one, however
/// often each is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Value(pub u64);

/// A producer of the workload (not a producer id: that may change while it lives).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sender(pub u32);

/// One send: a batch for one partition, with all of its retries. Numbers rise in the order in which
/// a sender sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SendId(pub u64);

/// A reader of the workload. One that starts anew, from wherever, is another reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reader(pub u32);

/// A request whose answer is a later event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Request(pub u64);

/// A group or a member, by name.
pub type Name = Arc<str>;

/// One life of a broker's process: rises by every start, over all brokers of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Life(pub u32);

/// A batch as it stands in a replica's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its first offset.
    pub base_offset: Offset,
    /// The epoch of the leader that appended it.
    pub leader_epoch: LeaderEpoch,
    /// Its records, one an offset.
    pub values: Vec<Value>,
    /// Who produced it, if idempotently.
    pub producer: Option<ProducerStamp>,
}

impl Entry {
    /// The offset after its last record.
    pub fn end_offset(&self) -> Offset {
        self.base_offset + self.values.len() as u64
    }
}

/// A record that a reader was handed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadRecord {
    /// Where it stands.
    pub offset: Offset,
    /// Which it is.
    pub value: Value,
}

/// What a partition owes its clients once the cluster is healed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owed {
    pub partition: TopicIdPartition,
    /// An ISR or ELR member lives: it must be read.
    pub reads: bool,
    /// Enough replicas live: it must be written.
    pub writes: bool,
}

/// What became of a commit, as its sender knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitResult {
    /// It was acknowledged.
    Acknowledged,
    /// It was refused, and did not happen.
    Refused,
    /// Nobody knows: it may have happened, or happen yet.
    Unknown,
}

/// The kinds of events, with their details.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    // ---- producers
    /// A sender sends a batch for the first time. Its retries are no events.
    SendBegan {
        sender: Sender,
        send: SendId,
        partition: TopicIdPartition,
        /// The records, in order.
        values: Vec<Value>,
        /// Whether it is stored at most once (C4) and in the order of this sender's sends (C6).
        idempotent: bool,
    },
    /// The sender learned that it is stored (`acks=all`).
    SendAcknowledged {
        send: SendId,
        /// Where its first record stands.
        base_offset: Offset,
        /// In which epoch the leader answered.
        leader_epoch: LeaderEpoch,
    },
    /// The sender learned that no attempt of it was appended, and gave it up.
    SendRefused { send: SendId },
    /// The sender gave it up without knowing. It may be stored, or be stored yet.
    SendUnknown { send: SendId },

    // ---- readers
    /// A reader asks where the log ends for consumers.
    EndAsked {
        request: Request,
        /// Of which partition.
        partition: TopicIdPartition,
        /// The leader epoch that the reader carries (R6).
        leader_epoch: Option<LeaderEpoch>,
    },
    /// The answer to [`What::EndAsked`].
    EndAnswered {
        request: Request,
        /// The high watermark.
        offset: Offset,
        /// Of which epoch.
        leader_epoch: LeaderEpoch,
    },
    /// A reader was handed the records of a range of offsets.
    Read {
        reader: Reader,
        /// Of which partition.
        partition: TopicIdPartition,
        /// The first offset asked for.
        from: Offset,
        /// The offset to read on from: the answer says of everything below it what is there.
        next: Offset,
        /// What is there.
        records: Vec<ReadRecord>,
        /// The log start offset: the answer's, or a higher one that the reader was told before.
        /// Records below it are gone by right.
        log_start: Offset,
    },
    /// After healing, a reader read the partition from its start to its end: this is all of it.
    ReadToEnd {
        partition: TopicIdPartition,
        /// The log start offset.
        log_start: Offset,
        /// The offset after the last record.
        end: Offset,
        /// All records, in offset order.
        records: Vec<ReadRecord>,
    },

    // ---- groups
    // ----------------------------------------------------------------------------------------------------
    /// A commit is sent, or the deletion of a group: each of its partitions is an event. The
    /// requests of one history rise in the order in which they are sent.
    CommitBegan {
        request: Request,
        /// The group that commits, or is deleted.
        group: Name,
        /// The partition whose offset changes.
        partition: TopicIdPartition,
        /// The offset; `None` if the group is deleted and with it what it committed.
        offset: Option<Offset>,
    },
    /// What the sender of [`What::CommitBegan`] learned.
    CommitEnded {
        request: Request,
        /// What became of it.
        result: CommitResult,
    },
    /// A coordinator took a commit (its record is in the log), whatever becomes of it.
    CommitTaken {
        /// For which group.
        group: Name,
        /// By which member, in which member epoch; `None` for a consumer that is no member.
        member: Option<(Name, u32)>,
        /// The epoch that the coordinator had given the member; `None` if it had no such member.
        held: Option<u32>,
    },
    /// Somebody asks for a group's committed offset.
    OffsetAsked {
        request: Request,
        /// Of which group.
        group: Name,
        /// Of which partition.
        partition: TopicIdPartition,
    },
    /// The answer to [`What::OffsetAsked`].
    OffsetAnswered {
        request: Request,
        /// What is committed.
        offset: Option<Offset>,
    },
    /// A member got an assignment and takes its partitions on.
    Assigned {
        /// Of which group.
        group: Name,
        member: Name,
        /// What it did not own before.
        partitions: Vec<TopicIdPartition>,
    },
    /// A member gave partitions up, and is about to say so.
    GaveUp {
        /// Of which group.
        group: Name,
        member: Name,
        /// What it owns no longer.
        partitions: Vec<TopicIdPartition>,
    },
    /// A coordinator took a member in, or let it start over owning nothing, and that is replicated.
    /// Of members of one group, this and [`What::MemberRemoved`] stand in the order of the
    /// coordinators' log.
    MemberJoined {
        /// Of which group.
        group: Name,
        member: Name,
    },
    /// A member is no more: it left, its process died, or it learned that it was removed.
    MemberEnded {
        /// Of which group.
        group: Name,
        member: Name,
    },
    /// A coordinator removed a member for its silence, or for not saying in time what it gave up,
    /// and that is replicated. One that left is not removed.
    MemberRemoved {
        /// Of which group.
        group: Name,
        member: Name,
    },
    /// A record was handed to a group's member.
    Delivered {
        group: Name,
        /// Of which partition.
        partition: TopicIdPartition,
        offset: Offset,
    },
    /// After healing and with every member idle: the group owes nothing more.
    GroupSettled {
        group: Name,
        /// What it is subscribed to.
        partitions: Vec<TopicIdPartition>,
    },

    // ---- inside replicas
    /// A process of a broker came up with this on its disk.
    Recovered {
        broker: BrokerId,
        /// Of which partition.
        partition: TopicIdPartition,
        /// The first readable offset.
        log_start: Offset,
        /// Everything in its log, oldest first. All of it is on stable storage.
        log: Vec<Arc<Entry>>,
    },
    /// A broker's process died. What was not synced may be gone.
    Crashed { broker: BrokerId },
    /// A broker's disk is gone, with everything on it.
    DiskLost {
        broker: BrokerId,
        /// The Raft node that its directory was.
        node: u64,
    },
    /// A replica leads from now on.
    Leads {
        broker: BrokerId,
        /// Which life of it.
        life: Life,
        /// Of which partition.
        partition: TopicIdPartition,
        /// In which epoch.
        epoch: LeaderEpoch,
    },
    /// A batch was put at the end of a replica's log, by its leader or from its leader.
    Appended {
        broker: BrokerId,
        /// Of which partition.
        partition: TopicIdPartition,
        entry: Arc<Entry>,
        /// Whether it did so as a leader.
        leading: bool,
    },
    /// A replica's log is on stable storage up to there: the disk's word, not the replica's.
    Durable {
        broker: BrokerId,
        /// Of which partition.
        partition: TopicIdPartition,
        /// Up to where.
        end: Offset,
    },
    /// A replica removed its log's tail.
    Truncated {
        broker: BrokerId,
        /// Of which partition.
        partition: TopicIdPartition,
        /// The new log end.
        to: Offset,
    },
    /// A replica's log begins later from now on. Past its end, the log is empty and goes on there.
    Trimmed {
        broker: BrokerId,
        /// Of which partition.
        partition: TopicIdPartition,
        /// The new log start.
        log_start: Offset,
    },
    /// A replica's high watermark moved; or a process read from its disk, right after
    /// [`What::Recovered`], which one it had noted.
    HighWatermark {
        broker: BrokerId,
        /// Of which partition.
        partition: TopicIdPartition,
        /// The epoch that the replica is in.
        epoch: LeaderEpoch,
        to: Offset,
        /// Whether it leads.
        leading: bool,
    },
    /// The members that a leader waits for changed.
    Counts {
        broker: BrokerId,
        /// Of which partition.
        partition: TopicIdPartition,
        /// In which epoch.
        epoch: LeaderEpoch,
        /// The maximal ISR.
        members: Vec<BrokerId>,
    },
    /// A leader answers an `acks=all` produce that everything of the batch is stored, a duplicate's
    /// too.
    Acknowledges {
        broker: BrokerId,
        /// Of which partition.
        partition: TopicIdPartition,
        /// Where the leader says that the batch's first record stands.
        base_offset: Offset,
        /// The records that it was asked to store, as their sender sent them.
        values: Vec<Value>,
    },
    /// A leader hands records out to consumers.
    Serves {
        broker: BrokerId,
        /// Of which partition.
        partition: TopicIdPartition,
        /// The offset after the last record.
        until: Offset,
    },
    /// A leader tells a client an offset: a log start, a high watermark, one by time.
    TellsOffset {
        broker: BrokerId,
        /// Of which partition.
        partition: TopicIdPartition,
        offset: Offset,
    },
    /// What a replica has derived from its log at this moment.
    Derived {
        broker: BrokerId,
        /// Of which partition.
        partition: TopicIdPartition,
        /// Its leader-epoch cache.
        epochs: Vec<EpochEntry>,
        /// Its idempotent producers, by id.
        producers: Vec<ProducerState>,
    },

    // ---- metadata
    /// A command was committed that made or changed a partition.
    Registered {
        partition: TopicIdPartition,
        /// As it is from here on.
        registration: PartitionRegistration,
    },
    /// An operator set whether a topic would rather have a leader that may lack acknowledged
    /// records than none. Until then it would not.
    UncleanElection {
        topic: TopicId,
        /// Whether it would.
        allowed: bool,
    },
    /// A command was committed that registered a broker.
    BrokerRegistered {
        broker: BrokerId,
        /// Its new epoch.
        epoch: BrokerEpoch,
        /// Its data directory.
        directory: DirectoryId,
    },
    /// A broker applied an entry of the metadata log.
    Applied {
        broker: BrokerId,
        /// Where in the log.
        index: u64,
        /// A digest of the command.
        command: u64,
        /// A digest of everything that the broker knows after it, however it came to know it: from
        /// a snapshot, or command by command.
        state: u64,
    },
    /// A proposer was told that its command is committed.
    CommandAcknowledged {
        /// Where in the log.
        index: u64,
        /// A digest of the command.
        command: u64,
    },
    /// A Raft node answered a vote request with yes.
    Voted {
        node: u64,
        /// In which term.
        term: u64,
        candidate: u64,
    },

    // ---- the run
    /// Faults are over: from here on the cluster must live (L31).
    Healed {
        /// What it owes.
        owed: Vec<Owed>,
    },
    /// The brokers that are up at the end, after everything settled.
    Ended { up: Vec<BrokerId> },
}
