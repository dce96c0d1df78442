//! Brokers as real processes: started, killed, paused and started again.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal};
use tempfile::TempDir;

use crate::ports::{self, ReservedPort};
use crate::wait;

/// How long a cluster may take to serve.
pub const READY: Duration = Duration::from_secs(30);
/// How long an orderly stop may take.
const STOP: Duration = Duration::from_secs(30);

/// A cluster of broker processes on this machine. Dropped, it kills them and removes their data.
pub struct Cluster {
    brokers: Vec<Broker>,
    folder: PathBuf,
    // Removes the folder when dropped, unless it is to be kept.
    temporary: Option<TempDir>,
}

/// How a cluster is laid out.
#[derive(Debug, Clone, Default)]
pub struct Layout<'a> {
    /// How many brokers.
    pub brokers: u32,
    /// Whether its data outlives it.
    pub keep: bool,
    /// Further words of every broker's command line.
    pub extra: &'a [&'a str],
    /// Ports on which something of the test's stands before each broker's peer listener, by id;
    /// none for the listeners themselves.
    pub peers_behind: Vec<u16>,
}

impl Layout<'_> {
    /// So many brokers, and nothing special.
    pub fn of(brokers: u32) -> Self {
        Self {
            brokers,
            ..Self::default()
        }
    }
}

/// One broker: its ports and data, and its process while it runs.
pub struct Broker {
    /// Its id, from 1.
    pub id: u32,
    client: ReservedPort,
    peer: ReservedPort,
    http: ReservedPort,
    /// Where other brokers are told to connect.
    advertised_peer: u16,
    data_dir: PathBuf,
    log: PathBuf,
    cluster: String,
    extra: Vec<String>,
    environment: Vec<(String, OsString)>,
    child: Option<Child>,
}

/// Where the program under test lies.
pub fn binary() -> Result<PathBuf> {
    std::env::var_os("TIDELOG_BIN")
        .map(PathBuf::from)
        .context("TIDELOG_BIN is not set: run this by `cargo xtask`, or name the tidelog binary in it")
}

impl Cluster {
    /// Starts brokers on fresh data, and waits until they serve.
    pub async fn start(brokers: u32) -> Result<Self> {
        let mut cluster = Self::prepare(brokers, false, &[])?;
        cluster.start_all()?;
        cluster.wait_ready(READY).await?;
        Ok(cluster)
    }

    /// Lays out a cluster without starting it; with `keep` its data outlives it.
    pub fn prepare(brokers: u32, keep: bool, extra: &[&str]) -> Result<Self> {
        Self::lay_out(&Layout {
            keep,
            extra,
            ..Layout::of(brokers)
        })
    }

    /// Lays out a cluster without starting it.
    pub fn lay_out(layout: &Layout<'_>) -> Result<Self> {
        let temporary = tempfile::Builder::new()
            .prefix("tidelog-")
            .tempdir()
            .context("making a folder")?;
        let (folder, temporary) = if layout.keep {
            (temporary.keep(), None)
        } else {
            (temporary.path().to_owned(), Some(temporary))
        };
        let ports = (0..layout.brokers)
            .map(|_| Ok((ports::reserve()?, ports::reserve()?, ports::reserve()?)))
            .collect::<Result<Vec<_>>>()?;
        let behind = |id: u32, peer: &ReservedPort| {
            let behind = layout.peers_behind.get(id as usize - 1);
            behind.copied().unwrap_or_else(|| peer.get())
        };
        let voters: Vec<String> = ports
            .iter()
            .zip(1..)
            .map(|((_, peer, _), id)| format!("{id}=127.0.0.1:{}", behind(id, peer)))
            .collect();
        let voters = voters.join(",");
        let brokers = ports
            .into_iter()
            .zip(1..)
            .map(|((client, peer, http), id)| Broker {
                id,
                advertised_peer: behind(id, &peer),
                client,
                peer,
                http,
                data_dir: folder.join(format!("broker-{id}")),
                log: folder.join(format!("broker-{id}.log")),
                cluster: voters.clone(),
                extra: layout.extra.iter().map(ToString::to_string).collect(),
                environment: Vec::new(),
                child: None,
            });
        Ok(Self {
            brokers: brokers.collect(),
            folder,
            temporary,
        })
    }

    /// Leaves data and logs where they are when it is dropped, and says where.
    pub fn keep(&mut self) -> PathBuf {
        if let Some(temporary) = self.temporary.take() {
            return temporary.keep();
        }
        self.folder.clone()
    }

    /// Where data and logs lie.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The brokers, running or not.
    pub fn brokers(&self) -> &[Broker] {
        &self.brokers
    }

    /// One broker.
    ///
    /// # Panics
    /// If there is none of that id.
    pub fn broker(&mut self, id: u32) -> &mut Broker {
        self.brokers
            .iter_mut()
            .find(|broker| broker.id == id)
            .expect("a broker of this cluster")
    }

    /// Where every broker serves clients, running or not.
    pub fn bootstrap(&self) -> Vec<String> {
        self.brokers.iter().map(Broker::client_address).collect()
    }

    /// Starts every broker that does not run.
    pub fn start_all(&mut self) -> Result<()> {
        self.brokers
            .iter_mut()
            .filter(|broker| broker.child.is_none())
            .try_for_each(Broker::start)
    }

    /// Kills every broker at once.
    pub fn kill_all(&mut self) -> Result<()> {
        // All signals first, then the waiting: they shall die together.
        for broker in self.brokers.iter().filter(|broker| broker.child.is_some()) {
            broker.signal(Signal::KILL)?;
        }
        self.brokers.iter_mut().try_for_each(Broker::kill)
    }

    /// Waits until every running broker is ready.
    pub async fn wait_ready(&mut self, deadline: Duration) -> Result<()> {
        let end = Instant::now() + deadline;
        for broker in self.brokers.iter_mut().filter(|broker| broker.child.is_some()) {
            broker
                .wait_ready(end.saturating_duration_since(Instant::now()))
                .await?;
        }
        Ok(())
    }
}

impl Broker {
    /// Where it serves clients.
    pub fn client_address(&self) -> String {
        format!("127.0.0.1:{}", self.client.get())
    }

    /// Where it answers health and metrics.
    pub fn http_address(&self) -> String {
        format!("127.0.0.1:{}", self.http.get())
    }

    /// Where it serves other brokers.
    pub fn peer_address(&self) -> String {
        format!("127.0.0.1:{}", self.peer.get())
    }

    /// The broker's data directory.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Its process id while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// The command that runs it, for tests that change it.
    pub fn command(&self) -> Result<Command> {
        let mut command = Command::new(binary()?);
        command
            .arg("server")
            .args(["--node-id", &self.id.to_string()])
            .arg("--data-dir")
            .arg(&self.data_dir)
            .args(["--cluster", &self.cluster])
            .args(["--listen", &self.client_address()])
            .arg("--peer-listen")
            .arg(format!(
                "{}@127.0.0.1:{}",
                self.peer_address(),
                self.advertised_peer
            ))
            .args(["--http-listen", &self.http_address()])
            .args(&self.extra)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
        Ok(command)
    }

    /// Sets a variable of its environment from its next start on.
    pub fn set_env(&mut self, name: &str, value: impl Into<OsString>) {
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.to_owned(), value.into()));
    }

    /// Waits until its process ends by itself, and gives its exit code.
    pub async fn wait_ended(&mut self, deadline: Duration) -> Result<Option<i32>> {
        let child = self.child.as_mut().context("the broker does not run")?;
        let status = wait::until("a broker's end", deadline, async || {
            child.try_wait()?.context("the process is still there")
        })
        .await?;
        self.child = None;
        Ok(status.code())
    }

    /// Whether its process is still there.
    pub fn is_running(&mut self) -> Result<bool> {
        match &mut self.child {
            Some(child) => Ok(child.try_wait()?.is_none()),
            None => Ok(false),
        }
    }

    /// Starts it; its output goes to its log.
    pub fn start(&mut self) -> Result<()> {
        ensure!(self.child.is_none(), "broker {} runs already", self.id);
        let log = File::options()
            .create(true)
            .append(true)
            .open(&self.log)
            .context("opening a broker's log")?;
        let mut command = self.command()?;
        command.stdout(log.try_clone()?).stderr(log);
        self.child = Some(command.spawn().context("starting a broker")?);
        Ok(())
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = self
            .pid()
            .with_context(|| format!("broker {} does not run", self.id))?;
        let pid = Pid::from_raw(i32::try_from(pid)?).context("a process id above 0")?;
        rustix::process::kill_process(pid, signal).with_context(|| format!("signalling broker {}", self.id))
    }

    /// SIGKILL, and waits for its end.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill().context("killing a broker")?;
            child.wait().context("waiting for a broker's end")?;
        }
        Ok(())
    }

    /// SIGTERM, and waits for an orderly end.
    pub async fn stop(&mut self) -> Result<()> {
        self.signal(Signal::TERM)?;
        self.stopped().await
    }

    /// Waits for the orderly end that a signal asked for.
    pub async fn stopped(&mut self) -> Result<()> {
        let id = self.id;
        let child = self.child.as_mut().context("a running broker")?;
        let status = wait::until("an orderly stop", STOP, async || {
            child.try_wait()?.context("the process is still there")
        })
        .await?;
        self.child = None;
        ensure!(
            status.success(),
            "broker {id} stopped with {status}: {}",
            self.log_tail()
        );
        Ok(())
    }

    /// Waits until `/readyz` says so.
    pub async fn wait_ready(&mut self, deadline: Duration) -> Result<()> {
        let address = self.http_address();
        let child = self.child.as_mut().context("the broker does not run")?;
        let ready = wait::until("a broker to be ready", deadline, async || {
            if let Some(status) = child.try_wait()? {
                return Ok(Err(status));
            }
            let (status, body) = http_get(&address, "/readyz")?;
            ensure!(status == 200, "{status}: {body}");
            Ok(Ok(()))
        })
        .await;
        match ready {
            Ok(Ok(())) => Ok(()),
            Ok(Err(status)) => bail!("broker {} ended with {status}: {}", self.id, self.log_tail()),
            Err(error) => Err(error.context(format!("broker {}: {}", self.id, self.log_tail()))),
        }
    }

    /// The end of its log, for messages.
    pub fn log_tail(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for broker in &mut self.brokers {
            // Nothing is left to be done about a process that cannot be killed.
            let _ = broker.kill();
        }
    }
}

/// GET over HTTP/1.0: status and body.
pub fn http_get(address: &str, path: &str) -> Result<(u16, String)> {
    let timeout = Duration::from_secs(2);
    let mut stream = TcpStream::connect_timeout(&address.parse()?, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .context("an answer without a body")?;
    let status = head
        .split_whitespace()
        .nth(1)
        .context("an answer without a status")?
        .parse()?;
    Ok((status, body.to_owned()))
}
