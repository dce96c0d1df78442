//! Standard error: every line that the program says of itself goes through here.
//!
//! Whoever says something never waits and never fails, whatever became of the reader: a broker does
//! not stop because a log collector did, and no command because a pipe is closed. A thread of its
//! own writes; what it cannot write is counted, and told of when lines are taken again. At the end
//! of the program, in order or by a panic, what waits is written if that takes no long time.

mod queue;

use std::fmt;
use std::io::{self, Write};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use indicatif::ProgressBar;

use queue::Queue;

/// How long the program's end waits for standard error to take what was said.
pub(crate) const AT_THE_END: Duration = Duration::from_secs(1);
/// How long a line may take to get past a progress bar.
const PAST_A_BAR: Duration = Duration::from_millis(100);

/// There is one standard error in a process, as there is one in the standard library.
static QUEUE: LazyLock<Queue> = LazyLock::new(|| Queue::start(io::stderr(), plain_notice));
static BAR: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// Says a line on standard error: `eprintln!` that neither panics nor waits.
#[macro_export]
macro_rules! tell {
    ($($text:tt)*) => { $crate::stderr::line(::std::format_args!($($text)*)) };
}

/// Says a line.
pub(crate) fn line(text: fmt::Arguments<'_>) {
    emit(format!("{text}\n").into_bytes());
}

/// Says what brings its own line end.
pub(crate) fn emit(bytes: Vec<u8>) {
    let bar = BAR.lock().unwrap_or_else(PoisonError::into_inner).clone();
    match bar {
        None => QUEUE.push(bytes),
        // The bar makes way, and is drawn again below the line.
        Some(bar) => bar.suspend(|| {
            QUEUE.push(bytes);
            QUEUE.flush(PAST_A_BAR);
        }),
    }
}

/// Waits until what was said is written, but no longer than this.
pub(crate) fn flush(within: Duration) {
    QUEUE.flush(within);
}

/// Lines go above this bar, while there is one.
pub(crate) fn set_bar(bar: Option<ProgressBar>) {
    *BAR.lock().unwrap_or_else(PoisonError::into_inner) = bar;
}

/// How lost lines are told of from now on.
pub(crate) fn set_notice(notice: fn(u64) -> Vec<u8>) {
    QUEUE.set_notice(notice);
}

fn plain_notice(lost: u64) -> Vec<u8> {
    format!("tidelog: {lost} line(s) are lost here: standard error did not take them\n").into_bytes()
}

/// For whatever formats a line itself and writes it in one piece. Never fails.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        emit(bytes.to_vec());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
