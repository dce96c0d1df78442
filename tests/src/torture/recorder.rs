//! Where everybody tells what happens: in one order, and shown to the checker at once.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use tidelog_history::event::Request;
use tidelog_history::{Checker, Event, What};
use tokio::sync::watch;

/// How many of the newest events are kept for a message.
const KEPT: usize = 60;

/// Takes events. Cheap to clone.
#[derive(Clone)]
pub struct Recorder(Arc<Inner>);

struct Inner {
    began: Instant,
    state: Mutex<State>,
    violation: watch::Sender<Option<String>>,
}

struct State {
    checker: Checker,
    recent: VecDeque<String>,
    count: usize,
    next_request: u64,
}

impl Default for Recorder {
    fn default() -> Self {
        Self::new()
    }
}

impl Recorder {
    /// An empty history that begins now.
    pub fn new() -> Self {
        let state = State {
            checker: Checker::new(),
            recent: VecDeque::new(),
            count: 0,
            next_request: 0,
        };
        Self(Arc::new(Inner {
            began: Instant::now(),
            state: Mutex::new(state),
            violation: watch::Sender::new(None),
        }))
    }

    /// Takes an event.
    pub fn note(&self, what: What) {
        self.take(&mut self.0.state.lock(), what);
    }

    /// Takes the event that a request is sent, which its answer will name.
    pub fn ask(&self, what: impl FnOnce(Request) -> What) -> Request {
        let mut state = self.0.state.lock();
        state.next_request += 1;
        let request = Request(state.next_request);
        self.take(&mut state, what(request));
        request
    }

    /// How many events there were.
    pub fn count(&self) -> usize {
        self.0.state.lock().count
    }

    /// Waits until an invariant is violated, and tells which and how. Never answers in a good run.
    pub async fn violated(&self) -> String {
        let mut violation = self.0.violation.subscribe();
        let seen = violation.wait_for(Option::is_some).await;
        seen.ok().and_then(|seen| seen.clone()).unwrap_or_default()
    }

    /// The violation there was, if any.
    pub fn violation(&self) -> Option<String> {
        self.0.violation.borrow().clone()
    }

    /// The history is at its end: what holds only at the end is looked at.
    pub fn finish(&self) {
        let mut state = self.0.state.lock();
        if let Err(violation) = state.checker.finish() {
            self.violate(&state, &violation.to_string());
        }
    }

    fn take(&self, state: &mut State, what: What) {
        let event = Event {
            at: self.0.began.elapsed(),
            what,
        };
        if state.recent.len() == KEPT {
            state.recent.pop_front();
        }
        state.recent.push_back(event.to_string());
        state.count += 1;
        if let Err(violation) = state.checker.take(&event) {
            self.violate(state, &violation.to_string());
        }
    }

    fn violate(&self, state: &State, violation: &str) {
        self.0.violation.send_if_modified(|known| {
            let is_first = known.is_none();
            if is_first {
                let recent: Vec<&str> = state.recent.iter().map(String::as_str).collect();
                *known = Some(format!(
                    "{violation}\nthe events before it:\n  {}",
                    recent.join("\n  ")
                ));
            }
            is_first
        });
    }
}
