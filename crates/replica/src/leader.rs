//! The role of a replica that takes appends and feeds its followers.

use std::collections::BTreeMap;
use std::time::Duration;

use tidelog_types::mutant::{self, Mutant};
use tidelog_types::{BatchInfo, BrokerEpoch, BrokerId, ErrorCode, LeaderEpoch, Offset, PartitionEpoch};

use crate::effect::{Effect, LostProduces};
use crate::fetched::{DivergingEpoch, Fetched, LogRange};
use crate::isr::{InFlight, IsrChangeOutcome, IsrProposal};
use crate::log::ReplicaLog;
use crate::messages::{AppendRequest, Appended, Assignment, FollowerDurable, FollowerFetch};
use crate::producers::SequenceCheck;

/// A replica that leads.
#[derive(Debug, Clone)]
pub struct Leader {
    pub(crate) local: BrokerId,
    pub(crate) epoch: LeaderEpoch,
    pub(crate) broker_epoch: BrokerEpoch,
    /// Where the log ended when this leadership began (R4).
    pub(crate) start_offset: Offset,
    pub(crate) partition_epoch: PartitionEpoch,
    /// The committed ISR.
    pub(crate) isr: Vec<BrokerId>,
    /// Replicas that a proposal wishes to add, or may have added: with the committed ISR they are
    /// the maximal ISR (R1).
    pub(crate) joining: Vec<BrokerId>,
    pub(crate) min_isr: usize,
    pub(crate) followers: BTreeMap<BrokerId, Progress>,
    alive: BTreeMap<BrokerId, BrokerEpoch>,
    in_flight: Option<InFlight>,
    /// No new proposal before then: the last one was refused.
    hold_until: Duration,
}

/// How far a follower is.
#[derive(Debug, Clone)]
pub(crate) struct Progress {
    broker_epoch: Option<BrokerEpoch>,
    /// Up to where its log is on stable storage *and* known to be a prefix of the leader's: `None`
    /// until it fetched in this epoch.
    pub(crate) durable_end: Option<Offset>,
    /// When it last had all that the leader had.
    caught_up_at: Duration,
    /// Where the leader's log ended at some moment: reaching it means having been caught up then.
    mark: (Offset, Duration),
}

impl Progress {
    fn new(log_end: Offset, now: Duration) -> Self {
        Self {
            broker_epoch: None,
            durable_end: None,
            caught_up_at: now,
            mark: (log_end, now),
        }
    }

    fn reached(&mut self, durable_end: Offset, log_end: Offset, now: Duration) {
        let end = self
            .durable_end
            .map_or(durable_end, |before| before.max(durable_end));
        self.durable_end = Some(end);
        if end >= log_end {
            self.caught_up_at = now;
            self.mark = (log_end, now);
        } else if end >= self.mark.0 {
            self.caught_up_at = self.caught_up_at.max(self.mark.1);
            self.mark = (log_end, now);
        }
    }

    fn has(&self, offset: Offset) -> bool {
        self.durable_end.is_some_and(|end| end >= offset)
    }
}

impl Leader {
    pub(crate) fn new(local: BrokerId, assignment: &Assignment<'_>, log: &ReplicaLog, now: Duration) -> Self {
        let registration = assignment.registration;
        let mut leader = Self {
            local,
            epoch: registration.leader_epoch,
            broker_epoch: assignment.broker_epoch,
            start_offset: log.log_end,
            partition_epoch: registration.partition_epoch,
            isr: registration.isr.clone(),
            joining: Vec::new(),
            min_isr: registration.effective_min_insync_replicas(),
            followers: BTreeMap::new(),
            alive: BTreeMap::new(),
            in_flight: None,
            hold_until: Duration::ZERO,
        };
        leader.take_replicas(assignment, log, now);
        leader
    }

    /// Takes a newer registration of the same epoch.
    pub(crate) fn update(
        &mut self,
        assignment: &Assignment<'_>,
        log: &mut ReplicaLog,
        now: Duration,
        effects: &mut Vec<Effect>,
    ) {
        let registration = assignment.registration;
        if registration.partition_epoch < self.partition_epoch {
            return;
        }
        if registration.partition_epoch > self.partition_epoch {
            self.partition_epoch = registration.partition_epoch;
            if !mutant::is_on(Mutant::StaleMinInsyncReplicas) {
                self.min_isr = registration.effective_min_insync_replicas();
            }
            // A proposal was a compare-and-set on the epoch before: it is part of this one, or
            // refused for ever.
            self.in_flight = None;
            self.commit_isr(registration.isr.clone(), effects);
        }
        self.take_replicas(assignment, log, now);
        self.advance(log, effects);
        self.propose_joins(log, now, effects);
    }

    /// Gives a batch its place (R2, R9). The epoch was checked.
    pub(crate) fn append(
        &mut self,
        log: &mut ReplicaLog,
        request: &AppendRequest,
        now: Duration,
    ) -> Result<Appended, ErrorCode> {
        let batch = &request.batch;
        let check = batch
            .producer
            .map(|stamp| log.producers.check(stamp, batch.offset_count));
        let isr_too_small = request.acks_all && self.isr.len() < self.min_isr;
        // What is stored comes first: "nothing was appended" would be untrue of it.
        if let Some(SequenceCheck::Duplicate(original)) = check {
            let end = original.last_offset.next();
            if isr_too_small && log.high_watermark < end {
                return Err(ErrorCode::NotEnoughReplicasAfterAppend);
            }
            return Ok(Appended::Duplicate {
                base_offset: original.base_offset,
                end: if mutant::is_on(Mutant::AnswerDuplicateEarly) {
                    Offset::ZERO
                } else {
                    end
                },
                leader_epoch: self.epoch,
            });
        }
        // Before sequences: of several batches in flight the later ones follow a gap only because
        // the first was refused.
        if isr_too_small {
            return Err(ErrorCode::NotEnoughReplicas);
        }
        if let Some(SequenceCheck::Refused(code)) = check {
            return Err(code);
        }
        let info = BatchInfo {
            base_offset: log.log_end,
            last_offset: log.log_end + (batch.offset_count - 1),
            leader_epoch: self.epoch,
            max_timestamp_ms: batch.max_timestamp_ms,
            size_bytes: batch.size_bytes,
            producer: batch.producer,
        };
        for progress in self
            .followers
            .values_mut()
            .filter(|progress| progress.has(info.base_offset))
        {
            // It had everything until this moment.
            progress.caught_up_at = progress.caught_up_at.max(now);
            progress.mark = (info.end_offset(), now);
        }
        let epoch = log.push(&info, now);
        let producer = batch
            .producer
            .and_then(|stamp| log.producers.get(stamp.id).cloned());
        Ok(Appended::New {
            info,
            epoch,
            producer,
        })
    }

    /// Answers a follower's fetch (R5, R10) and takes note of how far it is.
    pub(crate) fn fetch(
        &mut self,
        log: &mut ReplicaLog,
        fetch: &FollowerFetch,
        now: Duration,
        effects: &mut Vec<Effect>,
    ) -> Result<Fetched<LogRange>, ErrorCode> {
        self.check_follower(fetch.broker, fetch.broker_epoch, log.log_end, now)?;
        let is_prefix = self.has_validated(fetch.broker);
        if fetch.fetch_offset < log.log_start || (!is_prefix && shares_nothing(log, fetch)) {
            return Ok(Fetched::BeforeLogStart {
                log_start: log.log_start,
            });
        }
        if let Some(diverging) = diverging(log, fetch, self.epoch) {
            return Ok(Fetched::Diverging(diverging));
        }
        // Only now is what it has on stable storage known to be part of this log.
        self.reached(
            log,
            fetch.broker,
            fetch.durable_end.min(fetch.fetch_offset),
            now,
            effects,
        );
        Ok(Fetched::Batches {
            batches: LogRange {
                from: fetch.fetch_offset,
                until: log.written_end,
            },
            high_watermark: log.high_watermark,
            log_start: log.log_start,
        })
    }

    /// Takes note of how far a follower's stable storage is. It counts only after a fetch in this
    /// epoch showed that its log is a prefix of this one; from then on it appends nothing else.
    pub(crate) fn follower_durable(
        &mut self,
        log: &mut ReplicaLog,
        durable: &FollowerDurable,
        now: Duration,
        effects: &mut Vec<Effect>,
    ) -> Result<(), ErrorCode> {
        self.check_follower(durable.broker, durable.broker_epoch, log.log_end, now)?;
        if self.has_validated(durable.broker) {
            self.reached(
                log,
                durable.broker,
                durable.durable_end.min(log.log_end),
                now,
                effects,
            );
        }
        Ok(())
    }

    /// Moves the high watermark (R1).
    pub(crate) fn advance(&self, log: &mut ReplicaLog, effects: &mut Vec<Effect>) {
        if self.isr.len() < self.min_isr && !mutant::is_on(Mutant::AdvanceUnderMinIsr) {
            return;
        }
        let mut lowest = if mutant::is_on(Mutant::CountUnsyncedLeader) {
            log.written_end
        } else {
            log.durable_end
        };
        for broker in self
            .isr
            .iter()
            .chain(&self.joining)
            .filter(|broker| **broker != self.local)
        {
            match self
                .followers
                .get(broker)
                .and_then(|progress| progress.durable_end)
            {
                Some(end) => lowest = lowest.min(end),
                None => return,
            }
        }
        log.advance_high_watermark(lowest, effects);
    }

    /// Removes from the ISR who has not caught up for too long (R7), and repeats a proposal whose
    /// fate is unknown.
    ///
    /// `heard` is when a broker last gave a sign of life: it keeps those caught up that have
    /// nothing to fetch.
    pub(crate) fn tick(
        &mut self,
        log: &ReplicaLog,
        now: Duration,
        lag_time_max: Duration,
        heard: &dyn Fn(BrokerId) -> Duration,
        effects: &mut Vec<Effect>,
    ) {
        if let Some(in_flight) = &mut self.in_flight {
            if in_flight.retry_at.is_some_and(|at| at <= now) {
                in_flight.retry_at = None;
                effects.push(Effect::ProposeIsr(in_flight.proposal.clone()));
            }
            return;
        }
        let mut staying = self.isr.clone();
        staying.retain(|broker| {
            let Some(progress) = self.followers.get_mut(broker) else {
                return true;
            };
            if progress.has(log.log_end) {
                progress.caught_up_at = progress.caught_up_at.max(heard(*broker));
            }
            now.saturating_sub(progress.caught_up_at) <= lag_time_max
        });
        if staying.len() < self.isr.len() {
            self.propose(staying, now, effects);
        } else {
            self.propose_joins(log, now, effects);
        }
    }

    /// Whether [`Leader::tick`] has something to look after here.
    pub(crate) fn needs_tick(&self, log: &ReplicaLog) -> bool {
        let behind = |broker: &BrokerId| {
            self.followers
                .get(broker)
                .is_some_and(|progress| !progress.has(log.log_end))
        };
        self.in_flight.is_some() || self.isr.iter().any(behind) || self.isr.len() < self.followers.len() + 1
    }

    /// Takes what became of a proposal.
    pub(crate) fn isr_changed(
        &mut self,
        log: &mut ReplicaLog,
        proposal: &IsrProposal,
        outcome: &IsrChangeOutcome,
        retry: (Duration, Duration),
        effects: &mut Vec<Effect>,
    ) {
        let (now, retry_after) = retry;
        let Some(in_flight) = self
            .in_flight
            .as_mut()
            .filter(|in_flight| in_flight.proposal == *proposal)
        else {
            return;
        };
        match outcome {
            // The leadership moved with it: the next image says so.
            IsrChangeOutcome::Committed(registration) if registration.leader_epoch != self.epoch => {}
            IsrChangeOutcome::Committed(registration) => {
                self.partition_epoch = registration.partition_epoch;
                if !mutant::is_on(Mutant::StaleMinInsyncReplicas) {
                    self.min_isr = registration.effective_min_insync_replicas();
                }
                self.in_flight = None;
                self.commit_isr(registration.isr.clone(), effects);
                self.advance(log, effects);
                self.propose_joins(log, now, effects);
            }
            IsrChangeOutcome::Unknown => {
                in_flight.uncertain = true;
                in_flight.retry_at = Some(now + retry_after);
            }
            // Metadata moved on, perhaps by an earlier attempt of this very proposal: its next
            // image decides.
            IsrChangeOutcome::Rejected(ErrorCode::InvalidUpdateVersion | ErrorCode::FencedLeaderEpoch) => {}
            IsrChangeOutcome::Rejected(_) if in_flight.uncertain => {
                // An earlier attempt may still be on its way. Committing the ISR as it is shuts it
                // out.
                in_flight.proposal.isr = with_epochs(&self.isr, self.local, self.broker_epoch, &self.alive);
                in_flight.retry_at = Some(now + retry_after);
            }
            IsrChangeOutcome::Rejected(_) => {
                self.in_flight = None;
                self.joining.clear();
                self.hold_until = now + retry_after;
                self.advance(log, effects);
            }
        }
    }

    /// Whether a follower's fetch in this epoch showed that its log is a prefix of this one.
    fn has_validated(&self, broker: BrokerId) -> bool {
        let progress = self.followers.get(&broker);
        progress.is_some_and(|progress| progress.durable_end.is_some())
    }

    /// Whether a broker is registered, unfenced, and in the life that it fetched in (R7).
    fn is_registered_as(&self, broker: BrokerId, epoch: Option<BrokerEpoch>) -> bool {
        let alive = self.alive.get(&broker).copied();
        if mutant::is_on(Mutant::IgnoreBrokerEpoch) {
            return alive.is_some();
        }
        epoch.is_some() && alive == epoch
    }

    fn check_follower(
        &mut self,
        broker: BrokerId,
        broker_epoch: BrokerEpoch,
        log_end: Offset,
        now: Duration,
    ) -> Result<(), ErrorCode> {
        let Some(progress) = self.followers.get_mut(&broker) else {
            return Err(ErrorCode::NotLeaderOrFollower);
        };
        let newest = progress.broker_epoch.max(self.alive.get(&broker).copied());
        if Some(broker_epoch) < newest {
            return Err(ErrorCode::StaleBrokerEpoch);
        }
        if progress.broker_epoch != Some(broker_epoch) {
            // Another life of that broker: what the former one had proves nothing.
            let caught_up_at = progress.caught_up_at;
            *progress = Progress {
                caught_up_at,
                ..Progress::new(log_end, now)
            };
            progress.broker_epoch = Some(broker_epoch);
        }
        Ok(())
    }

    fn reached(
        &mut self,
        log: &mut ReplicaLog,
        broker: BrokerId,
        durable_end: Offset,
        now: Duration,
        effects: &mut Vec<Effect>,
    ) {
        if let Some(progress) = self.followers.get_mut(&broker) {
            progress.reached(durable_end, log.log_end, now);
        }
        self.advance(log, effects);
        if !self.isr.contains(&broker) {
            self.propose_joins(log, now, effects);
        }
    }

    /// Asks for every replica that may join (R7).
    fn propose_joins(&mut self, log: &ReplicaLog, now: Duration, effects: &mut Vec<Effect>) {
        if self.in_flight.is_some() || now < self.hold_until {
            return;
        }
        let enough = if mutant::is_on(Mutant::ForgetLeaderEpochStart) {
            log.high_watermark
        } else {
            log.high_watermark.max(self.start_offset)
        };
        let mut isr = self.isr.clone();
        for (broker, progress) in &self.followers {
            if !isr.contains(broker)
                && progress.has(enough)
                && self.is_registered_as(*broker, progress.broker_epoch)
            {
                isr.push(*broker);
            }
        }
        if isr.len() > self.isr.len() {
            self.propose(isr, now, effects);
        }
    }

    fn propose(&mut self, isr: Vec<BrokerId>, now: Duration, effects: &mut Vec<Effect>) {
        let members = with_epochs(&isr, self.local, self.broker_epoch, &self.alive);
        if members.len() < isr.len() || now < self.hold_until {
            // Metadata is about to take out a member that is fenced; its image comes first.
            return;
        }
        self.joining = isr
            .into_iter()
            .filter(|broker| !self.isr.contains(broker) && !mutant::is_on(Mutant::CountCommittedIsr))
            .collect();
        let proposal = IsrProposal {
            leader_epoch: self.epoch,
            partition_epoch: self.partition_epoch,
            isr: members,
        };
        self.in_flight = Some(InFlight::new(proposal.clone()));
        effects.push(Effect::ProposeIsr(proposal));
    }

    fn commit_isr(&mut self, isr: Vec<BrokerId>, effects: &mut Vec<Effect>) {
        self.isr = isr;
        self.joining.clear();
        if self.isr.len() < self.min_isr {
            effects.push(Effect::FailProduces(LostProduces::NotEnoughReplicas));
        }
    }

    fn take_replicas(&mut self, assignment: &Assignment<'_>, log: &ReplicaLog, now: Duration) {
        let replicas = &assignment.registration.replicas;
        self.followers.retain(|broker, _| replicas.contains(broker));
        for broker in replicas.iter().filter(|broker| **broker != self.local) {
            self.followers
                .entry(*broker)
                .or_insert_with(|| Progress::new(log.log_end, now));
        }
        let alive = replicas
            .iter()
            .filter_map(|broker| Some((*broker, *assignment.alive.get(broker)?)));
        self.alive = alive.collect();
    }
}

/// Members with the epochs they are registered by; fewer than asked for if one is not alive.
fn with_epochs(
    isr: &[BrokerId],
    local: BrokerId,
    local_epoch: BrokerEpoch,
    alive: &BTreeMap<BrokerId, BrokerEpoch>,
) -> Vec<(BrokerId, BrokerEpoch)> {
    let epoch_of = |broker: &BrokerId| {
        if *broker == local {
            Some(local_epoch)
        } else {
            alive.get(broker).copied()
        }
    };
    isr.iter()
        .filter_map(|broker| Some((*broker, epoch_of(broker)?)))
        .collect()
}

/// Whether all that a follower has is older than what this log begins with, which is not its first
/// record any more: what the follower has up to there may differ from what was trimmed here, and
/// nobody can tell. It begins anew, or it would keep records that were never committed below the
/// log start (P16).
fn shares_nothing(log: &ReplicaLog, fetch: &FollowerFetch) -> bool {
    let first = log.epochs.entries().first();
    log.log_start > Offset::ZERO
        && fetch
            .last_fetched_epoch
            .is_some_and(|last| first.is_none_or(|first| last < first.epoch))
}

/// Whether a follower's log is a prefix of this one, by the epoch of its last batch (R5).
fn diverging(log: &ReplicaLog, fetch: &FollowerFetch, leader_epoch: LeaderEpoch) -> Option<DivergingEpoch> {
    match fetch.last_fetched_epoch {
        None if fetch.fetch_offset <= log.log_end => None,
        None => Some(DivergingEpoch {
            epoch: leader_epoch,
            end_offset: log.log_end,
        }),
        Some(last) => {
            let (epoch, end_offset) = log.epochs.end_of(last, log.log_end);
            let prefix = epoch == last && end_offset >= fetch.fetch_offset;
            (!prefix).then_some(DivergingEpoch { epoch, end_offset })
        }
    }
}
