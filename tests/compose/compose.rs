//! Driving `docker compose`, or the older `docker-compose`.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tidelog_tests::wait;

/// A project of containers. Dropped, it is taken down with its volumes.
pub(crate) struct Compose {
    /// What comes before the verb.
    program: Vec<OsString>,
    file: PathBuf,
    project: String,
    image: OsString,
}

impl Compose {
    /// Starts the shipped compose file under a name of its own.
    pub(crate) fn up(image: &OsStr) -> Result<Self> {
        let compose = Self {
            program: program()?,
            file: Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/docker-compose.yml"),
            project: format!("tidelog-test-{}", std::process::id()),
            image: image.to_owned(),
        };
        compose.run(&["up", "-d"])?;
        Ok(compose)
    }

    /// Takes everything down.
    pub(crate) fn down(&self) -> Result<()> {
        self.run(&["down", "--volumes", "--timeout", "30"]).map(drop)
    }

    /// Kills a service with SIGKILL.
    pub(crate) fn kill(&self, service: &str) -> Result<()> {
        self.run(&["kill", service]).map(drop)
    }

    /// Starts a container that was killed, on the data that it had.
    pub(crate) fn start(&self, service: &str) -> Result<()> {
        self.run(&["start", service]).map(drop)
    }

    /// Waits until the containers' own health checks pass.
    pub(crate) async fn wait_healthy(&self, services: &[&str], deadline: Duration) -> Result<()> {
        wait::until("the containers to be healthy", deadline, async || {
            for service in services {
                let state = self.health(service)?;
                ensure!(
                    state == "healthy",
                    "{service} is {state}: {}",
                    self.log_tail(service)
                );
            }
            Ok(())
        })
        .await
    }

    fn health(&self, service: &str) -> Result<String> {
        let id = text(&self.run(&["ps", "-q", service])?);
        let mut inspect = Command::new("docker");
        inspect.args(["inspect", "--format", "{{.State.Health.Status}}", &id]);
        Ok(text(&finish(inspect)?))
    }

    fn log_tail(&self, service: &str) -> String {
        self.run(&["logs", "--tail", "5", service])
            .map_or_else(|error| error.to_string(), |output| text(&output))
    }

    fn run(&self, words: &[&str]) -> Result<Output> {
        let mut command = Command::new(&self.program[0]);
        command
            .args(&self.program[1..])
            .arg("-f")
            .arg(&self.file)
            .args(["-p", &self.project])
            .args(words)
            .env("TIDELOG_IMAGE", &self.image);
        finish(command)
    }
}

impl Drop for Compose {
    fn drop(&mut self) {
        // After a failed test; after a good one there is nothing left to take down.
        let _ = self.run(&["down", "--volumes", "--timeout", "1"]);
    }
}

fn program() -> Result<Vec<OsString>> {
    let candidates: [&[&str]; 2] = [&["docker", "compose"], &["docker-compose"]];
    for words in candidates {
        let mut version = Command::new(words[0]);
        version.args(&words[1..]).arg("version");
        if finish(version).is_ok() {
            return Ok(words.iter().map(Into::into).collect());
        }
    }
    bail!(
        "neither `docker compose` nor docker-compose is installed (on Debian: apt-get install docker-compose)"
    )
}

fn finish(mut command: Command) -> Result<Output> {
    let output = command.output().with_context(|| format!("running {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(output)
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
