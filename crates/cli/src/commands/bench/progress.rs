//! How far a benchmark is, on a terminal.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::stderr;

/// How often it is drawn.
const INTERVAL: Duration = Duration::from_millis(250);

/// Counts records, and shows them from a thread of its own: a terminal that is stopped stops no
/// load. On anything but a terminal nothing is shown.
pub(super) struct Progress {
    shared: Arc<Shared>,
    drawn: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    records: AtomicU64,
    over: AtomicBool,
}

impl Progress {
    /// Begins to show, of a run that is to last so long or so many records.
    pub(super) fn start(what: &'static str, seconds: Option<u64>, records: Option<u64>) -> Self {
        let shared = Arc::new(Shared::default());
        let bar = ProgressBar::new(seconds.or(records).unwrap_or(1));
        let drawn = (!bar.is_hidden()).then(|| {
            let style =
                ProgressStyle::with_template("{msg} [{bar:30}]").map(|style| style.progress_chars("=> "));
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            stderr::set_bar(Some(bar.clone()));
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || draw(&bar, &shared, what, seconds.is_some()))
        });
        Self { shared, drawn }
    }

    /// So many records are done.
    pub(super) fn set(&self, records: u64) {
        self.shared.records.store(records, Ordering::Relaxed);
    }

    /// Takes the bar away.
    pub(super) fn end(mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        if let Some(drawn) = self.drawn.take() {
            drawn.thread().unpark();
            // It panics nowhere; if it did, the figures are shown all the same.
            let _ = drawn.join();
        }
    }
}

fn draw(bar: &ProgressBar, shared: &Shared, what: &str, by_time: bool) {
    let began = Instant::now();
    let mut before = 0;
    while !shared.over.load(Ordering::Relaxed) {
        let records = shared.records.load(Ordering::Relaxed);
        let rate = (records - before) as f64 / INTERVAL.as_secs_f64();
        before = records;
        bar.set_message(format!("{records} records {what}, {rate:.0}/s"));
        bar.set_position(if by_time {
            began.elapsed().as_secs()
        } else {
            records
        });
        bar.tick();
        std::thread::park_timeout(INTERVAL);
    }
    stderr::set_bar(None);
    bar.finish_and_clear();
}
