//! `tidelog group`

mod describe;
mod ends;
mod lag;
mod reset;

use anyhow::Result;
use clap::{Args, Subcommand};
use serde::Serialize;

use super::confirm::{self, ConfirmFlag};
use super::each::Each;
use super::{Effect, until_answered};
use crate::args::ConnectFlags;
use crate::output::{self, Columns, OutputFlag};
use crate::standing::refuse_stale;
use crate::suggest;

/// `tidelog group …`
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List groups
    List(ListFlags),
    /// Show a group's members, committed offsets and lag
    Describe(describe::Flags),
    /// Show how far groups are behind the ends of what they read
    Lag(lag::Flags),
    /// Set where a group without members goes on reading; only shows what it would do unless told
    /// to --execute
    ResetOffsets(reset::Flags),
    /// Delete groups without members, and their offsets; asks first on a terminal
    Delete(DeleteFlags),
}

/// Flags of `tidelog group list`.
#[derive(Debug, Args)]
pub(crate) struct ListFlags {
    #[command(flatten)]
    output: OutputFlag,
    #[command(flatten)]
    connect: ConnectFlags,
}

/// Flags of `tidelog group delete`.
#[derive(Debug, Args)]
pub(crate) struct DeleteFlags {
    /// The groups
    #[arg(required = true)]
    groups: Vec<String>,
    #[command(flatten)]
    confirm: ConfirmFlag,
    #[command(flatten)]
    output: OutputFlag,
    #[command(flatten)]
    connect: ConnectFlags,
}

#[derive(Debug, Serialize)]
struct ShownListing {
    group: String,
    state: String,
    members: u32,
}

/// Runs one of them.
pub(crate) fn run(command: &Command) -> Result<()> {
    if let Command::Delete(flags) = command {
        let question = format!(
            "Delete {} and its offsets?",
            confirm::several("group", &flags.groups)
        );
        confirm::ask(flags.confirm, &question)?;
    }
    let effect = match command {
        Command::List(_) | Command::Describe(_) | Command::Lag(_) => Effect::Reads,
        Command::ResetOffsets(_) | Command::Delete(_) => Effect::Changes,
    };
    until_answered(effect, async {
        match command {
            Command::List(flags) => list(flags).await,
            Command::Describe(flags) => describe::run(flags).await,
            Command::Lag(flags) => lag::run(flags).await,
            Command::ResetOffsets(flags) => reset::run(flags).await,
            Command::Delete(flags) => delete(flags).await,
        }
    })
}

async fn list(flags: &ListFlags) -> Result<()> {
    let admin = flags.connect.admin().await?;
    let listed = admin.list_groups().await?;
    let shown: Vec<ShownListing> = listed
        .groups
        .into_iter()
        .map(|group| ShownListing {
            group: group.group_id,
            state: group.state,
            members: group.members,
        })
        .collect();
    output::show(flags.output.output, &shown, |_| {
        let mut columns = Columns::new(&["GROUP", "STATE", "MEMBERS"]);
        for group in &shown {
            columns.row([
                group.group.clone(),
                group.state.clone(),
                group.members.to_string(),
            ]);
        }
        columns
    })?;
    Ok(refuse_stale(listed.answered_by.as_ref())?)
}

async fn delete(flags: &DeleteFlags) -> Result<()> {
    let admin = flags.connect.admin().await?;
    let mut each = Each::new("group", "deleted", flags.output.output);
    for group in &flags.groups {
        let deleted = match admin.delete_group(group).await {
            Ok(()) => Ok(()),
            Err(error) => Err(suggest::group_error(&admin, group, error).await),
        };
        each.note(group, deleted);
    }
    each.finish()
}
