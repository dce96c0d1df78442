//! One partition replica: its role, its log, its inputs.

use std::cmp::Ordering;
use std::time::Duration;

use tidelog_types::mutant::{self, Mutant};
use tidelog_types::{
    BrokerId, ErrorCode, LeaderEpoch, Offset, PartitionEpoch, PartitionError, ProducerState,
};

use crate::effect::{Effect, LostProduces};
use crate::fetched::{Fetched, LogRange};
use crate::follower::Follower;
use crate::isr::{IsrChangeOutcome, IsrProposal};
use crate::leader::Leader;
use crate::link::{Ask, Standing};
use crate::log::{LogState, ReplicaLog};
use crate::messages::{
    AppendRequest, Appended, Assignment, ConsumerRead, FetchPosition, FetchedFromLeader, FollowerDurable,
    FollowerFetch, InvalidFetch, NewBatch, Progress, TakenFromLeader,
};
use crate::offline::{Idle, Offline};
use crate::producers::SequenceCheck;

/// The times a replica goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// How long a follower may lag before it leaves the ISR (replica.lag.time.max).
    pub lag_time_max: Duration,
    /// When an ISR proposal is repeated after no answer, or another one made after a refusal.
    pub isr_retry: Duration,
    /// How long an idle producer is remembered (producer.id.expiration).
    pub producer_expiration: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            lag_time_max: Duration::from_secs(10),
            isr_retry: Duration::from_millis(500),
            producer_expiration: Duration::from_hours(24),
        }
    }
}

/// One partition replica. See the crate's page for how its methods belong together.
///
/// The driver calls them one at a time and performs the effects of each call in order before those
/// of the next. What a call tells to write (a [`Appended::New`], a [`TakenFromLeader`]) is enqueued
/// before that call's effects are performed.
#[derive(Debug, Clone)]
pub struct Replica {
    local: BrokerId,
    settings: Settings,
    log: ReplicaLog,
    role: Role,
}

#[derive(Debug, Clone)]
enum Role {
    Leader(Leader),
    Follower(Follower),
    Offline(Offline),
}

/// What an operator sees of a replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionStatus {
    /// Whether it leads.
    pub is_leader: bool,
    /// The leader it knows of, itself included, and the epoch.
    pub leader: Option<BrokerId>,
    /// The newest leader epoch it acted upon.
    pub leader_epoch: LeaderEpoch,
    /// The first readable offset.
    pub log_start: Offset,
    /// Up to where consumers read.
    pub high_watermark: Offset,
    /// Up to where everything is on stable storage here.
    pub durable_end: Offset,
    /// The offset that the next record gets.
    pub log_end: Offset,
    /// On a leader, the committed ISR; else empty.
    pub isr: Vec<BrokerId>,
    /// On a leader, how far each follower's stable storage is; `None` until it fetched in this
    /// epoch.
    pub followers: Vec<(BrokerId, Option<Offset>)>,
    /// On a leader, whether the committed ISR is smaller than min.insync.replicas.
    pub under_min_isr: bool,
    /// On a leader, whether a replica is out of the ISR.
    pub under_replicated: bool,
}

impl Replica {
    /// A replica on a recovered log, offline until metadata assigns it.
    pub fn new(local: BrokerId, log: LogState, settings: Settings, now: Duration) -> Self {
        let offline = Offline {
            reason: Idle::New,
            leader: None,
            leader_epoch: LeaderEpoch(0),
        };
        Self {
            local,
            settings,
            log: ReplicaLog::recovered(log, now),
            role: Role::Offline(offline),
        }
    }

    /// The log.
    pub fn log(&self) -> &ReplicaLog {
        &self.log
    }

    /// Whether it leads.
    pub fn is_leader(&self) -> bool {
        matches!(self.role, Role::Leader(_))
    }

    /// Where the log ended when this leadership began, on a leader (R4).
    pub fn leader_start_offset(&self) -> Option<Offset> {
        match &self.role {
            Role::Leader(leader) => Some(leader.start_offset),
            Role::Follower(_) | Role::Offline(_) => None,
        }
    }

    /// The leader it knows of and its epoch.
    pub fn leader(&self) -> (Option<BrokerId>, LeaderEpoch) {
        match &self.role {
            Role::Leader(leader) => (Some(self.local), leader.epoch),
            Role::Follower(follower) => (Some(follower.leader), follower.epoch),
            Role::Offline(offline) => (offline.leader, offline.leader_epoch),
        }
    }

    /// Acts upon a registration: leads, follows or idles from now on, or takes a new ISR. An older
    /// one than the last changes nothing.
    pub fn apply(&mut self, assignment: &Assignment<'_>, now: Duration) -> Vec<Effect> {
        let mut effects = Vec::new();
        let registration = assignment.registration;
        let epoch = registration.leader_epoch;
        if epoch < self.leader().1 {
            return effects;
        }
        if assignment.metadata_index < assignment.broker_epoch.0 {
            // R3: the image is of a time before this broker registered.
            self.idle(Idle::NotRegistered, None, epoch, &mut effects);
            return effects;
        }
        match registration.leader {
            _ if !registration.replicas.contains(&self.local) => {
                self.idle(Idle::NotReplica, registration.leader, epoch, &mut effects);
            }
            None => self.idle(Idle::NoLeader, None, epoch, &mut effects),
            Some(leader) if leader == self.local => self.lead(assignment, now, &mut effects),
            Some(leader) => self.follow(leader, epoch, registration.partition_epoch, &mut effects),
        }
        effects
    }

    /// Appends a client's batch: gives it its place, or finds it there already.
    pub fn append(&mut self, request: &AppendRequest, now: Duration) -> Result<Appended, PartitionError> {
        self.check_epoch(request.leader_epoch)?;
        let result = match &mut self.role {
            Role::Leader(leader) => leader.append(&mut self.log, request, now),
            Role::Follower(_) | Role::Offline(_) => return Err(self.not_leader()),
        };
        result.map_err(refusal)
    }

    /// Whether this leader has the batch already (R9). Whoever is about to refuse an append for
    /// reasons of their own asks first: a refusal says that nothing was appended.
    pub fn is_duplicate(&self, batch: &NewBatch) -> bool {
        let check = |stamp| self.log.producers.check(stamp, batch.offset_count);
        self.is_leader() && matches!(batch.producer.map(check), Some(SequenceCheck::Duplicate(_)))
    }

    /// The log is written up to `end`.
    pub fn written(&mut self, end: Offset) -> Vec<Effect> {
        if self.log.written(end) {
            vec![Effect::Written(self.log.written_end)]
        } else {
            Vec::new()
        }
    }

    /// The log is on this broker's stable storage up to `end`.
    pub fn durable(&mut self, end: Offset, now: Duration) -> Vec<Effect> {
        let was_cutting = self.log.end_cut(end);
        let moved = self.log.durable(end);
        let mut effects = Vec::new();
        if moved {
            effects.push(Effect::Durable(self.log.durable_end));
        }
        match &mut self.role {
            Role::Leader(leader) if moved => leader.advance(&mut self.log, &mut effects),
            Role::Follower(follower) if moved || was_cutting => {
                follower.settle(&mut self.log, now, &mut effects);
                if moved {
                    follower.tell_again(&self.log, &mut effects);
                }
            }
            Role::Leader(_) | Role::Follower(_) | Role::Offline(_) => {}
        }
        effects
    }

    /// Answers a follower's fetch.
    pub fn follower_fetch(
        &mut self,
        fetch: &FollowerFetch,
        now: Duration,
    ) -> Result<(Fetched<LogRange>, Vec<Effect>), PartitionError> {
        self.check_follower_epoch(fetch.leader_epoch)?;
        let mut effects = Vec::new();
        let result = match &mut self.role {
            Role::Leader(leader) => leader.fetch(&mut self.log, fetch, now, &mut effects),
            Role::Follower(_) | Role::Offline(_) => return Err(self.not_leader()),
        };
        match result {
            Ok(answer) => Ok((answer, effects)),
            Err(code) => Err(refusal(code)),
        }
    }

    /// Takes note of a follower's stable storage.
    pub fn follower_durable(
        &mut self,
        durable: &FollowerDurable,
        now: Duration,
    ) -> Result<Vec<Effect>, PartitionError> {
        self.check_follower_epoch(durable.leader_epoch)?;
        let mut effects = Vec::new();
        let result = match &mut self.role {
            Role::Leader(leader) => leader.follower_durable(&mut self.log, durable, now, &mut effects),
            Role::Follower(_) | Role::Offline(_) => return Err(self.not_leader()),
        };
        match result {
            Ok(()) => Ok(effects),
            Err(code) => Err(refusal(code)),
        }
    }

    /// What to fetch next, on a follower; nothing while a truncation waits ([`Effect::FetchAgain`]
    /// ends that).
    pub fn next_fetch(&self) -> Option<FetchPosition> {
        match &self.role {
            Role::Follower(follower) => follower.next_fetch(&self.log),
            Role::Leader(_) | Role::Offline(_) => None,
        }
    }

    /// What to tell the leader of this log's stable storage apart from a fetch: nothing before the
    /// leader showed in this epoch that the log is a prefix of its own. What is told from then on
    /// stays true however late it arrives, since nothing is cut off any more.
    pub fn durable_report(&self) -> Option<FetchPosition> {
        match &self.role {
            Role::Follower(follower) if follower.is_prefix() => follower.next_fetch(&self.log),
            Role::Follower(_) | Role::Leader(_) | Role::Offline(_) => None,
        }
    }

    /// Whom it follows.
    pub fn follows(&self) -> Option<BrokerId> {
        self.leader().0.filter(|_| !self.is_leader())
    }

    /// What it replies when the stream to its leader asks it.
    pub fn standing(&self, ask: Ask) -> Standing {
        Standing {
            follows: self.follows(),
            fetch: self.next_fetch().filter(|_| ask.fetch),
            durable: self.durable_report().filter(|_| ask.durable),
        }
    }

    /// On a leader: how far it is, for followers that are sent no batches.
    pub fn progress(&self) -> Option<Progress> {
        self.is_leader().then(|| Progress {
            leader_epoch: self.leader().1,
            high_watermark: self.log.high_watermark(),
            log_start: self.log.log_start(),
        })
    }

    /// Takes a leader's answer, all of it or nothing.
    pub fn fetched(&mut self, fetched: FetchedFromLeader<'_>) -> Result<TakenFromLeader, InvalidFetch> {
        match &mut self.role {
            Role::Follower(follower) => {
                let mut taken = follower.fetched(&mut self.log, fetched)?;
                taken.may_fetch_on =
                    follower.next_fetch(&self.log).is_some() && !taken.effects.contains(&Effect::FetchAgain);
                Ok(taken)
            }
            Role::Leader(_) | Role::Offline(_) => Err(InvalidFetch::Stale {
                answered: fetched.leader_epoch,
            }),
        }
    }

    /// Takes the producers that a scan of the log up to `until` found, as
    /// [`Effect::RebuildProducers`] asked for.
    pub fn producers_rebuilt(
        &mut self,
        until: Offset,
        states: Vec<ProducerState>,
        now: Duration,
    ) -> Vec<Effect> {
        let mut effects = Vec::new();
        if let Role::Follower(follower) = &mut self.role {
            follower.producers_rebuilt(until, states);
            follower.settle(&mut self.log, now, &mut effects);
        }
        effects
    }

    /// Takes what became of an ISR proposal.
    pub fn isr_changed(
        &mut self,
        proposal: &IsrProposal,
        outcome: &IsrChangeOutcome,
        now: Duration,
    ) -> Vec<Effect> {
        let mut effects = Vec::new();
        if let Role::Leader(leader) = &mut self.role {
            let retry = (now, self.settings.isr_retry);
            leader.isr_changed(&mut self.log, proposal, outcome, retry, &mut effects);
        }
        effects
    }

    /// Looks after the ISR as time passes. `heard` says when a broker last gave a sign of life.
    pub fn tick(&mut self, now: Duration, heard: &dyn Fn(BrokerId) -> Duration) -> Vec<Effect> {
        let mut effects = Vec::new();
        if let Role::Leader(leader) = &mut self.role {
            leader.tick(&self.log, now, self.settings.lag_time_max, heard, &mut effects);
        }
        effects
    }

    /// Whether [`Replica::tick`] has something to look after.
    pub fn needs_tick(&self) -> bool {
        match &self.role {
            Role::Leader(leader) => leader.needs_tick(&self.log),
            Role::Follower(_) | Role::Offline(_) => false,
        }
    }

    /// Forgets producers that were idle for too long (R9).
    pub fn expire_producers(&mut self, now: Duration) -> Vec<Effect> {
        let forgotten = self.log.producers.expire(now, self.settings.producer_expiration);
        if forgotten.is_empty() {
            return Vec::new();
        }
        vec![Effect::Truncate {
            to: self.log.log_end,
            producers: Vec::new(),
            forgotten,
        }]
    }

    /// Where a consumer may read (R6, R10).
    pub fn consumer_read(
        &self,
        leader_epoch: Option<LeaderEpoch>,
        from: Offset,
    ) -> Result<ConsumerRead, PartitionError> {
        let leader = self.leader_for(leader_epoch)?;
        let log = &self.log;
        if from < log.log_start || from > log.log_end {
            let message = format!(
                "offset {from} is out of range: the log has {} to {}",
                log.log_start, log.log_end
            );
            return Err(PartitionError::new(ErrorCode::OffsetOutOfRange, message));
        }
        Ok(ConsumerRead {
            from,
            until: if mutant::is_on(Mutant::ReadAboveHighWatermark) {
                log.written_end
            } else {
                log.high_watermark
            },
            log_start: log.log_start,
            leader_epoch: leader.epoch,
        })
    }

    /// The log start offset, and the epoch of the answer.
    pub fn earliest_offset(
        &self,
        leader_epoch: Option<LeaderEpoch>,
    ) -> Result<(Offset, LeaderEpoch), PartitionError> {
        let leader = self.leader_for(leader_epoch)?;
        Ok((self.log.log_start, leader.epoch))
    }

    /// The high watermark, once it covers everything that was acknowledged before this leadership
    /// (R4), and the epoch of the answer.
    pub fn latest_offset(
        &self,
        leader_epoch: Option<LeaderEpoch>,
    ) -> Result<(Offset, LeaderEpoch), PartitionError> {
        let leader = self.leader_for(leader_epoch)?;
        if self.log.high_watermark < leader.start_offset && !mutant::is_on(Mutant::ServeLatestEarly) {
            let message = "the new leader does not know yet what is committed; ask again";
            return Err(PartitionError::new(ErrorCode::OffsetNotAvailable, message));
        }
        Ok((self.log.high_watermark, leader.epoch))
    }

    /// Moves the log start of a leader's log, at most to the high watermark (trim, retention).
    /// Followers hear of it when they fetch.
    ///
    /// The new log start is where a batch begins, or the high watermark: the driver takes any other
    /// wish down to the first offset of the batch that holds it. A store appends whole batches
    /// where its log ends, so a follower that began anew inside of a batch could take none
    /// ([`InvalidFetch::Gap`]), however often it fetched.
    pub fn trim(&mut self, log_start: Offset) -> Result<Vec<Effect>, PartitionError> {
        self.leader_for(None)?;
        if log_start > self.log.high_watermark {
            let end = self.log.high_watermark;
            let message =
                format!("offset {log_start} is past the high watermark {end}: only committed records go");
            return Err(PartitionError::new(ErrorCode::OffsetOutOfRange, message));
        }
        let mut effects = Vec::new();
        self.log.trim(log_start, &mut effects);
        Ok(effects)
    }

    /// What an operator sees.
    pub fn status(&self) -> PartitionStatus {
        let (leader, leader_epoch) = self.leader();
        let log = &self.log;
        let mut status = PartitionStatus {
            is_leader: false,
            leader,
            leader_epoch,
            log_start: log.log_start,
            high_watermark: log.high_watermark,
            durable_end: log.durable_end,
            log_end: log.log_end,
            isr: Vec::new(),
            followers: Vec::new(),
            under_min_isr: false,
            under_replicated: false,
        };
        if let Role::Leader(leader) = &self.role {
            status.is_leader = true;
            status.isr.clone_from(&leader.isr);
            status.followers = leader
                .followers
                .iter()
                .map(|(broker, progress)| (*broker, progress.durable_end))
                .collect();
            status.under_min_isr = leader.isr.len() < leader.min_isr;
            status.under_replicated = leader.isr.len() < leader.followers.len() + 1;
        }
        status
    }

    /// The members that hold the high watermark back: the committed ISR and who is being added (R1,
    /// P19). Empty unless it leads.
    pub fn maximal_isr(&self) -> Vec<BrokerId> {
        match &self.role {
            Role::Leader(leader) => leader.isr.iter().chain(&leader.joining).copied().collect(),
            Role::Follower(_) | Role::Offline(_) => Vec::new(),
        }
    }

    fn lead(&mut self, assignment: &Assignment<'_>, now: Duration, effects: &mut Vec<Effect>) {
        let epoch = assignment.registration.leader_epoch;
        match &mut self.role {
            Role::Leader(leader)
                if leader.epoch == epoch && leader.broker_epoch == assignment.broker_epoch =>
            {
                leader.update(assignment, &mut self.log, now, effects);
            }
            // R3: the epoch was given to a former life of this broker. Metadata raises it with the
            // registration.
            Role::Leader(leader) if leader.epoch == epoch => {
                self.idle(Idle::NotRegistered, None, epoch, effects);
            }
            Role::Offline(Offline {
                reason: Idle::NotRegistered,
                leader_epoch,
                ..
            }) if *leader_epoch == epoch => {}
            role => {
                if matches!(role, Role::Leader(_)) {
                    effects.push(Effect::FailProduces(LostProduces::LeadershipLost));
                }
                let leader = Leader::new(self.local, assignment, &self.log, now);
                effects.push(Effect::BecameLeader {
                    epoch,
                    start_offset: leader.start_offset,
                });
                leader.advance(&mut self.log, effects);
                *role = Role::Leader(leader);
            }
        }
    }

    fn follow(
        &mut self,
        leader: BrokerId,
        epoch: LeaderEpoch,
        partition_epoch: PartitionEpoch,
        effects: &mut Vec<Effect>,
    ) {
        match &mut self.role {
            Role::Follower(follower) if follower.leader == leader && follower.epoch == epoch => {
                follower.partition_epoch = follower.partition_epoch.max(partition_epoch);
                return;
            }
            Role::Leader(_) => effects.push(Effect::FailProduces(LostProduces::LeadershipLost)),
            Role::Follower(_) | Role::Offline(_) => {}
        }
        self.role = Role::Follower(Follower::new(leader, epoch, partition_epoch));
        effects.push(Effect::BecameFollower { leader, epoch });
    }

    fn idle(
        &mut self,
        reason: Idle,
        leader: Option<BrokerId>,
        epoch: LeaderEpoch,
        effects: &mut Vec<Effect>,
    ) {
        let offline = Offline {
            reason,
            leader,
            leader_epoch: epoch,
        };
        match &self.role {
            Role::Offline(before) => {
                // Which epoch was refused must be remembered; otherwise the newer knowledge counts.
                if before.reason != Idle::NotRegistered
                    || before.leader_epoch < epoch
                    || reason == Idle::NotRegistered
                {
                    self.role = Role::Offline(offline);
                }
                return;
            }
            Role::Leader(_) => effects.push(Effect::FailProduces(LostProduces::LeadershipLost)),
            Role::Follower(_) => {}
        }
        self.role = Role::Offline(offline);
        effects.push(Effect::WentOffline);
    }

    fn leader_for(&self, leader_epoch: Option<LeaderEpoch>) -> Result<&Leader, PartitionError> {
        self.check_epoch(leader_epoch)?;
        match &self.role {
            Role::Leader(leader) => Ok(leader),
            Role::Follower(_) | Role::Offline(_) => Err(self.not_leader()),
        }
    }

    /// R6, R7: what a follower says counts in the epoch it says it in, and no other.
    fn check_follower_epoch(&self, asked: LeaderEpoch) -> Result<(), PartitionError> {
        if mutant::is_on(Mutant::JoinFromOlderEpoch) && asked < self.leader().1 {
            return Ok(());
        }
        self.check_epoch(Some(asked))
    }

    /// R6: a request goes by an epoch; both an older and a newer one than ours are told apart from
    /// a wrong broker.
    fn check_epoch(&self, asked: Option<LeaderEpoch>) -> Result<(), PartitionError> {
        let (leader, epoch) = self.leader();
        let Some(asked) = asked else { return Ok(()) };
        let (code, what) = match asked.cmp(&epoch) {
            Ordering::Equal => return Ok(()),
            Ordering::Less => (
                ErrorCode::FencedLeaderEpoch,
                "a newer leader epoch began; refresh metadata",
            ),
            Ordering::Greater => (
                ErrorCode::UnknownLeaderEpoch,
                "this broker has not heard of that leader epoch yet; try again",
            ),
        };
        let message = format!("asked in leader epoch {asked}, but it is {epoch} here: {what}");
        Err(PartitionError::new(code, message).with_leader(leader.map(|leader| (leader, epoch))))
    }

    fn not_leader(&self) -> PartitionError {
        let (leader, epoch) = self.leader();
        let message = match leader {
            Some(leader) => {
                format!("this broker does not lead the partition: broker {leader} does, in epoch {epoch}")
            }
            None => {
                "this broker does not lead the partition, and knows no leader; refresh metadata".to_owned()
            }
        };
        PartitionError::new(ErrorCode::NotLeaderOrFollower, message)
            .with_leader(leader.map(|leader| (leader, epoch)))
    }
}

fn refusal(code: ErrorCode) -> PartitionError {
    let what = match code {
        ErrorCode::NotEnoughReplicas => {
            "fewer in-sync replicas than min.insync.replicas; nothing was appended, try again"
        }
        ErrorCode::NotEnoughReplicasAfterAppend => {
            "the batch is stored, but on fewer in-sync replicas than min.insync.replicas; it may or may not stay, try again"
        }
        ErrorCode::UnknownProducerId => {
            "nothing is remembered of the producer and its batch does not begin at sequence 0; start a new epoch"
        }
        ErrorCode::InvalidProducerEpoch => "a newer instance of the producer exists; this one must stop",
        ErrorCode::OutOfOrderSequenceNumber => "there is a gap in the producer's sequence",
        ErrorCode::DuplicateSequenceNumber => "the batch was stored before, too long ago to say where",
        ErrorCode::StaleBrokerEpoch => "the fetching broker was registered anew since",
        ErrorCode::NotLeaderOrFollower => "the fetching broker is not a replica of the partition",
        _ => "refused",
    };
    PartitionError::new(code, what)
}

#[cfg(test)]
mod tests;
