//! Signals to commands that find no cluster, and what these say while they look for one.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::streams::{ends, full_pipe};
use super::tidelog;

/// Nobody listens there.
const NOBODY: &str = "127.0.0.1:1";
/// How long a command may take to end after the first signal.
const GRACE: Duration = Duration::from_secs(5);

/// One command of each kind that talks to a cluster.
const CONNECTING: &[&[&str]] = &[
    &["topic", "list"],
    &["topic", "create", "t"],
    &["group", "list"],
    &["group", "describe", "g"],
    &["cluster", "status"],
    &["produce", "t"],
    &["consume", "t", "--from", "latest"],
    &["consume", "t", "-g", "g"],
    &["bench", "produce"],
    &["bench", "consume"],
    &["bench", "latency"],
];

fn connecting(words: &[&str], stderr: Stdio) -> Child {
    tidelog()
        .args(words)
        .args(["--bootstrap", NOBODY, "--timeout", "600"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(stderr)
        .spawn()
        .unwrap()
}

fn signal(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

/// What is said up to the line that holds these words.
fn until(said: &mut impl BufRead, words: &str) -> String {
    let mut text = String::new();
    while !text.contains(words) {
        assert_ne!(
            said.read_line(&mut text).unwrap(),
            0,
            "{words:?} is not said: {text}"
        );
    }
    text
}

#[test]
fn who_waits_for_a_cluster_says_where_and_why_and_heeds_signals() {
    let children: Vec<_> = CONNECTING
        .iter()
        .map(|words| (words, connecting(words, Stdio::piped())))
        .collect();
    for ((words, mut child), number) in children.into_iter().zip(0..) {
        let mut said = BufReader::new(child.stderr.take().unwrap());
        let waits = until(&mut said, "600 s");
        for part in [NOBODY, "Connection refused", "600 s"] {
            assert!(waits.contains(part), "{words:?}: {waits}");
        }
        let began = Instant::now();
        signal(
            &child,
            if number % 2 == 0 {
                Signal::INT
            } else {
                Signal::TERM
            },
        );
        let status = ends(&mut child);
        assert_eq!(status.code(), Some(130), "{words:?}");
        assert!(began.elapsed() < GRACE, "{words:?} took {:?}", began.elapsed());
        until(&mut said, "interrupted while connecting");
    }
}

#[test]
fn a_signal_is_heeded_although_nobody_reads_standard_error() {
    let (_unread, stderr) = full_pipe();
    let mut child = connecting(&["topic", "list"], stderr);
    // It begins to listen some time after its start: the signal is sent until it ends.
    let deadline = Instant::now() + GRACE;
    while child.try_wait().unwrap().is_none() && Instant::now() < deadline {
        signal(&child, Signal::INT);
        std::thread::sleep(Duration::from_millis(50));
    }
    let status = ends(&mut child);
    // Before it listens, the signal ends it as it ends any program.
    assert!(matches!(status.code(), Some(130) | None), "{status}");
}

#[test]
fn giving_up_names_the_address_the_cause_and_the_flag() {
    for words in [
        &["topic", "create", "t"][..],
        &["group", "describe", "g"],
        &["produce", "t"],
    ] {
        let output = tidelog()
            .args(words)
            .args(["--bootstrap", NOBODY, "--timeout", "1"])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(3), "{words:?}: {said}");
        for part in [NOBODY, "Connection refused", "--bootstrap"] {
            assert!(said.contains(part), "{words:?}: {said}");
        }
    }
}
