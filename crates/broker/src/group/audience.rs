//! Who asks a coordinator of groups, and who is told.

use std::collections::HashMap;

use tidelog_group::{
    Command, CommitFailure, Coordinator, Effect, Join, MemberEpoch, MemberId, OffsetToCommit, Reply,
    RequestId, StreamId,
};
use tidelog_types::{GroupId, PartitionError};
use tokio::sync::{mpsc, oneshot};

use crate::coordinator::Audience;

/// What a coordinator of groups is asked.
pub enum Request {
    /// A new stream of a member.
    Join {
        /// The stream.
        stream: StreamId,
        /// Its first message.
        join: Box<Join>,
        /// Where its events go. A member whose events do not fit is cut off, and resumes.
        events: mpsc::Sender<Effect>,
    },
    /// A later message of a stream, or its end.
    Stream(Command),
    /// Offsets to commit.
    Commit {
        /// The group.
        group: GroupId,
        /// The member and its epoch; `None` for a consumer that is no member.
        member: Option<(MemberId, MemberEpoch)>,
        /// The offsets.
        offsets: Vec<OffsetToCommit>,
        /// Where the answer goes.
        done: oneshot::Sender<Result<Vec<CommitFailure>, PartitionError>>,
    },
    /// A group to delete.
    Delete {
        /// The group.
        group: GroupId,
        /// Where the answer goes.
        done: oneshot::Sender<Result<(), PartitionError>>,
    },
    /// A look at what is committed.
    Read(Box<dyn FnOnce(&Coordinator) + Send>),
}

/// The streams of one coordinator's members, and the requests that wait for replication.
#[derive(Default)]
pub struct GroupAudience {
    streams: HashMap<StreamId, mpsc::Sender<Effect>>,
    waiters: HashMap<RequestId, Waiter>,
    next_request: u64,
}

enum Waiter {
    Commit(oneshot::Sender<Result<Vec<CommitFailure>, PartitionError>>),
    Delete(oneshot::Sender<Result<(), PartitionError>>),
}

impl Audience<Coordinator> for GroupAudience {
    type Request = Request;

    fn admit(&mut self, request: Request, coordinator: &Coordinator) -> Option<Command> {
        Some(match request {
            Request::Read(read) => {
                read(coordinator);
                return None;
            }
            Request::Join { stream, join, events } => {
                self.streams.insert(stream, events);
                Command::Join { stream, join }
            }
            Request::Stream(command) => {
                if let Command::Disconnected { stream } = &command {
                    self.streams.remove(stream);
                }
                command
            }
            Request::Commit {
                group,
                member,
                offsets,
                done,
            } => Command::Commit {
                request: self.wait(Waiter::Commit(done)),
                group,
                member,
                offsets,
            },
            Request::Delete { group, done } => Command::Delete {
                request: self.wait(Waiter::Delete(done)),
                group,
            },
        })
    }

    fn tell(&mut self, effect: Effect) -> Result<(), Effect> {
        let stream = match effect {
            Effect::Reply { request, reply } => {
                // An asker that gave up waiting is not told.
                match (self.waiters.remove(&request), reply) {
                    (Some(Waiter::Commit(done)), Reply::Committed(result)) => drop(done.send(result)),
                    (Some(Waiter::Delete(done)), Reply::Deleted(result)) => drop(done.send(result)),
                    _ => {}
                }
                return Ok(());
            }
            Effect::End { stream, .. } => {
                if let Some(events) = self.streams.remove(&stream) {
                    let _ = events.try_send(effect);
                }
                return Ok(());
            }
            Effect::Joined { stream, .. }
            | Effect::Assign { stream, .. }
            | Effect::HeartbeatAnswer { stream, .. } => stream,
        };
        let Some(events) = self.streams.get(&stream) else {
            return Ok(());
        };
        events.try_send(effect).map_err(|unsent| {
            tracing::warn!(%stream, "a member's stream does not read its events and is cut off");
            self.streams.remove(&stream);
            unsent.into_inner()
        })
    }

    fn refuse(&mut self, request: Request, why: &PartitionError) {
        match request {
            Request::Join { stream, events, .. } => {
                let error = Some(why.clone());
                let _ = events.try_send(Effect::End { stream, error });
            }
            Request::Commit { done, .. } => drop(done.send(Err(why.clone()))),
            Request::Delete { done, .. } => drop(done.send(Err(why.clone()))),
            // A reader and a stream learn it from what is dropped.
            Request::Read(_) | Request::Stream(_) => {}
        }
    }

    fn end(self, why: &PartitionError) {
        for (stream, events) in self.streams {
            let error = Some(why.clone());
            let _ = events.try_send(Effect::End { stream, error });
        }
        for waiter in self.waiters.into_values() {
            match waiter {
                Waiter::Commit(done) => drop(done.send(Err(why.clone()))),
                Waiter::Delete(done) => drop(done.send(Err(why.clone()))),
            }
        }
    }
}

impl GroupAudience {
    fn wait(&mut self, waiter: Waiter) -> RequestId {
        self.next_request += 1;
        let request = RequestId(self.next_request);
        self.waiters.insert(request, waiter);
        request
    }
}
