//! Standard output and standard error that do not take what is written: closed by their reader,
//! full, on a full disk.

use std::fs::File;
use std::io::{PipeReader, Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::data::Fixture;
use super::tidelog;

/// How long a command may take that has nothing to do.
const SOON: Duration = Duration::from_secs(30);
/// Nobody listens there.
const NOBODY: &str = "127.0.0.1:1";

/// Commands that say something on standard error, with their exit codes.
const TALKING: &[(&[&str], i32)] = &[
    (&["no-such-command"], 2),
    (&["log", "verify", "/no/such/folder"], 4),
    (&["server", "--check-config"], 2),
    (&["topic", "list", "--timeout", "2", "--bootstrap", NOBODY], 3),
    (&["produce", "t", "--timeout", "2", "--bootstrap", NOBODY], 3),
    (
        &[
            "consume",
            "t",
            "--from",
            "latest",
            "--timeout",
            "1",
            "--bootstrap",
            NOBODY,
        ],
        3,
    ),
];

/// Waits for a process's end; one that does not end is killed, and fails the test.
pub(super) fn ends(child: &mut Child) -> ExitStatus {
    let deadline = Instant::now() + SOON;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("the process hangs");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn full_disk() -> File {
    File::options().write(true).open("/dev/full").unwrap()
}

/// A pipe without any room. The reader keeps it open.
pub(super) fn full_pipe() -> (PipeReader, Stdio) {
    let (reader, writer) = std::io::pipe().unwrap();
    rustix::io::ioctl_fionbio(&writer, true).unwrap();
    while (&writer).write(&[b'x'; 64]).is_ok() {}
    while (&writer).write(b"x").is_ok() {}
    rustix::io::ioctl_fionbio(&writer, false).unwrap();
    (reader, writer.into())
}

/// A pipe that nobody can read any more.
fn closed_pipe() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

fn spawn(mut command: Command, stdout: Stdio, stderr: Stdio) -> Child {
    command
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(stderr)
        .spawn()
        .unwrap()
}

fn command(words: &[&str]) -> Command {
    let mut command = tidelog();
    command.args(words);
    command
}

#[test]
fn commands_end_as_always_whatever_became_of_standard_error() {
    for (words, code) in TALKING {
        let (_unread, full) = full_pipe();
        for (what, stderr) in [
            ("closed", closed_pipe()),
            ("full", full),
            ("a full disk", full_disk().into()),
        ] {
            let mut child = spawn(command(words), Stdio::null(), stderr);
            let status = ends(&mut child);
            assert_eq!(status.code(), Some(*code), "{words:?} with {what}: {status}");
        }
    }
}

#[test]
fn a_full_disk_on_standard_output_is_1_in_a_sentence() {
    let fixture = Fixture::new(1, b"value");
    let path = fixture.path().to_str().unwrap();
    for words in [
        &["--help"][..],
        &["completions", "bash"],
        &["server", "--check-config", "--node-id", "1", "--data-dir", "D"],
        &["log", "dump", path],
        &["log", "dump", path, "-o", "json"],
        &["log", "dump", path, "--records"],
        &["log", "stats", path, "-o", "json"],
    ] {
        let child = spawn(command(words), full_disk().into(), Stdio::piped());
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{words:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{words:?}: {said}");
        assert!(
            said.contains("standard output") && said.contains("No space left"),
            "{words:?}: {said}"
        );
    }
}

#[test]
fn a_closed_pipe_on_standard_output_is_0_and_silent() {
    for words in [&["--help"][..], &["completions", "bash"]] {
        let child = spawn(command(words), closed_pipe(), Stdio::piped());
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), said.as_str()), (Some(0), ""), "{words:?}");
    }
}

#[test]
fn what_is_said_is_whole_when_the_program_ends() {
    let (mut reader, stderr) = std::io::pipe().unwrap();
    let mut child = spawn(command(&["no-such-command"]), Stdio::null(), stderr.into());
    let mut said = String::new();
    reader.read_to_string(&mut said).unwrap();
    ends(&mut child);
    assert!(said.trim_end().ends_with("'--help'."), "{said}");
}
