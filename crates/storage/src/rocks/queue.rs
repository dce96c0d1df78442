//! The queue in front of the writer thread.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::SyncSender;

use parking_lot::{Condvar, Mutex};
use tidelog_log::{Append, StoreError, Truncate};
use tidelog_types::{ClusterId, LocalPartition, Offset, TopicIdPartition};

/// Most bytes of appends that one write takes together, unless one append alone is larger.
pub(crate) const MAX_GROUP_BYTES: usize = 4 * 1024 * 1024;
/// Most commands that one write takes together.
const MAX_GROUP_COMMANDS: usize = 4096;
/// What a command takes beside its payload, roughly, bytes.
const COMMAND_OVERHEAD_BYTES: usize = 128;

/// Where the answer of a command goes.
pub(crate) type Reply<T> = SyncSender<Result<T, StoreError>>;

/// What the writer thread does.
pub(crate) enum Command {
    Append(Append),
    Checkpoint(LocalPartition, Offset),
    Trim(LocalPartition, Offset),
    Truncate(Truncate),
    Create(TopicIdPartition, Reply<LocalPartition>),
    Delete(LocalPartition, Reply<()>),
    /// Frees what lies below log starts.
    Reclaim(Vec<(LocalPartition, Offset)>, Reply<()>),
    /// Answers once everything before it is written.
    Barrier(Reply<()>),
    AdoptCluster(ClusterId, Reply<()>),
}

impl Command {
    fn cost(&self) -> usize {
        COMMAND_OVERHEAD_BYTES
            + match self {
                Self::Append(append) => append.batches.iter().map(|batch| batch.bytes.len()).sum(),
                _ => 0,
            }
    }
}

/// Commands in the order of the calls. What is in it is bounded by its callers, who look at
/// [`Queue::bytes`].
#[derive(Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    arrived: Condvar,
    /// Of commands that are queued or being written.
    bytes: AtomicUsize,
}

#[derive(Default)]
struct State {
    commands: VecDeque<Command>,
    waiting: bool,
    closed: bool,
}

/// Commands to be written together, and what they weigh.
pub(crate) struct Group {
    pub(crate) commands: Vec<Command>,
    pub(crate) bytes: usize,
}

impl Queue {
    /// Enqueues, unless the queue is closed: then the command is dropped, and with it whoever's
    /// reply.
    pub(crate) fn push(&self, command: Command) {
        let mut state = self.state.lock();
        if state.closed {
            return;
        }
        self.bytes.fetch_add(command.cost(), Ordering::Relaxed);
        state.commands.push_back(command);
        if state.waiting {
            state.waiting = false;
            drop(state);
            self.arrived.notify_one();
        }
    }

    /// The next commands, as many as may go together; waits for one. `None` once closed and empty.
    pub(crate) fn next_group(&self) -> Option<Group> {
        let mut state = self.state.lock();
        while state.commands.is_empty() {
            if state.closed {
                return None;
            }
            state.waiting = true;
            self.arrived.wait(&mut state);
        }
        let mut group = Group {
            commands: Vec::new(),
            bytes: 0,
        };
        while let Some(command) = state.commands.front() {
            let cost = command.cost();
            let full = group.bytes + cost > MAX_GROUP_BYTES || group.commands.len() == MAX_GROUP_COMMANDS;
            if full && !group.commands.is_empty() {
                break;
            }
            group.bytes += cost;
            group.commands.extend(state.commands.pop_front());
        }
        Some(group)
    }

    /// Notes that a group is written.
    pub(crate) fn written(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Bytes queued or being written.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Takes nothing more; what is queued can still be taken out.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.arrived.notify_all();
    }

    /// Drops what is queued and takes nothing more; waiting callers see their reply dropped.
    pub(crate) fn abandon(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.commands.clear();
        self.bytes.store(0, Ordering::Relaxed);
        drop(state);
        self.arrived.notify_all();
    }
}
