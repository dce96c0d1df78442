//! A broker whose log nobody takes: its reader is gone, has stopped reading, or the disk is full.
//! It serves all the same.

use std::io::Read;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use parking_lot::Mutex;
use rustix::process::{Pid, Signal};
use serde_json::Value;
use tidelog_tests::cluster::{Cluster, READY, http_get};
use tidelog_tests::program::{Program, stderr};
use tidelog_tests::streams::{closed_pipe, full_disk, full_pipe};
use tidelog_tests::wait;

const STOP: Duration = Duration::from_secs(30);

/// So much that a pipe and the queue behind it are full of it within moments.
const CHATTY: &[&str] = &["--log", "trace"];

/// A broker process that is killed when it is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended already is what is hoped for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    fn ask_to_stop(&self) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.0.id())?).context("a process id above 0")?;
        Ok(rustix::process::kill_process(pid, Signal::TERM)?)
    }

    async fn stops(&mut self) -> Result<()> {
        let child = &mut self.0;
        let status = wait::until("an orderly stop", STOP, async || {
            child.try_wait()?.context("the process is still there")
        })
        .await?;
        ensure!(status.success(), "it ended with {status}");
        Ok(())
    }
}

async fn ready(address: &str) -> Result<()> {
    wait::until("a broker to be ready", READY, async || {
        let (status, body) = http_get(address, "/readyz")?;
        ensure!(status == 200, "{status}: {body}");
        Ok(())
    })
    .await
}

/// Starts a broker that says a lot to `stderr`.
async fn chatty(cluster: &mut Cluster, stderr: Stdio) -> Result<Running> {
    let broker = cluster.broker(1);
    let mut command = broker.command()?;
    let running = Running(command.stdout(Stdio::null()).stderr(stderr).spawn()?);
    ready(&broker.http_address()).await?;
    Ok(running)
}

/// A broker that works, and logs each step of it.
fn works(program: &Program) -> Result<()> {
    program.ok(&["topic", "create", "t", "-p", "2", "--if-not-exists"])?;
    let line = |number: u32| format!("line {number}\n");
    let lines: String = (0..500).map(line).collect();
    for _ in 0..4 {
        let sent = program.run_with_input(&["produce", "t", "--batch-size", "100"], &lines)?;
        ensure!(sent.status.success(), "{}", stderr(&sent));
    }
    let read = program.ok(&["consume", "t", "--from", "beginning", "--until-end"])?;
    ensure!(read.lines().count() % 2000 == 0, "{}", read.lines().count());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_serves_and_stops_in_order_whatever_became_of_standard_error() -> Result<()> {
    let mut cluster = Cluster::prepare(1, false, CHATTY)?;
    let program = Program::of(&cluster);
    let (_unread, full) = full_pipe()?;
    for (what, stderr) in [
        ("closed", closed_pipe()?),
        ("full", full.into()),
        ("on a full disk", full_disk()?),
    ] {
        let mut running = chatty(&mut cluster, stderr).await.context(what)?;
        works(&program).context(what)?;
        running.ask_to_stop()?;
        running.stops().await.context(what)?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_tells_how_many_lines_of_its_log_are_lost_when_they_are_read_again() -> Result<()> {
    let mut cluster = Cluster::prepare(1, false, CHATTY)?;
    let program = Program::of(&cluster);
    let (mut reader, writer) = full_pipe()?;
    let mut running = chatty(&mut cluster, writer.into()).await?;
    // More lines than a queue holds.
    for _ in 0..3 {
        works(&program)?;
    }
    let log = Arc::new(Mutex::new(Vec::new()));
    let taken = Arc::clone(&log);
    let read = std::thread::spawn(move || -> std::io::Result<()> {
        let mut bytes = vec![0; 64 * 1024];
        loop {
            match reader.read(&mut bytes)? {
                0 => return Ok(()),
                count => taken.lock().extend_from_slice(&bytes[..count]),
            }
        }
    });
    wait::until("lost lines to be told of", READY, async || {
        let told = String::from_utf8_lossy(&log.lock()).contains("are lost here");
        ensure!(told, "nothing tells of them");
        Ok(())
    })
    .await?;
    running.ask_to_stop()?;
    running.stops().await?;
    read.join()
        .map_err(|_| anyhow::anyhow!("the reader panicked"))??;
    let log = String::from_utf8_lossy(&log.lock()).into_owned();
    // What filled the pipe stands before the first line.
    let log = log.trim_start_matches('x');
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).with_context(|| format!("the line {line:?}")))
        .collect::<Result<_>>()?;
    let lost: Vec<u64> = lines
        .iter()
        .filter_map(|line| {
            line["fields"]["lines"]
                .as_u64()
                .filter(|_| line["target"] == "tidelog")
        })
        .collect();
    ensure!(
        lost.first().is_some_and(|lost| *lost > 0),
        "no line tells of lost ones, of {}",
        lines.len()
    );
    ensure!(
        log.contains("stopping in order"),
        "what is said once lines are taken again is not there"
    );
    Ok(())
}
