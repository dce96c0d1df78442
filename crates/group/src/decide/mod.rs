//! Deciding: one file a kind of command. Each looks at the state and proposes a [`Decision`]; none
//! changes anything.

mod admin;
mod commit;
mod draft;
mod join;
mod stream;
mod upkeep;

pub(crate) use commit::check_committer;
pub(crate) use upkeep::has_anything_expired;

use tidelog_coordinator::Now;

use crate::command::{Command, Decision};
use crate::config::GroupConfig;
use crate::sessions::Sessions;
use crate::state::State;
use crate::topics::Topics;

/// What a decision may look at.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) config: &'a GroupConfig,
    pub(crate) topics: &'a Topics,
    pub(crate) state: &'a State,
    pub(crate) sessions: &'a Sessions,
    pub(crate) now: Now,
}

/// Decides one command.
pub(crate) fn decide(context: Context<'_>, command: &Command) -> Decision {
    match command {
        Command::Join { stream, join } => join::decide(context, *stream, join),
        Command::Heartbeat { stream, epoch } => stream::heartbeat(context, *stream, *epoch),
        Command::Revoked {
            stream,
            version,
            owned,
        } => stream::revoked(context, *stream, *version, owned),
        Command::Subscribe { stream, subscription } => stream::subscribe(context, *stream, subscription),
        Command::Leave {
            stream,
            keep_instance,
        } => stream::leave(context, *stream, *keep_instance),
        Command::Disconnected { stream } => stream::disconnected(context, *stream),
        Command::Commit {
            request,
            group,
            member,
            offsets,
        } => commit::decide(context, *request, group, member.as_ref(), offsets),
        Command::Delete { request, group } => admin::delete(context, *request, group),
        Command::Expire { group, members } => upkeep::expire_members(context, group, members),
        Command::TopicsChanged { group } => upkeep::topics_changed(context, group),
        Command::ExpireOffsets { group } => upkeep::expire_offsets(context, group),
    }
}
