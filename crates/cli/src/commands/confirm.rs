//! Asking before something is gone for ever: on a terminal only, so that scripts go on as they are.

use std::io::{self, BufRead, IsTerminal, Write};

use anyhow::Result;
use clap::Args;

use crate::exit::{Exit, Failure};

/// The flag that answers beforehand.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct ConfirmFlag {
    /// Do not ask; without a terminal it is never asked
    #[arg(short, long)]
    yes: bool,
}

/// Asks, if there is a terminal to ask on and to answer from; fails unless the answer is yes.
pub(crate) fn ask(flag: ConfirmFlag, question: &str) -> Result<()> {
    let terminal = io::stdin().is_terminal() && io::stderr().is_terminal();
    if flag.yes || !terminal {
        return Ok(());
    }
    ask_on(question, &mut io::stderr().lock(), &mut io::stdin().lock())
}

fn ask_on(question: &str, terminal: &mut impl Write, answers: &mut impl BufRead) -> Result<()> {
    write!(terminal, "{question} [y/N] ")?;
    terminal.flush()?;
    let mut answer = String::new();
    answers.read_line(&mut answer)?;
    match answer.trim().to_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Failure::new(Exit::Failed, "nothing was done: the answer was not yes").into()),
    }
}

/// One or several names of a kind, as a question has them.
pub(crate) fn several(kind: &str, names: &[String]) -> String {
    match names {
        [one] => format!("{kind} {one}"),
        many => format!("{} {kind}s ({})", many.len(), many.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(answer: &str) -> bool {
        let mut terminal = Vec::new();
        let agreed = ask_on("Delete topic orders?", &mut terminal, &mut answer.as_bytes()).is_ok();
        assert_eq!(
            String::from_utf8(terminal).unwrap(),
            "Delete topic orders? [y/N] "
        );
        agreed
    }

    #[test]
    fn only_a_yes_is_a_yes() {
        for yes in ["y\n", "Yes\n", " yes"] {
            assert!(answered(yes), "{yes:?}");
        }
        for no in ["", "\n", "n\n", "yes, all of them\n", "orders\n"] {
            assert!(!answered(no), "{no:?}");
        }
    }

    #[test]
    fn several_are_counted_and_named() {
        let names = |names: &[&str]| {
            several(
                "topic",
                &names.iter().map(ToString::to_string).collect::<Vec<_>>(),
            )
        };
        assert_eq!(names(&["a"]), "topic a");
        assert_eq!(names(&["a", "b"]), "2 topics (a, b)");
    }
}
