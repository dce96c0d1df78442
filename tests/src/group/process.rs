//! A member's process, as a test holds it.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal};

use super::told::{self, Happened, Told, now_us};
use crate::wait;

/// How long an orderly end may take.
const END: Duration = Duration::from_secs(45);

/// How a member's process came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Running,
    /// It was killed at this moment, microseconds since 1970.
    Killed(u64),
    /// It left in order.
    Left,
}

/// One member's process. Dropped, it is killed.
pub struct MemberProcess {
    /// Its name, by which its coordinator knows it as the client's id.
    pub name: String,
    /// How it ended.
    pub end: End,
    diary: PathBuf,
    output: PathBuf,
    child: Child,
}

impl MemberProcess {
    /// Starts one whose diary and output go to a folder. `program` is the `member` binary.
    pub fn start(
        program: &Path,
        folder: &Path,
        bootstrap: &str,
        group: &str,
        topic: &str,
        name: &str,
    ) -> Result<Self> {
        let diary = folder.join(format!("{name}.diary"));
        let output = folder.join(format!("{name}.log"));
        let log = File::create(&output).context("making a member's log")?;
        let child = Command::new(program)
            .args([
                "--bootstrap",
                bootstrap,
                "--group",
                group,
                "--topic",
                topic,
                "--name",
                name,
            ])
            .arg("--diary")
            .arg(&diary)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting member {name}"))?;
        Ok(Self {
            name: name.to_owned(),
            end: End::Running,
            diary,
            output,
            child,
        })
    }

    /// What it wrote down so far.
    pub fn told(&self) -> Result<Vec<Told>> {
        told::read(&self.diary)
    }

    /// What it owns, as it knows.
    pub fn owned(&self) -> Result<BTreeSet<u32>> {
        let mut owned = BTreeSet::new();
        for told in self.told()? {
            match told.what {
                Happened::Assigned(partitions) => owned.extend(partitions),
                Happened::Revoked(partitions) | Happened::Lost(partitions) => {
                    owned.retain(|partition| !partitions.contains(partition));
                }
                _ => {}
            }
        }
        Ok(owned)
    }

    /// Fails if it ended by itself.
    pub fn check_alive(&mut self) -> Result<()> {
        let ended = self.child.try_wait()?;
        ensure!(
            ended.is_none(),
            "member {} ended with {ended:?}: {}",
            self.name,
            self.log()
        );
        Ok(())
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.child.id())?).context("a process id above 0")?;
        rustix::process::kill_process(pid, signal).with_context(|| format!("signalling member {}", self.name))
    }

    /// Kills the process with SIGKILL.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        self.end = End::Killed(now_us());
        Ok(())
    }

    /// SIGTERM, and waits until it has committed and left.
    pub async fn leave(&mut self) -> Result<()> {
        self.signal(Signal::TERM)?;
        let child = &mut self.child;
        let status = wait::until("a member's orderly end", END, async || {
            child.try_wait()?.context("the process is still there")
        })
        .await?;
        ensure!(
            status.success(),
            "member {} ended with {status}: {}",
            self.name,
            self.log()
        );
        self.end = End::Left;
        Ok(())
    }

    /// What it printed, for messages.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.output).unwrap_or_default()
    }
}

impl Drop for MemberProcess {
    fn drop(&mut self) {
        if self.end == End::Running {
            // Nothing is left to be done about a process that cannot be killed.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
