//! One coordinator at work: the task that owns it.

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tidelog_coordinator::leadership::LONGEST_PAUSE;
use tidelog_coordinator::{Leadership, Machine, Now, Refusal, Step, Turn};
use tidelog_record::{Batch, BatchBuilder, Compression, NewRecord};
use tidelog_types::{LeaderEpoch, PartitionError, PartitionIndex};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::kind::{Audience, Kind};
use super::load::load;
use super::log::StateLog;

/// Most requests taken before the high watermark and the timer are looked at again.
const REQUESTS_AT_ONCE: usize = 256;
/// Most that goes into one batch of records, bytes.
const BATCH_BYTES: usize = 8 * 1024 * 1024;

/// How far a shard is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Phase {
    Loading,
    Serving,
    Ended,
}

/// A shard's phase, to ask for before a request is queued.
#[derive(Debug, Default)]
pub(super) struct SharedPhase(AtomicU8);

impl SharedPhase {
    pub(super) fn get(&self) -> Phase {
        match self.0.load(Ordering::Acquire) {
            0 => Phase::Loading,
            1 => Phase::Serving,
            _ => Phase::Ended,
        }
    }

    fn set(&self, phase: Phase) {
        self.0.store(phase as u8, Ordering::Release);
    }
}

/// What a shard's task is made of.
pub(super) struct Shard<K: Kind, L> {
    pub(super) kind: Arc<K>,
    pub(super) log: Arc<L>,
    pub(super) partition: PartitionIndex,
    pub(super) epoch: LeaderEpoch,
    pub(super) leadership: Leadership,
    pub(super) requests: mpsc::Receiver<<K::Audience as Audience<K::Machine>>::Request>,
    pub(super) view: watch::Receiver<Arc<K::View>>,
    pub(super) phase: Arc<SharedPhase>,
    /// The leadership is over, or the broker stops.
    pub(super) cancel: CancellationToken,
}

impl<K: Kind, L: StateLog> Shard<K, L> {
    /// Loads, serves, and ends with the leadership.
    ///
    /// A failure that may pass leads back to loading and ends nothing: a broker that was just
    /// elected may not serve yet, or not for a moment, and it is not told of the same epoch twice.
    pub(super) async fn run(mut self) {
        let cancel = self.cancel.clone();
        loop {
            let started = Instant::now();
            let machine = tokio::select! {
                biased;
                () = cancel.cancelled() => break,
                loaded = self.load() => match loaded {
                    Ok(machine) => machine,
                    Err(error) => {
                        let (partition, epoch, topic) = (self.partition, self.epoch, K::state_topic());
                        tracing::error!(%topic, %partition, %epoch, %error, "cannot load what this partition coordinates");
                        break;
                    }
                },
            };
            if self.serve(machine, started).await == Next::End {
                break;
            }
        }
        self.phase.set(Phase::Ended);
    }

    /// A machine with everything that is committed. Tried until it succeeds or fails for good.
    async fn load(&mut self) -> Result<K::Machine, PartitionError> {
        loop {
            let view = Arc::clone(&self.view.borrow_and_update());
            let mut machine = self.kind.machine(view);
            let loading = self.leadership.load();
            let error = match load::<K, L>(&self.log, self.partition, self.epoch, loading, &mut machine).await
            {
                Ok(()) => return Ok(machine),
                Err(error) => error,
            };
            let Some(pause) = self.leadership.load_failed(&error) else {
                return Err(error);
            };
            let (partition, epoch, topic) = (self.partition, self.epoch, K::state_topic());
            if pause < LONGEST_PAUSE {
                tracing::debug!(%topic, %partition, %epoch, %error, "cannot load this partition yet");
            } else {
                tracing::warn!(%topic, %partition, %epoch, %error, "still cannot load this partition");
            }
            tokio::time::sleep(pause).await;
        }
    }

    async fn serve(&mut self, machine: K::Machine, started: Instant) -> Next {
        let (partition, epoch, topic) = (self.partition, self.epoch, K::state_topic());
        let clock = Clock { started };
        self.leadership.loaded();
        let coordinated = K::coordinated_count(&machine);
        let elapsed_ms = started.elapsed().as_millis() as u64;
        tracing::info!(%topic, %partition, %epoch, coordinated, elapsed_ms, "coordinating");
        self.phase.set(Phase::Serving);

        let mut worker = Worker::<K, L> {
            log: &self.log,
            partition,
            epoch,
            turn: Turn::new(machine, self.leadership.replay_until(), clock.now()),
            clock,
            audience: K::Audience::default(),
        };
        let ended = worker
            .serve(&mut self.requests, &mut self.view, &self.cancel)
            .await;
        let (turn, mut audience) = (worker.turn, worker.audience);
        let loads_anew = match &ended {
            Ended::Resigned => false,
            Ended::Refused(error) => {
                self.leadership.interrupted(error, turn.log_end()) && !self.cancel.is_cancelled()
            }
        };
        let next = if loads_anew {
            self.phase.set(Phase::Loading);
            Next::Load
        } else {
            self.phase.set(Phase::Ended);
            self.requests.close();
            Next::End
        };
        let why = K::Machine::refusal(match ended {
            Ended::Resigned => Refusal::NotHere,
            Ended::Refused(error) => Refusal::Log(error),
        });
        tracing::info!(%topic, %partition, %epoch, %why, ?next, "coordinating no more");
        while let Ok(request) = self.requests.try_recv() {
            audience.refuse(request, &why);
        }
        audience.end(&why);
        next
    }
}

/// What a shard does when it served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Load,
    End,
}

/// Why a shard serves no more.
enum Ended {
    /// The leadership is over, or the broker stops.
    Resigned,
    /// The log refused.
    Refused(PartitionError),
}

struct Worker<'a, K: Kind, L> {
    log: &'a L,
    partition: PartitionIndex,
    epoch: LeaderEpoch,
    turn: Turn<K::Machine>,
    clock: Clock,
    audience: K::Audience,
}

impl<K: Kind, L: StateLog> Worker<'_, K, L> {
    /// Until the leadership is over, or the log refuses; answers which.
    async fn serve(
        &mut self,
        requests: &mut mpsc::Receiver<<K::Audience as Audience<K::Machine>>::Request>,
        view: &mut watch::Receiver<Arc<K::View>>,
        cancel: &CancellationToken,
    ) -> Ended {
        let (partition, epoch) = (self.partition, self.epoch);
        loop {
            let deadline = self.clock.instant(self.turn.next_deadline());
            tokio::select! {
                biased;
                () = cancel.cancelled() => return Ended::Resigned,
                moved = self.log.high_watermark_above(partition, epoch, self.turn.high_watermark()),
                    if self.turn.awaits_replication() =>
                {
                    match moved {
                        Ok(high_watermark) => self.turn.advance(high_watermark),
                        Err(error) => return Ended::Refused(error),
                    }
                }
                request = requests.recv() => {
                    let mut next = request;
                    if next.is_none() {
                        return Ended::Resigned;
                    }
                    for _ in 0..REQUESTS_AT_ONCE {
                        let Some(request) = next.take().or_else(|| requests.try_recv().ok()) else { break };
                        // Each: the one before may have waited long for room in the log.
                        if let Err(error) = self.log.check(partition, epoch) {
                            self.audience.refuse(request, &K::Machine::refusal(Refusal::Log(error.clone())));
                            return Ended::Refused(error);
                        }
                        if let Some(command) = self.audience.admit(request, self.turn.machine()) {
                            self.turn.take(command, self.clock.now());
                            self.work().await;
                        }
                    }
                }
                changed = view.changed() => {
                    if changed.is_err() {
                        return Ended::Resigned;
                    }
                    let view = Arc::clone(&view.borrow_and_update());
                    K::follow(self.turn.machine_mut(), view);
                }
                () = tokio::time::sleep_until(deadline) => {}
            }
            self.work().await;
        }
    }

    /// Performs what there is to do, until something has to come first.
    async fn work(&mut self) {
        loop {
            let now = self.clock.now();
            let batch = match self.turn.next(now) {
                None => return,
                Some(Step::Tell(effect)) => {
                    if let Err(effect) = self.audience.tell(effect) {
                        self.turn.unheard(&effect);
                    }
                    continue;
                }
                Some(Step::Append { records, as_one }) => batch::<K>(records, as_one, now.wall_ms),
            };
            let batch = match batch {
                Ok(batch) => batch,
                Err(why) => {
                    self.note_refusal(&why);
                    self.turn.too_large(why);
                    continue;
                }
            };
            let record_count = batch.info().offset_count() as usize;
            match self.log.append(self.partition, self.epoch, batch).await {
                Ok(end) => self.turn.appended(record_count, end),
                Err(error) => {
                    self.note_refusal(&error);
                    self.turn.refused(error);
                }
            }
        }
    }

    /// A command that somebody gave is refused to them; of one that was due only the log tells.
    fn note_refusal(&self, why: &dyn Display) {
        let (partition, epoch, topic) = (self.partition, self.epoch, K::state_topic());
        if self.turn.is_due() {
            tracing::warn!(%topic, %partition, %epoch, %why, "what is due could not be appended; it is tried again");
        } else {
            tracing::debug!(%topic, %partition, %epoch, %why, "a command's records could not be appended");
        }
    }
}

/// The first of these records, as many as fit a batch; all of them, where they belong together.
fn batch<K: Kind>(
    records: &[<K::Machine as Machine>::Record],
    as_one: bool,
    timestamp_ms: i64,
) -> Result<Batch, String> {
    let mut builder = BatchBuilder::new(Compression::None);
    for record in records {
        let (key, value) = K::encode(record);
        let record = NewRecord::new(timestamp_ms, Some(&key), value.as_deref());
        if !builder.would_fit(&record, BATCH_BYTES) && !builder.is_empty() {
            if as_one {
                let count = records.len();
                return Err(format!(
                    "its {count} records do not fit a batch of {BATCH_BYTES} bytes"
                ));
            }
            break;
        }
        builder.append(record).map_err(|error| error.to_string())?;
    }
    builder.build(None).map_err(|error| error.to_string())
}

/// Both clocks of a coordinator.
#[derive(Clone, Copy)]
struct Clock {
    started: Instant,
}

impl Clock {
    fn now(self) -> Now {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now {
            monotonic: self.started.elapsed(),
            wall_ms: since_1970.as_millis() as i64,
        }
    }

    fn instant(self, at: Duration) -> Instant {
        self.started + at
    }
}

#[cfg(test)]
mod tests {
    use tidelog_group::Record;
    use tidelog_types::{TopicId, TopicIdPartition};

    use super::*;
    use crate::group::GroupKind;

    /// Records of offsets that take up more than one batch.
    fn many() -> Vec<Record> {
        let record = |index| Record::Offset {
            group: "g".repeat(200).parse().unwrap(),
            partition: TopicIdPartition {
                topic_id: TopicId::from_slice(&[1; 16]).unwrap(),
                partition: PartitionIndex(index),
            },
            value: None,
        };
        (0..40_000).map(record).collect()
    }

    #[test]
    fn a_decision_that_may_be_cut_is_appended_in_batches_that_fit() {
        let records = many();
        let mut rest = &records[..];
        let mut sizes = Vec::new();
        while !rest.is_empty() {
            let batch = batch::<GroupKind>(rest, false, 0).unwrap();
            sizes.push(batch.info().size_bytes as usize);
            rest = &rest[batch.info().offset_count() as usize..];
        }
        assert_eq!(sizes.len(), 2, "{sizes:?}");
        assert!(sizes.iter().all(|size| *size <= BATCH_BYTES), "{sizes:?}");
    }

    #[test]
    fn a_decision_whose_records_belong_together_and_fit_no_batch_is_refused() {
        let records = many();
        let why = batch::<GroupKind>(&records, true, 0).unwrap_err();
        assert!(why.contains("40000 records"), "{why}");
        let half = batch::<GroupKind>(&records[..20_000], true, 0).unwrap();
        assert_eq!(half.info().offset_count(), 20_000);
    }
}
