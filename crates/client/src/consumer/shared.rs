//! What the tasks of one consumer and its handles share: the partitions under a lock, and wake-ups.
//!
//! The lock is held for moments and never across an await. Nothing is handed out but under it, so
//! that a partition that left is not handed out by a call that was already on its way.

use parking_lot::Mutex;
use tidelog_types::{Offset, TopicPartition};
use tokio::sync::{Notify, futures::Notified, watch};
use tokio::time::Instant;

use super::Ends;
use super::broker_stream::sleep_until;
use super::options::{FetchOptions, StartAt};
use super::repeated::Repeated;
use super::slot::{Slot, Start};
use super::slots::Slots;
use crate::error::{Error, Result};
use crate::record::ConsumedRecord;
use crate::wire::session::Assigned;

/// Shared state of a consumer.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    /// Something may be handed out, or an end was reached. One receiver at most waits.
    ready: Notify,
    /// Something may be fetched.
    pub(super) work: Notify,
    /// The application called for a record, or marked one, where that is of interest.
    progress: Notify,
    identity: watch::Sender<Identity>,
    /// Commits go one after another: a later one must not be overtaken by an earlier.
    pub(super) commits: tokio::sync::Mutex<()>,
}

/// Who a member is, as its coordinator knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) member_id: String,
    /// 0 while it is none.
    pub(super) epoch: u32,
    /// Counts joins: a member that was thrown out and joins again begins a new life.
    pub(super) life: u64,
}

#[derive(Debug)]
struct State {
    slots: Slots,
    /// The end, once it has come.
    end: Option<Repeated>,
    /// Why the last attempt to be a member failed, if it did.
    trouble: Option<Error>,
    /// Whether the application waits for a record at this moment.
    is_waiting: bool,
    last_poll: Instant,
    polls: u64,
    /// Whether somebody wants to know of the next call.
    is_watched: bool,
    /// Whether a static member gives its name up when it leaves.
    leaves_for_good: bool,
}

impl Shared {
    pub(super) fn new(options: FetchOptions, member_id: String) -> Self {
        let identity = Identity {
            member_id,
            epoch: 0,
            life: 1,
        };
        Self {
            state: Mutex::new(State {
                slots: Slots::new(options),
                end: None,
                trouble: None,
                is_waiting: false,
                last_poll: Instant::now(),
                polls: 0,
                is_watched: false,
                leaves_for_good: false,
            }),
            ready: Notify::new(),
            work: Notify::new(),
            progress: Notify::new(),
            identity: watch::Sender::new(identity),
            commits: tokio::sync::Mutex::default(),
        }
    }

    /// Looks at the partitions, or changes them; whoever waits for something looks again
    /// afterwards.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Slots) -> T) -> T {
        let value = change(&mut self.state.lock().slots);
        self.ready.notify_one();
        self.work.notify_one();
        value
    }

    /// Looks at the partitions without waking anybody.
    pub(super) fn look<T>(&self, look: impl FnOnce(&mut Slots) -> T) -> T {
        look(&mut self.state.lock().slots)
    }

    /// For the fetcher: what it does concerns receivers only.
    pub(super) fn bring<T>(&self, change: impl FnOnce(&mut Slots) -> T) -> T {
        let value = change(&mut self.state.lock().slots);
        self.ready.notify_one();
        value
    }

    /// The end: every later call for a record is answered with this. The first reason counts.
    pub(super) fn end(&self, error: Error) {
        self.state.lock().end.get_or_insert_with(|| Repeated::new(error));
        self.ready.notify_one();
        // Whoever waits to join looks at the end, too.
        self.identity.send_modify(|_| ());
    }

    /// A static member that leaves from now on is not waited for.
    pub(super) fn leave_for_good(&self) {
        self.state.lock().leaves_for_good = true;
    }

    /// Whether a static member that leaves is not waited for.
    pub(super) fn leaves_for_good(&self) -> bool {
        self.state.lock().leaves_for_good
    }

    /// The end's reason, if it has come.
    pub(super) fn check(&self) -> Result<()> {
        let state = self.state.lock();
        state.end.as_ref().map_or(Ok(()), |end| Err(end.error().clone()))
    }

    /// Notes why an attempt to be a member failed, where another follows; or that one succeeded.
    pub(super) fn note_trouble(&self, error: Option<Error>) {
        self.state.lock().trouble = error;
    }

    /// Why the last such attempt failed.
    pub(super) fn trouble(&self) -> Option<Error> {
        self.state.lock().trouble.clone()
    }

    pub(super) fn has_ended(&self) -> bool {
        self.state.lock().end.is_some()
    }

    /// The next record; with `ends`, `None` once all of them are reached. Cancel-safe: a record
    /// leaves its buffer only in the moment in which it is returned.
    pub(super) async fn next(&self, ends: Option<&Ends>) -> Result<Option<ConsumedRecord>> {
        // A flood of records must not keep the thread from everybody else.
        tokio::task::coop::consume_budget().await;
        if let Took::Now(taken) = self.take(ends, false) {
            return taken;
        }
        let _waiting = Waiting(self);
        loop {
            let ready = self.ready.notified();
            match self.take(ends, true) {
                Took::Now(taken) => return taken,
                Took::Later(repeats_at) => tokio::select! {
                    () = ready => {}
                    () = sleep_until(repeats_at) => {}
                },
            }
        }
    }

    fn take(&self, ends: Option<&Ends>, wait: bool) -> Took {
        let now = Instant::now();
        let mut state = self.state.lock();
        if let Some(end) = &mut state.end {
            return match end.tell(now) {
                Some(error) => Took::Now(Err(error)),
                None => Took::Later(end.waits_until(now)),
            };
        }
        state.polls += 1;
        let taken = state.slots.take(ends, now);
        if taken.is_hungry {
            self.work.notify_one();
        }
        let took = match (taken.record, ends) {
            (Some(record), _) => Took::Now(record.map(Some)),
            (None, Some(ends)) if state.slots.have_reached(ends) => Took::Now(Ok(None)),
            _ => Took::Later(taken.repeats_at),
        };
        state.is_waiting = wait && matches!(took, Took::Later(_));
        state.last_poll = now;
        if std::mem::take(&mut state.is_watched) {
            drop(state);
            self.progress.notify_waiters();
        }
        took
    }

    /// When the application last called for a record; `None` if it waits for one now.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let state = self.state.lock();
        (!state.is_waiting).then_some(state.last_poll)
    }

    /// The application owes no call before its interval is over again.
    pub(super) fn polled_now(&self) {
        self.state.lock().last_poll = Instant::now();
    }

    /// How often the application called for records, and whether it waits for one now.
    pub(super) fn polls(&self) -> (u64, bool) {
        let state = self.state.lock();
        (state.polls, state.is_waiting)
    }

    /// The next call for a record from now on, or the next mark of a partition that is leaving.
    pub(super) fn progress(&self) -> Notified<'_> {
        let progress = self.progress.notified();
        self.state.lock().is_watched = true;
        progress
    }

    pub(super) fn mark(&self, record: &ConsumedRecord) {
        let mut state = self.state.lock();
        let Some(id) = state.slots.id_of(&record.topic_partition(), record.topic_id) else {
            return;
        };
        let Some(slot) = state.slots.by_id.get_mut(&id) else {
            return;
        };
        let was_full = slot.marks.is_full();
        slot.marks.mark(Offset(record.offset));
        let is_leaving = slot.standing == super::slot::Standing::Leaving;
        if was_full {
            state.slots.with(id, |_| ());
            self.ready.notify_one();
        }
        drop(state);
        if is_leaving {
            self.progress.notify_waiters();
        }
    }

    pub(super) fn seek(&self, partition: &TopicPartition, to: StartAt) -> Result<()> {
        let sought = self.change(|slots| {
            let id = slots.id(partition)?;
            slots.with(id, |slot| slot.seek(to))
        });
        sought.ok_or_else(|| super::errors::not_assigned(partition))
    }

    pub(super) fn pause(&self, partitions: &[TopicPartition], paused: bool) -> Result<()> {
        self.change(|slots| {
            for partition in partitions {
                let id = slots
                    .id(partition)
                    .ok_or_else(|| super::errors::not_assigned(partition))?;
                slots.with(id, |slot| slot.paused = paused);
            }
            Ok(())
        })
    }

    pub(super) fn position(&self, partition: &TopicPartition) -> Option<u64> {
        let state = self.state.lock();
        let slot = state.slots.get(partition)?;
        (slot.start == Start::Known).then_some(slot.position.0)
    }

    pub(super) fn lag(&self, partition: &TopicPartition) -> Option<u64> {
        let state = self.state.lock();
        let slot = state.slots.get(partition)?;
        let end = slot.high_watermark?;
        (slot.start == Start::Known).then(|| end.distance_from(slot.position))
    }

    pub(super) fn assignment(&self) -> Vec<TopicPartition> {
        self.read().into_iter().map(|read| read.partition).collect()
    }

    /// What is read, in order.
    pub(super) fn read(&self) -> Vec<Assigned> {
        let state = self.state.lock();
        let mut all: Vec<_> = state.slots.by_id.values().map(Slot::as_assigned).collect();
        all.sort_unstable();
        all
    }

    pub(super) fn identity(&self) -> Identity {
        self.identity.borrow().clone()
    }

    pub(super) fn identities(&self) -> watch::Receiver<Identity> {
        self.identity.subscribe()
    }

    pub(super) fn set_identity(&self, change: impl FnOnce(&mut Identity)) {
        self.identity.send_modify(change);
    }
}

/// What a call for a record comes to.
enum Took {
    Now(Result<Option<ConsumedRecord>>),
    /// When something happens, or when an error may be told again.
    Later(Option<Instant>),
}

/// The application waits for a record, until this is dropped.
struct Waiting<'a>(&'a Shared);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.is_waiting = false;
        state.last_poll = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tidelog_types::ErrorCode;

    use super::*;
    use crate::consumer::testing::{assigned, batch, partition};
    use crate::error::ErrorKind;

    /// What a loop that only logs what fails is answered in ninety seconds.
    async fn obvious_loop(shared: &Shared) -> Vec<Error> {
        let end = Instant::now() + Duration::from_secs(90);
        let mut lines = Vec::new();
        while let Ok(answer) = tokio::time::timeout_at(end, shared.next(None)).await {
            lines.extend(answer.err());
        }
        lines
    }

    fn shared() -> Shared {
        let shared = Shared::new(FetchOptions::default(), String::new());
        shared.change(|slots| {
            let id = slots.add(assigned("t", 0), None);
            slots.begin(id, Some(StartAt::Offset(0)));
        });
        shared
    }

    fn fail(shared: &Shared, kind: ErrorKind) {
        shared.change(|slots| {
            let id = slots.id(&partition("t", 0)).unwrap();
            slots.with(id, |slot| slot.fail(Error::new(kind, "because")));
        });
    }

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_only_logs_is_answered_at_most_a_few_times_a_second() {
        let unknown = ErrorKind::Refused(ErrorCode::UnknownTopicOrPartition);
        for kind in [ErrorKind::Corrupt, unknown] {
            let shared = shared();
            fail(&shared, kind);
            let lines = obvious_loop(&shared).await;
            assert!(
                (90..=100).contains(&lines.len()),
                "{kind:?}: {} lines",
                lines.len()
            );
            assert!(lines.iter().all(|line| line.kind() == kind));
        }
        let shared = shared();
        shared.end(Error::new(ErrorKind::Closed, "over"));
        shared.end(Error::new(ErrorKind::Corrupt, "the first reason counts"));
        let lines = obvious_loop(&shared).await;
        assert!((90..=100).contains(&lines.len()), "{} lines", lines.len());
        assert!(lines.iter().all(|line| line.kind() == ErrorKind::Closed));
    }

    #[tokio::test(start_paused = true)]
    async fn a_record_does_not_wait_for_an_error_that_is_told_again() {
        let shared = shared();
        shared.change(|slots| {
            let id = slots.add(assigned("t", 1), None);
            slots.begin(id, Some(StartAt::Offset(0)));
        });
        fail(&shared, ErrorKind::Corrupt);
        for _ in 0..20 {
            shared.next(None).await.unwrap_err();
        }
        let began = Instant::now();
        let arriving = async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            shared.change(|slots| {
                let id = slots.id(&partition("t", 1)).unwrap();
                slots.with(id, |slot| slot.take_in(vec![batch(0, 1)]));
            });
        };
        let (record, ()) = tokio::join!(shared.next(None), arriving);
        assert_eq!(record.unwrap().unwrap().partition, 1);
        assert_eq!(began.elapsed(), Duration::from_millis(10));
    }
}
