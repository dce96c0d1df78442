//! The session task: one stream to the coordinator, kept alive.

use std::collections::{BTreeSet, VecDeque};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use tidelog_types::ErrorCode;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::reconcile::Owed;
use super::{Command, Directive, Membership};
use crate::client::Client;
use crate::consumer::broker_stream::sleep_until;
use crate::consumer::shared::Shared;
use crate::error::{Error, ErrorKind};
use crate::reachability::Outage;
use crate::wire::Refusal;
use crate::wire::session::{Assigned, Events, Heard, JoinAsk, Said, session};

/// How long finding the coordinator may take, and it taking a member in.
const JOIN_TIMEOUT: Duration = Duration::from_secs(10);
/// Messages that were not sent yet: heartbeats and revocations, few of them.
const MAX_UNSENT: usize = 16;
/// How long a static name may still be its last holder's: one that was killed a moment ago has a
/// connection until that is noticed broken.
const RELEASED_WITHIN: Duration = Duration::from_secs(15);
/// A coordinator that answered nothing for this part of the session timeout is looked for anew.
const ANSWER_SHARE: u32 = 3;

/// Why a stream, or a life, is over.
#[derive(Debug)]
enum Over {
    /// The member left.
    Left,
    /// The stream broke: the member lives and resumes.
    Broken(Error),
    /// The member was thrown out, or must take itself for thrown out.
    Lost(Error),
    /// The application called for no record for too long, and the member left for it.
    Idle,
    /// Joining again would not help.
    Fatal(Error),
}

/// The task's state.
pub(crate) struct Session {
    client: Client,
    shared: Arc<Shared>,
    membership: Membership,
    directives: watch::Sender<Directive>,
    commands: mpsc::UnboundedReceiver<Command>,
    stream: u64,
    /// When the coordinator last heard of us for certain, and how long it is patient; none while we
    /// are no member.
    heard: Option<(Instant, Duration)>,
    leaving: bool,
    /// Since when the static name is not released, while that holds up joining.
    unreleased: Option<Instant>,
    /// While there is no stream.
    outage: Option<Outage>,
}

/// A stream that is open.
struct Open {
    address: String,
    events: Events,
    say: mpsc::Sender<Said>,
    owed: Owed,
    /// When the messages were sent that are not answered yet: the Join, then heartbeats.
    unanswered: VecDeque<Instant>,
    heartbeat: Option<tokio::time::Interval>,
}

impl Session {
    pub(crate) fn new(
        client: Client,
        shared: Arc<Shared>,
        membership: Membership,
        directives: watch::Sender<Directive>,
        commands: mpsc::UnboundedReceiver<Command>,
    ) -> Self {
        Self {
            client,
            shared,
            membership,
            directives,
            commands,
            stream: 0,
            heard: None,
            leaving: false,
            unreleased: None,
            outage: None,
        }
    }

    /// Runs until the member left, or cannot be one.
    pub(crate) async fn run(mut self) {
        let mut pauses = crate::backoff::delays();
        loop {
            let heard_before = self.heard;
            match self.live().await {
                Over::Left => return,
                Over::Fatal(error) => {
                    self.lose(&error);
                    self.shared.end(error);
                    return;
                }
                Over::Broken(error) => {
                    tracing::info!(group = %self.membership.group, %error, "the member has no stream to its coordinator: it tries to resume");
                    self.no_stream(&error);
                }
                Over::Lost(error) => {
                    self.lose(&error);
                    self.no_stream(&error);
                }
                Over::Idle => {
                    self.lose(&idle(self.membership.max_poll_interval));
                    self.called().await;
                }
            }
            // Who is no member has nothing to leave.
            if self.leaving && self.heard.is_none() {
                return;
            }
            if self.heard != heard_before {
                pauses = crate::backoff::delays();
            }
            let pause = pauses.next().unwrap_or(crate::backoff::LONGEST);
            tokio::time::sleep(pause).await;
        }
    }

    /// Takes note of why there is no stream, and says it once a minute as long as there is none.
    fn no_stream(&mut self, error: &Error) {
        self.shared.note_trouble(Some(error.clone()));
        let now = Instant::now();
        if let Some(lasts) = self.outage.get_or_insert_with(|| Outage::new(now)).is_due(now) {
            let group = &self.membership.group;
            tracing::warn!(
                "the member of group {group} has had no stream to its coordinator for {} s: {error}; it goes on trying",
                lasts.as_secs()
            );
        }
    }

    /// When the member must take itself for thrown out, if nothing is heard until then.
    fn silence(&self) -> Option<Instant> {
        self.heard.map(|(at, patience)| at + patience)
    }

    /// Opens a stream and serves it to its end.
    async fn live(&mut self) -> Over {
        let silence = self.silence();
        let shared = Arc::clone(&self.shared);
        let opened = tokio::select! {
            opened = self.open() => opened,
            () = sleep_until(silence) => Err(Over::Lost(silent(&shared))),
        };
        let mut open = match opened {
            Ok(open) => open,
            Err(over) => return over,
        };
        let over = self.serve(&mut open).await;
        if let Over::Broken(error) = &over
            && error.is_lost_connection()
        {
            self.forget(&open.address, &Refusal::new(error.clone()));
        }
        over
    }

    async fn serve(&mut self, open: &mut Open) -> Over {
        let of = |kind, what: &str| Error::new(kind, format!("the coordinator at {} {what}", open.address));
        let no_answer = of(ErrorKind::TimedOut, "does not answer");
        let no_word = of(ErrorKind::Unreachable, "ended the stream");
        loop {
            let patience = self
                .heard
                .map_or(JOIN_TIMEOUT, |(_, session)| session / ANSWER_SHARE);
            let answer_by = open.unanswered.front().map(|sent| *sent + patience);
            let idle_by = self.idle_by();
            let silence = self.silence();
            let over = tokio::select! {
                event = open.events.next() => match event {
                    Ok(Some(event)) => self.hear(event, open),
                    Ok(None) if self.leaving => ControlFlow::Break(Over::Left),
                    Ok(None) => ControlFlow::Break(Over::Broken(no_word.clone())),
                    Err(error) => ControlFlow::Break(Over::Broken(error.context(&open.address))),
                },
                Some(command) = self.commands.recv() => self.obey(command, open),
                () = tick(&mut open.heartbeat) => self.beat(open),
                () = sleep_until(answer_by) => ControlFlow::Break(Over::Broken(no_answer.clone())),
                () = sleep_until(idle_by) => self.leave_if_idle(open).await,
                () = sleep_until(silence) => ControlFlow::Break(Over::Lost(silent(&self.shared))),
            };
            if let ControlFlow::Break(over) = over {
                return over;
            }
        }
    }

    async fn open(&mut self) -> Result<Open, Over> {
        let identity = self.shared.identity();
        let inner = &self.client.inner;
        let found = inner
            .coordinators
            .channel(inner, &self.membership.group, JOIN_TIMEOUT);
        let (address, channel) = found.await.map_err(broken_or_fatal)?;
        let owned = match identity.epoch {
            0 => BTreeSet::new(),
            _ => self.shared.look(|slots| slots.owned(identity.life)),
        };
        let (say, said) = mpsc::channel(MAX_UNSENT);
        let join = JoinAsk {
            group: self.membership.group.to_string(),
            member_id: identity.member_id,
            epoch: identity.epoch,
            instance_id: self.membership.instance_id.clone(),
            subscription: self.membership.subscription.clone(),
            owned: owned.clone(),
            client_id: self.client.client_id().to_owned(),
            max_poll_interval: self.membership.max_poll_interval,
        };
        let _ = say.try_send(Said::Join(Box::new(join)));
        if self.leaving {
            let _ = say.try_send(self.farewell());
        }
        let sent = Instant::now();
        let opened = tokio::time::timeout(JOIN_TIMEOUT, session(channel, said)).await;
        let silent = || {
            let message =
                format!("the coordinator at {address} does not take a stream within {JOIN_TIMEOUT:?}");
            Error::new(ErrorKind::TimedOut, message)
        };
        match opened.unwrap_or_else(|_| Err(silent())) {
            Ok(events) => {
                self.stream += 1;
                Ok(Open {
                    address,
                    events,
                    say,
                    owed: Owed::at_join(owned),
                    unanswered: VecDeque::from([sent]),
                    heartbeat: None,
                })
            }
            Err(error) => {
                self.forget(&address, &Refusal::new(error.clone()));
                Err(broken_or_fatal(error.context(&address)))
            }
        }
    }

    /// Who does not answer, or does not coordinate the group, is not asked again.
    fn forget(&self, address: &str, refusal: &Refusal) {
        let inner = &self.client.inner;
        let group = &self.membership.group;
        inner.coordinators.refused(inner, group, address, refusal);
    }

    fn farewell(&self) -> Said {
        Said::Leave {
            keep_instance: self.membership.instance_id.is_some() && !self.shared.leaves_for_good(),
        }
    }

    fn hear(&mut self, event: Heard, open: &mut Open) -> ControlFlow<Over> {
        match event {
            Heard::Joined {
                member_id,
                epoch,
                heartbeat_interval,
                session_timeout,
            } => {
                self.answered(open, session_timeout);
                self.unreleased = None;
                self.outage = None;
                self.shared.note_trouble(None);
                tracing::info!(group = %self.membership.group, coordinator = %open.address, epoch, "the member has a stream to its coordinator");
                let mut heartbeat =
                    tokio::time::interval_at(Instant::now() + heartbeat_interval, heartbeat_interval);
                heartbeat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
                open.heartbeat = Some(heartbeat);
                self.shared.set_identity(|identity| {
                    identity.member_id = member_id;
                    identity.epoch = epoch;
                });
            }
            Heard::Assignment {
                version,
                epoch,
                partitions,
                unknown_topics,
            } => {
                if !unknown_topics.is_empty() {
                    tracing::warn!(group = %self.membership.group, ?unknown_topics, "subscribed topics do not exist yet");
                }
                open.owed.assigned(version, &partitions);
                self.take_epoch(epoch);
                self.direct(version, partitions);
            }
            Heard::Heartbeat { epoch } => {
                let patience = self.heard.map_or(JOIN_TIMEOUT, |(_, patience)| patience);
                self.answered(open, patience);
                self.take_epoch(epoch);
            }
            Heard::Ended(refusal) => return ControlFlow::Break(self.ended(refusal, open)),
        }
        ControlFlow::Continue(())
    }

    /// The coordinator had heard of us when the oldest message without an answer was sent, at the
    /// least.
    fn answered(&mut self, open: &mut Open, patience: Duration) {
        if let Some(sent) = open.unanswered.pop_front() {
            self.heard = Some((sent, patience));
        }
    }

    fn take_epoch(&self, epoch: u32) {
        self.shared
            .set_identity(|identity| identity.epoch = identity.epoch.max(epoch));
    }

    fn direct(&self, version: u64, target: BTreeSet<Assigned>) {
        let life = self.shared.identity().life;
        self.directives.send_replace(Directive {
            life,
            stream: self.stream,
            version,
            target: Some(target),
        });
    }

    fn ended(&mut self, refusal: Refusal, open: &Open) -> Over {
        self.forget(&open.address, &refusal);
        let group = &self.membership.group;
        let error = refusal.error.context(format!("group {group}"));
        match error.code() {
            Some(ErrorCode::FencedMemberEpoch | ErrorCode::UnknownMemberId) => Over::Lost(error),
            Some(ErrorCode::UnreleasedInstanceId) => {
                let since = *self.unreleased.get_or_insert_with(Instant::now);
                if since.elapsed() < RELEASED_WITHIN {
                    Over::Broken(error)
                } else {
                    Over::Fatal(error)
                }
            }
            _ => broken_or_fatal(error),
        }
    }

    fn obey(&mut self, command: Command, open: &mut Open) -> ControlFlow<Over> {
        let said = match command {
            Command::Reconciled { stream, version } => {
                // An earlier stream's is answered by what the newer one was opened with.
                if stream != self.stream || !open.owed.reconciled(version) {
                    return ControlFlow::Continue(());
                }
                let identity = self.shared.identity();
                Said::Revoked {
                    epoch: identity.epoch,
                    version,
                    owned: self.shared.look(|slots| slots.owned(identity.life)),
                }
            }
            Command::Leave => {
                self.leaving = true;
                self.farewell()
            }
        };
        say(open, said)
    }

    fn beat(&mut self, open: &mut Open) -> ControlFlow<Over> {
        if self.leaving {
            return ControlFlow::Continue(());
        }
        open.unanswered.push_back(Instant::now());
        let epoch = self.shared.identity().epoch;
        say(open, Said::Heartbeat { epoch })
    }

    /// When the application has called for no record for too long, if it does not until then.
    fn idle_by(&self) -> Option<Instant> {
        self.heard?;
        let since = self.shared.idle_since().unwrap_or_else(Instant::now);
        Some(since + self.membership.max_poll_interval)
    }

    async fn leave_if_idle(&mut self, open: &mut Open) -> ControlFlow<Over> {
        let is_over = self.idle_by().is_some_and(|by| by <= Instant::now());
        if !is_over || self.leaving || self.shared.assignment().is_empty() {
            // Nothing is held up by a member that holds nothing.
            self.shared.polled_now();
            return ControlFlow::Continue(());
        }
        self.stop_reading();
        let _ = open.say.try_send(Said::Leave { keep_instance: false });
        // So that the farewell is not cut off by the stream's end; its answer does not matter.
        let farewell = async { while let Ok(Some(_)) = open.events.next().await {} };
        let _ = tokio::time::timeout(JOIN_TIMEOUT, farewell).await;
        ControlFlow::Break(Over::Idle)
    }

    /// Everything this member owned may be another's by now.
    fn lose(&mut self, why: &Error) {
        self.heard = None;
        let mut life = 0;
        self.shared.set_identity(|identity| {
            identity.life += 1;
            identity.epoch = 0;
            life = identity.life;
        });
        let count = self.stop_reading();
        tracing::warn!(group = %self.membership.group, error = %why, partitions = count, "the member lost its partitions");
        self.directives.send_replace(Directive {
            life,
            stream: self.stream,
            version: 0,
            target: None,
        });
    }

    /// Nothing is handed out any more, whatever the reconciler is busy with. Says how many
    /// partitions that concerns.
    fn stop_reading(&self) -> usize {
        self.shared.change(|slots| {
            let all: Vec<_> = slots.by_id.keys().copied().collect();
            for id in &all {
                slots.leave(*id);
            }
            all.len()
        })
    }

    /// Waits until the application calls for a record, or wants to leave for good.
    async fn called(&mut self) {
        loop {
            let shared = Arc::clone(&self.shared);
            let progress = shared.progress();
            if shared.idle_since().is_none() {
                return;
            }
            tokio::select! {
                () = progress => {}
                command = self.commands.recv() => {
                    if matches!(command, None | Some(Command::Leave)) {
                        self.leaving = true;
                        return;
                    }
                }
            }
        }
    }
}

fn say(open: &Open, said: Said) -> ControlFlow<Over> {
    match open.say.try_send(said) {
        Ok(()) => ControlFlow::Continue(()),
        // Nothing has gone out for as many heartbeats: that connection is dead.
        Err(_) => ControlFlow::Break(Over::Broken(Error::new(
            ErrorKind::TimedOut,
            format!("nothing more can be sent to the coordinator at {}", open.address),
        ))),
    }
}

async fn tick(heartbeat: &mut Option<tokio::time::Interval>) {
    match heartbeat {
        Some(heartbeat) => {
            let _ = heartbeat.tick().await;
        }
        None => std::future::pending().await,
    }
}

fn broken_or_fatal(error: Error) -> Over {
    if error.is_retriable() {
        Over::Broken(error)
    } else {
        Over::Fatal(error)
    }
}

fn silent(shared: &Shared) -> Error {
    let mut message =
        "the coordinator was not heard of for the session timeout: it has removed this member by now"
            .to_owned();
    if let Some(error) = shared.trouble() {
        message = format!("{message}; the last failure: {error}");
    }
    Error::new(ErrorKind::TimedOut, message)
}

fn idle(interval: Duration) -> Error {
    let message = format!(
        "the application called for no record for max_poll_interval ({} ms): the member left the group",
        interval.as_millis()
    );
    Error::new(ErrorKind::TimedOut, message)
}
