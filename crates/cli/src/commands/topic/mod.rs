//! `tidelog topic`

mod alter;
mod create;
mod delete;
mod describe;
mod list;

use anyhow::Result;
use clap::Subcommand;

use super::{Effect, until_answered};

/// `tidelog topic …`
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create a topic; done when every partition has a leader
    Create(create::Flags),
    /// List topics
    List(list::Flags),
    /// Show a topic's configs and partitions: leaders, replicas, offsets, sizes
    Describe(describe::Flags),
    /// Change a topic's configs while it is in use
    Alter(alter::Flags),
    /// Delete topics and every record in them; asks first on a terminal
    Delete(delete::Flags),
}

/// Runs one of them.
pub(crate) fn run(command: &Command) -> Result<()> {
    if let Command::Delete(flags) = command {
        delete::confirm(flags)?;
    }
    let effect = match command {
        Command::List(_) | Command::Describe(_) => Effect::Reads,
        Command::Create(_) | Command::Alter(_) | Command::Delete(_) => Effect::Changes,
    };
    until_answered(effect, async {
        match command {
            Command::Create(flags) => create::run(flags).await,
            Command::List(flags) => list::run(flags).await,
            Command::Describe(flags) => describe::run(flags).await,
            Command::Alter(flags) => alter::run(flags).await,
            Command::Delete(flags) => delete::run(flags).await,
        }
    })
}

fn name_and_value(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .map(|(name, value)| (name.trim().to_owned(), value.to_owned()))
        .filter(|(name, _)| !name.is_empty())
        .ok_or_else(|| format!("{text:?} is not NAME=VALUE"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_is_a_name_and_a_value() {
        assert_eq!(
            name_and_value("a.b=c=d").unwrap(),
            ("a.b".to_owned(), "c=d".to_owned())
        );
        assert!(name_and_value("retention.ms").is_err() && name_and_value("=1").is_err());
    }
}
