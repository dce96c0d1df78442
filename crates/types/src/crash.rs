//! Points between two steps of which each is durable by itself: where a test lets a process die.
//!
//! Code that writes to a disk passes [`point`] between its steps. Without the feature `failpoints`
//! that compiles to nothing. With it, a test *arms* the process with a hook that is called at every
//! passing, by name, and may end the process there. One run that counts the passings enumerates
//! every place at which it can be killed; a run for each of them then leaves no gap between two
//! writes untested:
//!
//! 1. A child process (the test's own executable) arms a hook, lives through a script, and notes
//!    what it was answered.
//! 2. The hook notes what has reached the disk: after a sync, how long the file was; after a
//!    rename, whether its folder was synced. At the n-th passing of the chosen point it aborts the
//!    process. A hook runs under one lock, so nothing passes another point meanwhile.
//! 3. The parent takes away what was not synced (the page cache survives a process, but not a power
//!    cut), opens what is left, and holds it against what was answered.
//!
//! A name says the component, the thing and what has just been done, `crash:metadata/vote/saved`;
//! the prefix is what a program that was built without the feature is searched for.
//! `metadata/src/store/tests/crash.rs` shows the pattern.

/// A place at which a process may die. Does nothing in what is shipped.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub const fn point(_name: &'static str) {}

#[cfg(feature = "failpoints")]
pub use armed::{arm, point};

#[cfg(feature = "failpoints")]
mod armed {
    use std::sync::{Mutex, OnceLock, PoisonError};

    type Hook = Box<dyn FnMut(&'static str) + Send>;

    static HOOK: OnceLock<Mutex<Hook>> = OnceLock::new();

    /// A place at which a process may die.
    pub fn point(name: &'static str) {
        if let Some(hook) = HOOK.get() {
            hook.lock().unwrap_or_else(PoisonError::into_inner)(name);
        }
    }

    /// Has a hook called at every passing from here on, for the rest of the process. It must not
    /// pass a point itself. A second one is ignored.
    pub fn arm(hook: impl FnMut(&'static str) + Send + 'static) {
        let _ = HOOK.set(Mutex::new(Box::new(hook)));
    }
}
