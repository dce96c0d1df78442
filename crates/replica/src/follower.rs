//! The role of a replica that copies its leader's log.

use std::time::Duration;

use tidelog_types::mutant::{self, Mutant};
use tidelog_types::{BatchInfo, BrokerId, LeaderEpoch, Offset, PartitionEpoch, ProducerId, ProducerState};

use crate::effect::Effect;
use crate::fetched::{DivergingEpoch, Fetched};
use crate::log::ReplicaLog;
use crate::messages::{FetchPosition, FetchedFromLeader, InvalidFetch, TakenFromLeader};

/// A replica that follows.
#[derive(Debug, Clone)]
pub struct Follower {
    pub(crate) leader: BrokerId,
    pub(crate) epoch: LeaderEpoch,
    pub(crate) partition_epoch: PartitionEpoch,
    pending: Option<Cut>,
    /// Whether the leader answered a fetch with batches: then this log is a prefix of its log, and
    /// stays one while this epoch lasts.
    is_prefix: bool,
}

/// A change to the log's tail that waits until nothing is under way. Nothing is fetched meanwhile.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Cut {
    /// Remove everything from there on.
    Truncate { to: Offset, producers: Producers },
    /// Begin anew there.
    Reset { start: Offset },
}

/// Where a truncation gets the producers' state from, if it cannot be undone from memory.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Producers {
    NotAsked,
    Asked,
    Scanned(Vec<ProducerState>),
}

impl Follower {
    pub(crate) fn new(leader: BrokerId, epoch: LeaderEpoch, partition_epoch: PartitionEpoch) -> Self {
        Self {
            leader,
            epoch,
            partition_epoch,
            pending: None,
            is_prefix: false,
        }
    }

    /// Whether the leader showed in this epoch that this log is a prefix of its own.
    pub(crate) fn is_prefix(&self) -> bool {
        self.is_prefix
    }

    /// What to fetch next; nothing while a truncation waits.
    pub(crate) fn next_fetch(&self, log: &ReplicaLog) -> Option<FetchPosition> {
        if self.pending.is_some() {
            return None;
        }
        Some(FetchPosition {
            leader: self.leader,
            leader_epoch: self.epoch,
            fetch_offset: log.log_end,
            last_fetched_epoch: log.epochs.latest(),
            durable_end: log.durable_end,
        })
    }

    /// Takes a leader's answer, all of it or nothing.
    pub(crate) fn fetched(
        &mut self,
        log: &mut ReplicaLog,
        fetched: FetchedFromLeader<'_>,
    ) -> Result<TakenFromLeader, InvalidFetch> {
        if fetched.leader_epoch != self.epoch || self.pending.is_some() {
            return Err(InvalidFetch::Stale {
                answered: fetched.leader_epoch,
            });
        }
        match fetched.answer {
            Fetched::Batches {
                batches,
                high_watermark,
                log_start,
            } => {
                self.validate(log, batches)?;
                self.is_prefix = true;
                let mut taken = take(log, batches, fetched.now);
                follow_up(log, high_watermark, log_start, &mut taken.effects);
                Ok(taken)
            }
            Fetched::Progress {
                high_watermark,
                log_start,
            } => {
                let mut taken = TakenFromLeader::default();
                if self.is_prefix {
                    follow_up(log, high_watermark, log_start, &mut taken.effects);
                }
                Ok(taken)
            }
            // It answers an earlier fetch, of a log that was truncated since.
            Fetched::Diverging(_) if self.is_prefix => Err(InvalidFetch::Stale {
                answered: fetched.leader_epoch,
            }),
            Fetched::Diverging(diverging) => {
                self.pending = Some(cut(log, diverging));
                Ok(self.settled(log, fetched.now))
            }
            // It answers an earlier fetch: since then this log was shown to share the leader's.
            Fetched::BeforeLogStart { log_start } if self.is_prefix && log_start <= log.log_end => {
                Err(InvalidFetch::Stale {
                    answered: fetched.leader_epoch,
                })
            }
            Fetched::BeforeLogStart { log_start } => {
                let is_there = log.log_start == log_start && log.log_end == log_start;
                if !is_there {
                    self.pending = Some(Cut::Reset { start: log_start });
                }
                Ok(self.settled(log, fetched.now))
            }
        }
    }

    /// Takes what a scan of the log up to `until` found, if a truncation to there still waits for
    /// it.
    pub(crate) fn producers_rebuilt(&mut self, until: Offset, states: Vec<ProducerState>) {
        if let Some(Cut::Truncate { to, producers }) = &mut self.pending
            && *to == until
            && *producers == Producers::Asked
        {
            *producers = Producers::Scanned(states);
        }
    }

    /// Performs the truncation that waits, if nothing is under way any more (R5).
    pub(crate) fn settle(&mut self, log: &mut ReplicaLog, now: Duration, effects: &mut Vec<Effect>) {
        if !log.is_quiet() {
            return;
        }
        match &mut self.pending {
            None => return,
            Some(Cut::Reset { start }) => log.reset(*start, effects),
            Some(Cut::Truncate { to, producers }) => {
                let to = *to;
                let changes = if log.producers.can_truncate(to) {
                    log.producers.truncate(to, now)
                } else if mutant::is_on(Mutant::SkipProducerRebuild) {
                    log.producers.rebuilt(log.producers.states(), to, now)
                } else {
                    match std::mem::replace(producers, Producers::Asked) {
                        Producers::Scanned(states) => log.producers.rebuilt(states, to, now),
                        Producers::Asked => return,
                        Producers::NotAsked => {
                            effects.push(Effect::RebuildProducers {
                                from: log.log_start,
                                until: to,
                            });
                            return;
                        }
                    }
                };
                log.truncate(to, changes, effects);
            }
        }
        self.pending = None;
        effects.push(Effect::FetchAgain);
    }

    /// Everything is durable, and only a fetch can say so before the leader showed that this log is
    /// a prefix of its own. It may have nothing to show: with too few replicas in sync it appends
    /// nothing, and waits for this very word (R7).
    pub(crate) fn tell_again(&self, log: &ReplicaLog, effects: &mut Vec<Effect>) {
        if !self.is_prefix
            && self.pending.is_none()
            && log.is_quiet()
            && !effects.contains(&Effect::FetchAgain)
        {
            effects.push(Effect::FetchAgain);
        }
    }

    fn settled(&mut self, log: &mut ReplicaLog, now: Duration) -> TakenFromLeader {
        let mut taken = TakenFromLeader::default();
        self.settle(log, now, &mut taken.effects);
        taken
    }

    fn validate(&self, log: &ReplicaLog, batches: &[BatchInfo]) -> Result<(), InvalidFetch> {
        let mut end = log.log_end;
        let mut latest = log.epochs.latest();
        for batch in batches {
            if batch.base_offset != end || batch.last_offset < batch.base_offset {
                return Err(InvalidFetch::Gap {
                    base_offset: batch.base_offset,
                    log_end: end,
                });
            }
            if latest > Some(batch.leader_epoch) || batch.leader_epoch > self.epoch {
                let epoch = batch.leader_epoch;
                return Err(InvalidFetch::EpochOutOfOrder {
                    base_offset: end,
                    epoch,
                    after: latest,
                });
            }
            end = batch.end_offset();
            latest = Some(batch.leader_epoch);
        }
        Ok(())
    }
}

/// Takes over what the leader has committed and deleted.
fn follow_up(log: &mut ReplicaLog, high_watermark: Offset, log_start: Offset, effects: &mut Vec<Effect>) {
    log.advance_high_watermark(high_watermark.min(log.log_end), effects);
    log.trim(log_start, effects);
}

fn take(log: &mut ReplicaLog, batches: &[BatchInfo], now: Duration) -> TakenFromLeader {
    let mut taken = TakenFromLeader::default();
    for batch in batches {
        taken.epochs.extend(log.push(batch, now));
    }
    let mut ids: Vec<ProducerId> = batches
        .iter()
        .filter_map(|batch| batch.producer)
        .map(|stamp| stamp.id)
        .collect();
    ids.sort_unstable();
    ids.dedup();
    taken.producers = ids
        .into_iter()
        .filter_map(|id| log.producers.get(id).cloned())
        .collect();
    taken
}

/// Where to cut a log that is not a prefix of its leader's: where the leader's epoch ended, here or
/// there, whichever is lower (R5).
fn cut(log: &ReplicaLog, diverging: DivergingEpoch) -> Cut {
    if diverging.end_offset < log.log_start {
        return Cut::Reset {
            start: diverging.end_offset,
        };
    }
    let (_, own_end) = log.epochs.end_of(diverging.epoch, log.log_end);
    let target = if mutant::is_on(Mutant::TruncateToHighWatermark) {
        log.high_watermark
    } else {
        diverging.end_offset
    };
    let to = target.min(own_end).min(log.log_end).max(log.log_start);
    Cut::Truncate {
        to,
        producers: Producers::NotAsked,
    }
}
