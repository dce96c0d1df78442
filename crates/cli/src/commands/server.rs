//! `tidelog server`: one broker.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use tidelog_broker::config::{Config, Loaded, Sources};
use tidelog_broker::server::Server;
use toml::Value;

use super::runtime;
use crate::args::VERSION;
use crate::exit::Failure;
use crate::output::{self, Columns};
use crate::{fail_stop, interrupt, logging};

/// How long a broker that failed may take to close its databases.
const ABANDON: Duration = Duration::from_secs(10);

/// Flags of `tidelog server`. Each is a key of the configuration; a flag wins over the environment,
/// that over the file.
#[derive(Debug, Default, Args)]
pub(crate) struct Flags {
    /// The configuration, TOML
    #[arg(long, value_name = "FILE", env = "TIDELOG_CONFIG")]
    config: Option<PathBuf>,
    /// This broker's number, 1 or more (broker.id)
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u32).range(1..))]
    node_id: Option<u32>,
    /// Where data is kept (broker.data_dir)
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// The brokers that vote on metadata, with their peer listeners: 1=HOST:PORT,2=HOST:PORT…
    /// (cluster.voters)
    #[arg(long, value_name = "VOTERS")]
    cluster: Option<String>,
    /// A listener for clients; repeatable (listeners.client)
    #[arg(long, value_name = "[NAME=]BIND[@ADVERTISED]")]
    listen: Vec<String>,
    /// The listener for other brokers (listeners.peer)
    #[arg(long, value_name = "BIND[@ADVERTISED]")]
    peer_listen: Option<String>,
    /// The listener for health and metrics (listeners.http.bind)
    #[arg(long, value_name = "ADDRESS")]
    http_listen: Option<String>,
    /// What is logged, e.g. info,tidelog_broker=debug (log.filter)
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
    /// Check the configuration, print each effective value and where it came from, and end
    #[arg(long, conflicts_with = "print_config")]
    check_config: bool,
    /// Print the effective configuration as TOML, and end
    #[arg(long)]
    print_config: bool,
}

impl Flags {
    fn sources(&self) -> Sources {
        let mut flags = Vec::new();
        let mut set = |key: &str, value: Value| flags.push((key.to_owned(), value));
        if let Some(id) = self.node_id {
            set("broker.id", Value::Integer(id.into()));
        }
        if !self.listen.is_empty() {
            set("listeners.client", Value::String(self.listen.join(",")));
        }
        if let Some(address) = &self.peer_listen {
            let (bind, advertise) = address.split_once('@').unwrap_or((address, ""));
            set("listeners.peer.bind", Value::String(bind.to_owned()));
            if !advertise.is_empty() {
                set("listeners.peer.advertise", Value::String(advertise.to_owned()));
            }
        }
        let texts = [
            ("broker.data_dir", &self.data_dir),
            ("cluster.voters", &self.cluster),
            ("listeners.http.bind", &self.http_listen),
            ("log.filter", &self.log),
        ];
        for (key, text) in texts {
            if let Some(text) = text {
                set(key, Value::String(text.clone()));
            }
        }
        Sources {
            file: self.config.clone(),
            flags,
            environment: true,
        }
    }
}

/// Runs a broker until a signal or its failure ends it; or shows its configuration.
pub(crate) fn run(flags: &Flags) -> Result<()> {
    let mut loaded = Config::load(&flags.sources()).map_err(|error| Failure::usage(error.to_string()))?;
    VERSION.clone_into(&mut loaded.config.version);
    if flags.print_config {
        return output::line(loaded.effective.trim_end());
    }
    if flags.check_config {
        return origins(&loaded).print();
    }
    fail_stop::on_panic();
    logging::start(&loaded.config.log_filter)?;
    let runtime = runtime()?;
    let served = runtime.block_on(serve(loaded.config));
    runtime.shutdown_timeout(ABANDON);
    served
}

async fn serve(config: Config) -> Result<()> {
    let signalled = interrupt::listen()?;
    let id = config.broker_id;
    let server = Server::start(config)
        .await
        .with_context(|| format!("starting broker {id}"))?;
    let failure = tokio::select! {
        () = signalled.cancelled() => None,
        reason = server.failed() => Some(reason),
    };
    match failure {
        None => {
            tracing::info!("stopping in order; a second signal stops at once");
            server.shutdown().await;
            Ok(())
        }
        Some(reason) => {
            // A disk that hangs must not keep the process from ending.
            if tokio::time::timeout(ABANDON, server.abandon()).await.is_err() {
                tracing::warn!("the databases do not close; ending without");
            }
            anyhow::bail!("broker {id} stopped: {reason}")
        }
    }
}

fn origins(loaded: &Loaded) -> Columns {
    let mut columns = Columns::new(&["KEY", "VALUE", "FROM"]);
    for (key, value, origin) in &loaded.origins {
        columns.row([key.clone(), value.clone(), origin.clone()]);
    }
    columns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_flag_is_a_key_of_the_configuration() {
        let flags = Flags {
            node_id: Some(2),
            data_dir: Some("D".to_owned()),
            cluster: Some("1=a:7172,2=b:7172".to_owned()),
            listen: vec![
                "in=0.0.0.0:7171@b:7171".to_owned(),
                "out=0.0.0.0:17271@localhost:17271".to_owned(),
            ],
            peer_listen: Some("0.0.0.0:7172@b:7172".to_owned()),
            http_listen: Some("0.0.0.0:7173".to_owned()),
            ..Flags::default()
        };
        let sources = Sources {
            environment: false,
            ..flags.sources()
        };
        let config = Config::load(&sources).unwrap().config;
        assert_eq!(config.broker_id.get(), 2);
        assert_eq!(config.data_dir, PathBuf::from("D"));
        assert_eq!(config.voters.len(), 2);
        let names: Vec<&str> = config
            .client_listeners
            .iter()
            .map(|listener| listener.name.as_str())
            .collect();
        assert_eq!(names, ["in", "out"]);
        assert_eq!(
            (config.peer_bind.as_str(), config.peer_advertise.as_str()),
            ("0.0.0.0:7172", "b:7172")
        );
        assert_eq!(config.http_bind, "0.0.0.0:7173");
    }

    #[test]
    fn what_was_not_given_is_left_to_file_and_environment() {
        assert!(Flags::default().sources().flags.is_empty());
    }
}
