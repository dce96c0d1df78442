//! `tidelog dev`: a whole cluster in one process, over real loopback listeners and with the data
//! format of `tidelog server`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use futures::future::{join_all, select_all};
use tidelog_broker::config::Config;
use tidelog_broker::server::{Addresses, Server};

use super::runtime;
use crate::args::VERSION;
use crate::exit::Failure;
use crate::{fail_stop, interrupt, logging, output};

/// Where commands look for the first broker unless told otherwise.
const DEFAULT_PORT: u16 = 7171;
/// With it the last port of the ninth broker is the last that there is.
const MAX_PORT: i64 = 65_535 - 802;

/// Flags of `tidelog dev`.
#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// How many brokers
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=9))]
    brokers: u32,
    /// Where their data is kept, a folder each; without it in a temporary folder that goes away at
    /// the end
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The first broker's port for clients; its peer and HTTP ports are the two after it, and each
    /// further broker's 100 above
    #[arg(long, value_name = "PORT", default_value_t = DEFAULT_PORT, value_parser = clap::value_parser!(u16).range(1..=MAX_PORT))]
    port: u16,
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
        .map(|index| config(index, flags, dir))
        .collect::<Result<Vec<_>>>()?;
    let about = About {
        default_port: flags.port == DEFAULT_PORT,
        dir,
        is_temporary: temporary.is_some(),
    };
    runtime()?.block_on(serve(configs, &about))
}

fn config(index: u32, flags: &Flags, dir: &Path) -> Result<Config> {
    let config = Config::for_dev(index, flags.brokers, flags.port, dir);
    let mut config = config.map_err(|error| Failure::usage(error.to_string()))?;
    VERSION.clone_into(&mut config.version);
    Ok(config)
}

async fn serve(configs: Vec<Config>, about: &About<'_>) -> Result<()> {
    let signalled = interrupt::listen()?;
    // Together: a broker may be ready only when most of them are there.
    let servers = start_all(configs).await?;
    tokio::select! {
        _ = join_all(servers.iter().map(Server::ready)) => {
            let addresses: Vec<&Addresses> = servers.iter().map(Server::addresses).collect();
            crate::tell!("{}", about.text(&addresses, std::process::id()));
            output::line(&bootstrap(&addresses))?;
        }
        () = signalled.cancelled() => {}
    }
    let failure = {
        let failures = select_all(servers.iter().map(|server| Box::pin(server.failed())));
        tokio::select! {
            () = signalled.cancelled() => None,
            (reason, index, _) = failures => Some(format!("broker {} stopped: {reason}", index + 1)),
        }
    };
    join_all(servers.into_iter().map(Server::stop_together)).await;
    failure.map_or(Ok(()), |failure| Err(anyhow::Error::msg(failure)))
}

/// Starts all of them or none. Those that did start are closed before the error is told: a process
/// that ended while a database still closes on a thread of its own would be ended by RocksDB's
/// statics going first.
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
fn bootstrap(addresses: &[&Addresses]) -> String {
    let clients = addresses.iter().flat_map(|addresses| addresses.client.values());
    clients.map(String::as_str).collect::<Vec<_>>().join(",")
}

/// What somebody who started it must know.
struct About<'a> {
    /// Whether commands look there by themselves.
    default_port: bool,
    dir: &'a Path,
    is_temporary: bool,
}

impl About<'_> {
    fn text(&self, addresses: &[&Addresses], process: u32) -> String {
        let mut lines = vec![format!(
            "tidelog dev: a cluster of {} broker(s) in this process, for trying things out",
            addresses.len()
        )];
        for (addresses, number) in addresses.iter().zip(1..) {
            lines.push(format!(
                "  broker {number}  clients {}  peers {}  HTTP (health, metrics) {}",
                bootstrap(&[*addresses]),
                addresses.peer,
                addresses.http
            ));
        }
        let dir = self.dir.display();
        lines.push(if self.is_temporary {
            format!("  data      in {dir}, which goes away when it stops; --data-dir keeps it")
        } else {
            format!("  data      in {dir}, which is kept: it goes on from there; rm -r {dir} cleans up")
        });
        lines.push(if self.default_port {
            "  commands  find it by themselves: tidelog topic list".to_owned()
        } else {
            format!(
                "  commands  find it after: export TIDELOG_BOOTSTRAP={}",
                bootstrap(addresses)
            )
        });
        lines.push(format!("  to stop   Ctrl-C, or from elsewhere: kill {process}"));
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn text(default_port: bool, is_temporary: bool) -> String {
        let one = |port: u16| Addresses {
            client: BTreeMap::from([("default".to_owned(), format!("127.0.0.1:{port}"))]),
            peer: format!("127.0.0.1:{}", port + 1),
            http: format!("127.0.0.1:{}", port + 2),
        };
        let about = About {
            default_port,
            dir: Path::new("/data"),
            is_temporary,
        };
        about.text(&[&one(7171), &one(7271)], 42)
    }

    #[test]
    fn every_address_has_its_role_and_the_end_is_told() {
        let kept = text(true, false);
        for told in [
            "broker 2  clients 127.0.0.1:7271  peers 127.0.0.1:7272  HTTP (health, metrics) 127.0.0.1:7273",
            "rm -r /data",
            "find it by themselves",
            "kill 42",
        ] {
            assert!(kept.contains(told), "{told}: {kept}");
        }
        let elsewhere = text(false, true);
        assert!(
            elsewhere.contains("export TIDELOG_BOOTSTRAP=127.0.0.1:7171,127.0.0.1:7271"),
            "{elsewhere}"
        );
        assert!(
            elsewhere.contains("goes away") && !elsewhere.contains("rm -r"),
            "{elsewhere}"
        );
    }

    #[test]
    fn the_last_broker_s_last_port_is_one() {
        assert_eq!(MAX_PORT + 100 * 8 + 2, i64::from(u16::MAX));
    }
}
