//! Signals to commands at work: the first ends them within five seconds, in order, and says what is
//! left.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal};
use tidelog_tests::cluster::Cluster;
use tidelog_tests::program::Program;
use tidelog_tests::streams::full_pipe;
use tidelog_tests::wait;

/// How long a command may take to end after the first signal; a busy machine gets a little more.
const GRACE: Duration = Duration::from_secs(8);
const SOON: Duration = Duration::from_secs(30);

/// A command that is killed when it is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended already is what is hoped for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    fn start(mut command: Command) -> Result<Self> {
        Ok(Self(command.stderr(Stdio::piped()).spawn()?))
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.0.id())?).context("a process id above 0")?;
        Ok(rustix::process::kill_process(pid, signal)?)
    }

    /// The exit status and what it said, of a command that ends within its grace after a signal.
    async fn ends_after(&mut self, signal: Signal) -> Result<(ExitStatus, String)> {
        let began = Instant::now();
        self.signal(signal)?;
        let child = &mut self.0;
        let status = wait::until("a command's end", SOON, async || {
            child.try_wait()?.context("the process is still there")
        })
        .await?;
        ensure!(began.elapsed() < GRACE, "it took {:?}", began.elapsed());
        let mut said = String::new();
        self.0
            .stderr
            .take()
            .context("no standard error")?
            .read_to_string(&mut said)?;
        Ok((status, said))
    }

    /// Ends as one that was interrupted, and says these words.
    async fn is_interrupted(&mut self, signal: Signal, words: &[&str]) -> Result<()> {
        let (status, said) = self.ends_after(signal).await?;
        ensure!(status.code() == Some(130), "it ended with {status}: {said}");
        for word in words {
            ensure!(said.contains(word), "it does not say {word:?}: {said}");
        }
        Ok(())
    }
}

async fn committed(program: &Program, group: &str, at_least: u64) -> Result<()> {
    wait::until("a group's commit", SOON, async || {
        let described = program.json(&["group", "describe", group, "-o", "json"])?;
        let offsets = described["offsets"].as_array().context("no offsets")?;
        let sum: u64 = offsets
            .iter()
            .filter_map(|offset| offset["committed"].as_u64())
            .sum();
        ensure!(sum >= at_least, "{described}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn produce_says_what_is_left_when_no_broker_answers() -> Result<()> {
    let mut cluster = Cluster::start(1).await?;
    let program = Program::of(&cluster);
    program.ok(&["topic", "create", "t", "-p", "1"])?;
    for signal in [Signal::INT, Signal::TERM] {
        let mut command = program.command(&["produce", "t", "-o", "json"])?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut running = Running::start(command)?;
        let mut input = running.0.stdin.take().context("no input")?;
        let mut acknowledged = BufReader::new(running.0.stdout.take().context("no output")?).lines();
        input.write_all(b"one\ntwo\n")?;
        for _ in 0..2 {
            acknowledged.next().context("no acknowledgement")??;
        }
        cluster.broker(1).kill()?;
        // A line is read once the lines before it are handed over, so that these three are known
        // when the fourth has left the pipe.
        for lines in ["three\nfour\nfive\n", "six\n"] {
            input.write_all(lines.as_bytes())?;
            wait::until("the input to be read", SOON, async || {
                let left = rustix::io::ioctl_fionread(&input)?;
                ensure!(left == 0, "{left} bytes are left in the pipe");
                Ok(())
            })
            .await?;
        }
        let (status, said) = running.ends_after(signal).await?;
        assert_eq!(status.code(), Some(130), "{said}");
        ensure!(said.contains("2 record(s) acknowledged"), "{said}");
        // Which of them were on their way when the broker went is a matter of luck.
        let left = said.lines().find(|line| line.contains("interrupted"));
        let left = left.context("it does not say what is left")?;
        let counts = left
            .split_whitespace()
            .filter_map(|word| word.parse::<u64>().ok());
        let sum: u64 = counts.sum();
        ensure!((3..=4).contains(&sum), "{left}");
        cluster.start_all()?;
        cluster.wait_ready(SOON).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn produce_that_waits_for_input_ends_at_once() -> Result<()> {
    let cluster = Cluster::start(1).await?;
    let program = Program::of(&cluster);
    program.ok(&["topic", "create", "t", "-p", "1"])?;
    let mut command = program.command(&["produce", "t", "-o", "json"])?;
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut running = Running::start(command)?;
    let mut input = running.0.stdin.take().context("no input")?;
    input.write_all(b"one\n")?;
    let mut first = String::new();
    BufReader::new(running.0.stdout.take().context("no output")?).read_line(&mut first)?;
    running
        .is_interrupted(Signal::INT, &["1 record(s) acknowledged", "sent and answered"])
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consume_into_a_full_pipe_leaves_its_group_and_commits_nothing_unwritten() -> Result<()> {
    let cluster = Cluster::start(1).await?;
    let program = Program::of(&cluster);
    program.ok(&["topic", "create", "t", "-p", "1"])?;
    let sent = program.run_with_input(&["produce", "t"], "one\ntwo\nthree\n")?;
    ensure!(sent.status.success());
    for (words, says) in [
        (
            &["consume", "t", "--from", "beginning"][..],
            "perhaps not written",
        ),
        (
            &["consume", "t", "-g", "g", "--from", "beginning"],
            "not committed",
        ),
    ] {
        let (mut unread, full) = full_pipe()?;
        let mut command = program.command(words)?;
        command.stdout(full);
        let mut running = Running::start(command)?;
        // The command says nothing, so that only what it does to the group, or to nobody, shows
        // that it is at work.
        let group = words.contains(&"-g");
        wait::until("the consumer to be at work", SOON, async || {
            if group {
                let described = program.json(&["group", "describe", "g", "-o", "json"])?;
                ensure!(
                    described["members"]
                        .as_array()
                        .is_some_and(|members| !members.is_empty())
                );
            }
            ensure!(is_writing(running.0.id())?, "it does not write yet");
            Ok(())
        })
        .await?;
        running
            .is_interrupted(Signal::TERM, &["3 record(s)", says])
            .await?;
        let mut written = Vec::new();
        unread.read_to_end(&mut written)?;
    }
    // The member left in order: the next one gets everything, without waiting for a session to end.
    let next = program.ok(&["consume", "t", "-g", "g", "--from", "beginning", "-n", "3"])?;
    assert_eq!(next, "one\ntwo\nthree\n");
    Ok(())
}

/// Whether a thread of the process waits in a write to a pipe.
fn is_writing(pid: u32) -> Result<bool> {
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let waits = std::fs::read_to_string(task?.path().join("wchan")).unwrap_or_default();
        if waits.contains("pipe") && waits.contains("write") {
            return Ok(true);
        }
    }
    Ok(false)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consume_commits_what_was_written_and_says_nothing_of_it() -> Result<()> {
    let cluster = Cluster::start(1).await?;
    let program = Program::of(&cluster);
    program.ok(&["topic", "create", "t", "-p", "1"])?;
    let sent = program.run_with_input(&["produce", "t"], "one\ntwo\n")?;
    ensure!(sent.status.success());
    let mut command = program.command(&["consume", "t", "-g", "g", "--from", "beginning"])?;
    command.stdout(Stdio::piped());
    let mut running = Running::start(command)?;
    let mut lines = BufReader::new(running.0.stdout.take().context("no output")?).lines();
    for expected in ["one", "two"] {
        assert_eq!(lines.next().context("no line")??, expected);
    }
    let (status, said) = running.ends_after(Signal::INT).await?;
    assert_eq!((status.code(), said.as_str()), (Some(130), ""));
    committed(&program, "g", 2).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bench_shows_what_was_done_and_deletes_its_topic() -> Result<()> {
    let cluster = Cluster::start(1).await?;
    let program = Program::of(&cluster);
    for words in [
        &["bench", "produce", "load", "--seconds", "600"][..],
        &["bench", "latency", "load", "--seconds", "600"],
    ] {
        let mut command = program.command(words)?;
        command.stdout(Stdio::piped());
        let mut running = Running::start(command)?;
        wait::until("records", SOON, async || {
            let described = program.json(&["topic", "describe", "load", "-o", "json"])?;
            let partitions = described["partitions"].as_array().context("no partitions")?;
            ensure!(
                partitions
                    .iter()
                    .any(|partition| partition["hw"].as_u64() > Some(0))
            );
            Ok(())
        })
        .await?;
        running
            .is_interrupted(Signal::INT, &["topic load", "deleted", "interrupted"])
            .await?;
        let mut figures = String::new();
        running
            .0
            .stdout
            .take()
            .context("no output")?
            .read_to_string(&mut figures)?;
        ensure!(figures.contains("records/s"), "{figures}");
        let gone = program.run(&["topic", "describe", "load"])?;
        assert_eq!(gone.status.code(), Some(4));
    }
    Ok(())
}
