//! `tidelog topic delete`

use anyhow::Result;
use clap::Args;

use crate::args::ConnectFlags;
use crate::commands::confirm::{self, ConfirmFlag};
use crate::commands::each::Each;
use crate::output::OutputFlag;
use crate::suggest;

/// Flags of `tidelog topic delete`.
#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// The topics
    #[arg(required = true)]
    names: Vec<String>,
    #[command(flatten)]
    confirm: ConfirmFlag,
    #[command(flatten)]
    output: OutputFlag,
    #[command(flatten)]
    connect: ConnectFlags,
}

/// Asks whether to go on, on a terminal.
pub(super) fn confirm(flags: &Flags) -> Result<()> {
    let question = format!(
        "Delete {} and every record in it?",
        confirm::several("topic", &flags.names)
    );
    confirm::ask(flags.confirm, &question)
}

/// Runs it.
pub(super) async fn run(flags: &Flags) -> Result<()> {
    let admin = flags.connect.admin().await?;
    let mut each = Each::new("topic", "deleted", flags.output.output);
    for name in &flags.names {
        let deleted = match admin.delete_topic(name).await {
            Ok(()) => Ok(()),
            Err(error) => Err(suggest::topic_error(&admin, name, error).await),
        };
        each.note(name, deleted);
    }
    each.finish()
}
