//! `tidelog dev`: a whole cluster in one process, over real loopback listeners and with the data format of `tidelog server`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use futures::future::{join_all, select_all};
use tidelog_broker::config::Config;
use tidelog_broker::server::Server;

use super::runtime;
use crate::exit::Failure;
use crate::{fail_stop, interrupt, logging, output};

/// Flags of `tidelog dev`.
#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// How many brokers
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=9))]
    brokers: u32,
    /// Where their data is kept, a folder each; without it in a temporary folder that goes away at the end
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// What is logged
    #[arg(
        long,
        value_name = "FILTER",
        default_value = "warn,openraft=error",
        env = "TIDELOG_LOG"
    )]
    log: String,
}

/// Runs the cluster until a signal or a broker's failure ends it.
pub(crate) fn run(flags: &Flags) -> Result<()> {
    fail_stop::on_panic();
    logging::start(&flags.log)?;
    let temporary = match flags.data_dir {
        Some(_) => None,
        None => Some(
            tempfile::Builder::new()
                .prefix("tidelog-dev-")
                .tempdir()
                .context("making a temporary folder")?,
        ),
    };
    let dir = match (&flags.data_dir, &temporary) {
        (Some(dir), _) => dir.as_path(),
        (None, temporary) => temporary.as_ref().context("a temporary folder")?.path(),
    };
    let configs = (0..flags.brokers)
        .map(|index| config(index, flags.brokers, dir))
        .collect::<Result<Vec<_>>>()?;
    runtime()?.block_on(serve(configs))
}

fn config(index: u32, brokers: u32, dir: &Path) -> Result<Config> {
    Ok(Config::for_dev(index, brokers, dir).map_err(|error| Failure::usage(error.to_string()))?)
}

async fn serve(configs: Vec<Config>) -> Result<()> {
    let signalled = interrupt::listen()?;
    // Together: a broker may be ready only when most of them are there.
    let servers = start_all(configs).await?;
    tokio::select! {
        _ = join_all(servers.iter().map(Server::ready)) => output::line(&bootstrap(&servers))?,
        () = signalled.cancelled() => {}
    }
    crate::tell!("tidelog: {} broker(s) serve; Ctrl-C stops them", servers.len());
    let failure = {
        let failures = select_all(servers.iter().map(|server| Box::pin(server.failed())));
        tokio::select! {
            () = signalled.cancelled() => None,
            (reason, index, _) = failures => Some(format!("broker {} stopped: {reason}", index + 1)),
        }
    };
    join_all(servers.into_iter().map(Server::shutdown)).await;
    failure.map_or(Ok(()), |failure| Err(anyhow::Error::msg(failure)))
}

/// Starts all of them or none. Those that did start are closed before the error is told: a process that ended while a database still
/// closes on a thread of its own would be ended by RocksDB's statics going first.
async fn start_all(configs: Vec<Config>) -> Result<Vec<Server>> {
    let mut servers = Vec::new();
    let mut failure = None;
    for started in join_all(configs.into_iter().map(start)).await {
        match started {
            Ok(server) => servers.push(server),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    let Some(failure) = failure else {
        return Ok(servers);
    };
    join_all(servers.into_iter().map(Server::abandon)).await;
    Err(failure)
}

async fn start(config: Config) -> Result<Server> {
    let id = config.broker_id;
    Server::start(config)
        .await
        .with_context(|| format!("starting broker {id}"))
}

/// As `--bootstrap` takes it.
fn bootstrap(servers: &[Server]) -> String {
    let clients: Vec<&str> = servers
        .iter()
        .flat_map(|server| server.addresses().client.values())
        .map(String::as_str)
        .collect();
    clients.join(",")
}
