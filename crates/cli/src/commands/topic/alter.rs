//! `tidelog topic alter`

use std::collections::BTreeMap;

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use tidelog_client::{Admin, ConfigChange};

use super::name_and_value;
use crate::args::ConnectFlags;
use crate::output::{self, OutputFlag};
use crate::suggest;

/// Flags of `tidelog topic alter`.
#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// The topic
    name: String,
    /// A config to set, by Kafka's name, e.g. min.insync.replicas=2; repeatable
    #[arg(
        short,
        long,
        value_name = "NAME=VALUE",
        value_parser = name_and_value,
        required_unless_present = "delete_config"
    )]
    config: Vec<(String, String)>,
    /// A config to go back to its default; repeatable
    #[arg(long, value_name = "NAME")]
    delete_config: Vec<String>,
    /// Check everything, change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    output: OutputFlag,
    #[command(flatten)]
    connect: ConnectFlags,
}

/// What programs get.
#[derive(Debug, Serialize)]
struct Shown<'a> {
    name: &'a str,
    /// False after a dry run.
    altered: bool,
    set: BTreeMap<&'a str, &'a str>,
    deleted: &'a [String],
}

/// Runs it.
pub(super) async fn run(flags: &Flags) -> Result<()> {
    let mut change = ConfigChange::default().validate_only(flags.dry_run);
    for (name, value) in &flags.config {
        change = change.set(name, value);
    }
    for name in &flags.delete_config {
        change = change.remove(name);
    }
    let admin = flags.connect.admin().await?;
    if let Err(error) = admin.alter_topic_configs(&flags.name, change).await {
        return Err(refused(&admin, flags, error).await);
    }
    let shown = Shown {
        name: &flags.name,
        altered: !flags.dry_run,
        set: flags
            .config
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect(),
        deleted: &flags.delete_config,
    };
    let what = if flags.dry_run {
        "could be altered"
    } else {
        "altered"
    };
    output::done(
        flags.output.output,
        &shown,
        &format!("topic {} {what}", flags.name),
    )
}

async fn refused(admin: &Admin, flags: &Flags, error: tidelog_client::Error) -> anyhow::Error {
    let set = flags.config.iter().map(|(name, _)| name.as_str());
    let names = set.chain(flags.delete_config.iter().map(String::as_str));
    match suggest::config_error(names, error).downcast::<tidelog_client::Error>() {
        Ok(error) => suggest::topic_error(admin, &flags.name, error).await,
        Err(told) => told,
    }
}
