//! The lines that wait to be written, bounded, and the thread that writes them.
//!
//! No crate does this: the writer of tracing-appender says by `eprintln!` that its queue does not
//! drain, which panics where standard error is gone and blocks where nobody reads it, and it does
//! not tell how many lines were lost.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Most lines that wait.
const MAX_LINES: usize = 10_000;
/// Most bytes that wait.
const MAX_BYTES: usize = 4 * 1024 * 1024;
/// How long a writer that takes nothing at the moment, and does not wait by itself, is left alone.
const PAUSE: Duration = Duration::from_millis(20);

/// The line, with its end, that tells of so many lost ones.
pub(super) type Notice = fn(u64) -> Vec<u8>;

/// Takes lines without ever waiting. Cheap to clone.
#[derive(Clone)]
pub(super) struct Queue {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// There is something to write.
    filled: Condvar,
    /// There is nothing to write any more.
    drained: Condvar,
}

struct State {
    entries: VecDeque<Entry>,
    lines: usize,
    bytes: usize,
    /// Whether the thread is at a line that it took.
    writing: bool,
    notice: Notice,
}

enum Entry {
    Line(Vec<u8>),
    /// So many lines found no room here.
    Lost(u64),
}

impl Queue {
    /// Starts the thread that writes to `out`.
    pub(super) fn start(out: impl Write + Send + 'static, notice: Notice) -> Self {
        let queue = Self {
            shared: Arc::new(Shared {
                state: Mutex::new(State {
                    entries: VecDeque::new(),
                    lines: 0,
                    bytes: 0,
                    writing: false,
                    notice,
                }),
                filled: Condvar::new(),
                drained: Condvar::new(),
            }),
        };
        let shared = Arc::clone(&queue.shared);
        let pump = Pump {
            out,
            lost: 0,
            torn: false,
        };
        // Without a thread to spare lines are counted as lost, and the process goes on.
        let _ = std::thread::Builder::new()
            .name("stderr".to_owned())
            .spawn(move || pump.run(&shared));
        queue
    }

    /// From now on lost lines are told of like this.
    pub(super) fn set_notice(&self, notice: Notice) {
        self.lock().notice = notice;
    }

    /// Takes a line, or counts it as lost when too much waits.
    pub(super) fn push(&self, line: Vec<u8>) {
        let mut state = self.lock();
        if state.lines >= MAX_LINES || state.bytes + line.len() > MAX_BYTES {
            match state.entries.back_mut() {
                Some(Entry::Lost(lost)) => *lost += 1,
                _ => state.entries.push_back(Entry::Lost(1)),
            }
        } else {
            state.lines += 1;
            state.bytes += line.len();
            state.entries.push_back(Entry::Line(line));
        }
        drop(state);
        self.shared.filled.notify_one();
    }

    /// Waits until everything is written or given up; no longer than `within`. Whether it is.
    pub(super) fn flush(&self, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        let mut state = self.lock();
        while state.writing || !state.entries.is_empty() {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                return false;
            };
            let waited = self.shared.drained.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.lock()
    }
}

impl Shared {
    /// A panic elsewhere leaves the state whole: no step under the lock may fail.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next entry, waiting for one, and how lost lines are told of.
    fn take(&self) -> (Entry, Notice) {
        let mut state = self.lock();
        state.writing = false;
        loop {
            if let Some(entry) = state.entries.pop_front() {
                if let Entry::Line(line) = &entry {
                    state.lines -= 1;
                    state.bytes -= line.len();
                }
                state.writing = true;
                return (entry, state.notice);
            }
            self.drained.notify_all();
            state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// The thread's own.
struct Pump<W> {
    out: W,
    /// Lines that are lost and not told of.
    lost: u64,
    /// Whether a line was written in part.
    torn: bool,
}

impl<W: Write> Pump<W> {
    fn run(mut self, shared: &Shared) {
        loop {
            match shared.take() {
                (Entry::Line(line), notice) => {
                    if !self.tell_lost(notice) || self.write(&line).is_err() {
                        self.lost += 1;
                    }
                }
                (Entry::Lost(lost), notice) => {
                    self.lost += lost;
                    self.tell_lost(notice);
                }
            }
        }
    }

    /// Tells of what is lost. Whether nothing is left to be told.
    fn tell_lost(&mut self, notice: Notice) -> bool {
        if self.lost == 0 {
            return true;
        }
        let told = self.write(&notice(self.lost)).is_ok();
        if told {
            self.lost = 0;
        }
        told
    }

    /// Writes all of a line. A disk that fills up in the middle of one leaves a part, which the
    /// next line must not continue.
    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        if self.torn {
            self.write_all(b"\n")?;
            self.torn = false;
        }
        self.write_all(line)
    }

    fn write_all(&mut self, mut rest: &[u8]) -> io::Result<()> {
        while !rest.is_empty() {
            match self.out.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    rest = &rest[written..];
                    self.torn = !rest.is_empty();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(PAUSE),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    /// Takes what it is told to take: each write waits for its order.
    struct Ordered {
        orders: mpsc::Receiver<Order>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    enum Order {
        TakeOneByte,
        Refuse,
    }

    impl Write for Ordered {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = match self.orders.recv() {
                Ok(Order::Refuse) => return Err(io::ErrorKind::StorageFull.into()),
                Ok(Order::TakeOneByte) => 1,
                // Whoever gave the orders is gone: everything is taken.
                Err(_) => bytes.len(),
            };
            self.written.lock().unwrap().extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Rig {
        queue: Queue,
        orders: Option<mpsc::Sender<Order>>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Rig {
        fn new() -> Self {
            let (orders, receiver) = mpsc::channel();
            let written = Arc::default();
            let out = Ordered {
                orders: receiver,
                written: Arc::clone(&written),
            };
            Self {
                queue: Queue::start(out, |lost| format!("{lost} lost\n").into_bytes()),
                orders: Some(orders),
                written,
            }
        }

        fn line(&self, line: &str) {
            self.queue.push(format!("{line}\n").into_bytes());
        }

        fn order(&self, order: Order) {
            self.orders.as_ref().unwrap().send(order).unwrap();
        }

        /// What was written once everything is taken again.
        fn end(mut self) -> String {
            self.orders = None;
            assert!(self.queue.flush(SOON));
            String::from_utf8(self.written.lock().unwrap().clone()).unwrap()
        }
    }

    #[test]
    fn lines_come_in_order() {
        let rig = Rig::new();
        rig.line("one");
        rig.line("two");
        assert_eq!(rig.end(), "one\ntwo\n");
    }

    #[test]
    fn refused_lines_are_told_of_once_when_the_next_is_taken() {
        let rig = Rig::new();
        for line in ["one", "two", "three"] {
            rig.line(line);
        }
        // The first; then the notices of it in place of the two others.
        for _ in 0..3 {
            rig.order(Order::Refuse);
        }
        assert!(rig.queue.flush(SOON), "a line that is refused is given up");
        rig.line("four");
        rig.line("five");
        assert_eq!(rig.end(), "3 lost\nfour\nfive\n");
    }

    #[test]
    fn a_line_of_which_a_part_was_taken_is_not_continued_by_the_next() {
        let rig = Rig::new();
        rig.line("one");
        rig.order(Order::TakeOneByte);
        rig.order(Order::Refuse);
        assert!(rig.queue.flush(SOON));
        rig.line("two");
        assert_eq!(rig.end(), "o\n1 lost\ntwo\n");
    }

    #[test]
    fn whoever_writes_never_waits_and_what_found_no_room_is_told_of_in_its_place() {
        let rig = Rig::new();
        // The thread waits with the first of them, if it has taken it already.
        for number in 0..MAX_LINES + 10 {
            rig.line(&number.to_string());
        }
        assert!(!rig.queue.flush(Duration::from_millis(1)), "nothing is taken");
        let written = rig.end();
        let lines: Vec<&str> = written.lines().collect();
        let (told, kept): (Vec<&str>, Vec<&str>) = lines.iter().partition(|line| line.ends_with("lost"));
        assert!(kept.len() >= MAX_LINES, "{}", kept.len());
        let lost: usize = told
            .iter()
            .map(|line| line.trim_end_matches(" lost").parse::<usize>().unwrap())
            .sum();
        assert_eq!(kept.len() + lost, MAX_LINES + 10);
        assert!(lines.last().unwrap().ends_with("lost"), "{:?}", lines.last());
    }

    #[test]
    fn bytes_are_bounded_too() {
        let rig = Rig::new();
        let long = "x".repeat(MAX_BYTES / 4);
        for _ in 0..8 {
            rig.line(&long);
        }
        let written = rig.end();
        assert!(written.len() <= MAX_BYTES + long.len() + 64, "{}", written.len());
        assert!(written.contains(" lost\n"));
    }
}
