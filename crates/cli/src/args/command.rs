//! The command line as clap gets it: what holds for every command is said here once.

use clap::builder::PossibleValue;
use clap::error::{ContextKind, ContextValue};
use clap::{Arg, Command, CommandFactory, FromArgMatches};

use super::examples::examples;
use super::names::with_names;
use crate::Cli;
use crate::suggest::near;

/// The whole command line, with its examples.
pub(crate) fn command() -> Command {
    everywhere(Cli::command(), "")
}

/// Reads the command line of this process.
pub(crate) fn parse() -> Result<Cli, clap::Error> {
    parse_from(std::env::args_os())
}

/// Reads a command line, the program's name first.
pub(crate) fn parse_from<W>(words: impl IntoIterator<Item = W>) -> Result<Cli, clap::Error>
where
    W: Into<std::ffi::OsString> + Clone,
{
    let matches = command()
        .try_get_matches_from(words)
        .map_err(without_misleading_tips)?;
    Cli::from_arg_matches(&matches)
}

fn everywhere(command: Command, path: &str) -> Command {
    let command = command.mut_args(|arg| with_names(mended(arg), path));
    let command = match examples(path) {
        Some(text) => command.after_help(format!("Examples:\n{text}")),
        None => command,
    };
    command.mut_subcommands(|subcommand| {
        let path = format!("{path} {}", subcommand.get_name());
        everywhere(subcommand, path.trim())
    })
}

fn mended(arg: Arg) -> Arg {
    let arg = with_values_in_its_help(arg);
    // So that a negative number is refused by what it is for, and not taken for an option.
    if arg.get_action().takes_values() && !arg.is_positional() && !arg.is_allow_hyphen_values_set() {
        return arg.allow_negative_numbers(true);
    }
    arg
}

/// The values that are possible stand in the sentence that tells what they are for: a list of its
/// own makes every help a long one.
fn with_values_in_its_help(arg: Arg) -> Arg {
    let values = arg.get_possible_values();
    if !arg.get_action().takes_values() || values.iter().all(PossibleValue::is_hide_set) {
        return arg;
    }
    let told: Vec<String> = values
        .iter()
        .filter(|value| !value.is_hide_set())
        .map(value_in_words)
        .collect();
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    arg.help(format!("{help}: {}", told.join(", ")))
        .hide_possible_values(true)
}

fn value_in_words(value: &PossibleValue) -> String {
    let name = value.get_name();
    let Some(help) = value.get_help() else {
        return name.to_owned();
    };
    let help = help.to_string();
    let mut letters = help.chars();
    match (letters.next(), letters.clone().next()) {
        // Within a sentence; "JSON" stays.
        (Some(first), Some(second)) if second.is_lowercase() || second == ' ' => {
            format!("{name} ({}{})", first.to_lowercase(), letters.as_str())
        }
        _ => format!("{name} ({help})"),
    }
}

/// Of clap's tips, those that name something near to what was written. It finds similar what merely
/// begins alike (`delete` for `delete-records`), and would have an option that does not exist
/// passed as a value.
fn without_misleading_tips(mut error: clap::Error) -> clap::Error {
    for (wrong, suggested) in [
        (ContextKind::InvalidSubcommand, ContextKind::SuggestedSubcommand),
        (ContextKind::InvalidArg, ContextKind::SuggestedArg),
        (ContextKind::InvalidValue, ContextKind::SuggestedValue),
    ] {
        let Some(written) = error.get(wrong).map(ToString::to_string) else {
            continue;
        };
        let tips = match error.remove(suggested) {
            Some(ContextValue::Strings(tips)) => tips,
            Some(ContextValue::String(tip)) => vec![tip],
            _ => continue,
        };
        if let Some(meant) = near(&written, tips.iter().map(String::as_str)) {
            let meant = meant.to_owned();
            error.insert(
                suggested,
                match suggested {
                    ContextKind::SuggestedSubcommand => ContextValue::Strings(vec![meant]),
                    _ => ContextValue::String(meant),
                },
            );
        }
    }
    error.remove(ContextKind::Suggested);
    error
}

#[cfg(test)]
mod tests {
    use super::super::examples::tests::words;
    use super::*;

    fn refusal(line: &str) -> String {
        parse_from(words(&format!("tidelog {line}")))
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn the_command_line_holds_together() {
        command().debug_assert();
    }

    #[test]
    fn a_tip_names_what_is_near_and_nothing_else() {
        for (line, tip) in [
            ("topic descrbe orders", Some("'describe'")),
            ("topic list --interal", Some("'--internal'")),
            ("topic list -o jsn", Some("'json'")),
            ("topics list", Some("'topic'")),
            ("topic delete-records orders", None),
            ("consume orders --from-beginning", None),
            ("topic delete -x", None),
            ("topic describe -5", None),
            ("cluster state", None),
        ] {
            let refusal = refusal(line);
            let told = refusal.lines().find(|text| text.contains("tip:"));
            match tip {
                Some(tip) => assert!(told.is_some_and(|told| told.contains(tip)), "{line}: {refusal}"),
                None => assert_eq!(told, None, "{line}: {refusal}"),
            }
        }
    }

    #[test]
    fn a_negative_number_is_refused_by_what_it_is_for() {
        for (line, says) in [
            ("consume orders --from -5", "neither an offset nor a moment"),
            ("group reset-offsets g --to-datetime -5", "write -5s"),
            ("group reset-offsets g --to-offset -5", "'-5'"),
            ("topic create orders -p -1", "'-1'"),
            ("topic list --timeout -1", "'-1'"),
            ("server --node-id -1", "'-1'"),
        ] {
            let refusal = refusal(line);
            assert!(
                refusal.contains(says) && !refusal.contains("tip:"),
                "{line}: {refusal}"
            );
            assert!(!refusal.contains("unexpected argument"), "{line}: {refusal}");
        }
    }

    #[test]
    fn the_help_is_as_short_as_its_options_are_few() {
        fn walk(command: &Command, path: &str) {
            let help = refusal(&format!("{path} --help"));
            assert_eq!(help, refusal(&format!("{path} -h")), "{path}");
            // A line and its option follow each other: no empty line stands between them, as it
            // does in clap's long form.
            let options = help.split("Options:\n").nth(1).unwrap();
            let options = options.split("\n\n").next().unwrap();
            assert!(options.contains("Print help"), "{path}: {help}");
            for subcommand in command.get_subcommands() {
                walk(subcommand, format!("{path} {}", subcommand.get_name()).trim());
            }
        }
        walk(&command(), "");
        let help = refusal("topic list --help");
        assert!(help.lines().count() <= 24, "{help}");
        assert!(help.contains("table (columns for people)"), "{help}");
        assert!(help.contains("json (JSON for programs)"), "{help}");
    }
}
