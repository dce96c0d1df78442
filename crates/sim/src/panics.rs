//! Panics of runs: caught, with what was said and where.
//!
//! Where a program panics only its hook is told, and there is one for the whole process. Ours takes
//! what a run says and leaves everything else to the hook that was there before.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    /// Whether this thread is in a run.
    static RUNNING: Cell<bool> = const { Cell::new(false) };
    /// What its panic said.
    static SAID: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Does something; an error says how it panicked. What it had changed by then is as it left it.
pub(crate) fn caught(act: impl FnOnce()) -> Result<(), String> {
    hook();
    RUNNING.set(true);
    let done = catch_unwind(AssertUnwindSafe(act));
    RUNNING.set(false);
    done.map_err(|_| SAID.take().unwrap_or_default())
}

fn hook() {
    static HOOKED: Once = Once::new();
    HOOKED.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |panic| {
            if !RUNNING.get() {
                return before(panic);
            }
            let backtrace = Backtrace::capture();
            if backtrace.status() == BacktraceStatus::Captured {
                eprintln!("{backtrace}");
            }
            SAID.set(Some(panic.to_string().replace('\n', " ")));
        }));
    });
}
