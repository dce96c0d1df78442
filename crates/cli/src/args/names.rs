//! Arguments that complete with names of topics and groups while somebody types.
//!
//! The cluster is asked for them, for no longer than [`NAMES_TIMEOUT`]. If that fails, there are no
//! names to choose from, and nothing is said.

use std::ffi::{OsStr, OsString};
use std::time::Duration;

use clap::Arg;
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use tidelog_client::{Client, Result as ClientResult};

use super::DEFAULT_BOOTSTRAP;

/// How long the cluster is asked: somebody waits with a finger on the tab key.
const NAMES_TIMEOUT: Duration = Duration::from_secs(1);
/// Most names that are offered.
const MAX_NAMES: usize = 1_000;

/// The arguments that name topics: the command, and the argument's id.
const TOPICS: &[(&str, &str)] = &[
    ("topic describe", "name"),
    ("topic alter", "name"),
    ("topic delete", "names"),
    ("produce", "topic"),
    ("consume", "topics"),
    ("group reset-offsets", "topic"),
    ("bench produce", "topic"),
    ("bench consume", "topic"),
    ("bench latency", "topic"),
];
/// Those that name groups.
const GROUPS: &[(&str, &str)] = &[
    ("consume", "group"),
    ("group describe", "group"),
    ("group lag", "groups"),
    ("group reset-offsets", "group"),
    ("group delete", "groups"),
];

/// An argument, with names from the cluster to choose from if it takes such.
pub(super) fn with_names(arg: Arg, path: &str) -> Arg {
    let is_in = |list: &[(&str, &str)]| list.contains(&(path, arg.get_id().as_str()));
    if is_in(TOPICS) {
        return arg.add(ArgValueCompleter::new(topics));
    }
    if is_in(GROUPS) {
        return arg.add(ArgValueCompleter::new(groups));
    }
    arg
}

fn topics(typed: &OsStr) -> Vec<CompletionCandidate> {
    candidates(typed, async |client| {
        let topics = client.admin().list_topics(false).await?.topics;
        Ok(topics.into_iter().map(|topic| topic.name).collect())
    })
}

fn groups(typed: &OsStr) -> Vec<CompletionCandidate> {
    candidates(typed, async |client| {
        let groups = client.admin().list_groups().await?.groups;
        Ok(groups.into_iter().map(|group| group.group_id).collect())
    })
}

fn candidates(
    typed: &OsStr,
    ask: impl AsyncFnOnce(Client) -> ClientResult<Vec<String>>,
) -> Vec<CompletionCandidate> {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return Vec::new();
    };
    let names = runtime.block_on(async {
        let asked = async {
            let client = Client::builder([bootstrap(std::env::args_os())])
                .connect()
                .await?;
            ask(client).await
        };
        tokio::time::timeout(NAMES_TIMEOUT, asked).await
    });
    runtime.shutdown_background();
    let typed = typed.to_string_lossy();
    let names = names.ok().and_then(Result::ok).unwrap_or_default();
    let fitting = names.into_iter().filter(|name| name.starts_with(&*typed));
    fitting.take(MAX_NAMES).map(CompletionCandidate::new).collect()
}

/// Where the cluster is, by the words so far, the environment, or the default.
fn bootstrap(words: impl Iterator<Item = OsString>) -> String {
    let mut words = words.map(|word| word.to_string_lossy().into_owned()).peekable();
    while let Some(word) = words.next() {
        if let Some(addresses) = word.strip_prefix("--bootstrap=") {
            return addresses.to_owned();
        }
        if word == "--bootstrap"
            && let Some(addresses) = words.peek()
        {
            return addresses.clone();
        }
    }
    std::env::var("TIDELOG_BOOTSTRAP").unwrap_or_else(|_| DEFAULT_BOOTSTRAP.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::command;

    #[test]
    fn every_argument_that_takes_names_is_there() {
        let all = command();
        for (path, id) in TOPICS.iter().chain(GROUPS) {
            let of = path
                .split(' ')
                .fold(&all, |command, name| command.find_subcommand(name).unwrap());
            let found = of.get_arguments().find(|arg| arg.get_id() == *id);
            let found = found.unwrap_or_else(|| panic!("{path} has no argument {id}"));
            assert!(found.get::<ArgValueCompleter>().is_some(), "{path} {id}");
        }
    }

    #[test]
    fn the_cluster_is_the_one_that_the_words_name() {
        let of = |line: &str| bootstrap(line.split(' ').map(OsString::from));
        assert_eq!(of("tidelog -- tidelog topic list --bootstrap a:1 "), "a:1");
        assert_eq!(of("tidelog -- tidelog --bootstrap=b:1 topic"), "b:1");
    }
}
