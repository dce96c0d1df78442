//! The `tidelog` program: what one does with a broker or its data from a shell.
//!
//! | module | what |
//! | --- | --- |
//! | `args` | the command line, and how values with a syntax of their own are read |
//! | `commands` | one file a command: parse → options → validate → run |
//! | `output` | columns for people, JSON for programs, formats |
//! | `escape` | `\t` and its like in delimiters and formats |
//! | `exit` | exit codes, and the line that says why |
//! | `fail_stop` | a panic is told of, and ends a broker |
//! | `interrupt`, `waiting` | signals, and saying what a command waits for |
//! | `stderr`, `logging` | what the program says of itself, without ever waiting for a reader |
//! | `suggest` | names near to one that does not exist |
//! | `probe` | GET on a broker's HTTP listener |

#![deny(clippy::print_stderr, clippy::print_stdout)]

mod args;
mod commands;
mod escape;
mod exit;
mod fail_stop;
mod interrupt;
mod logging;
mod output;
mod probe;
mod standing;
mod stderr;
mod suggest;
mod waiting;

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use clap::Parser;
use commands::Command;
use exit::Exit;

const EXIT_CODES: &str = "\
Exit codes:
    0  done
    1  failed
    2  wrong usage, or addresses of another cluster
    3  the broker could not be reached, or did not answer in time
    4  what was asked for does not exist
    5  unhealthy, or a verification failed
    6  not allowed
  130  interrupted

Data goes to standard output, everything else to standard error. JSON of a stream is one object a line.";

/// Tidelog: a replicated, partitioned log.
#[derive(Debug, Parser)]
#[command(name = "tidelog", version = args::VERSION, after_help = EXIT_CODES, max_term_width = 120)]
struct Cli {
    /// What to do.
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    fail_stop::report_panics();
    if commands::answered_a_shell() {
        return Exit::Ok.into();
    }
    let exit = match args::parse() {
        Ok(cli) => commands::run(&cli.command).map(|()| Exit::Ok),
        Err(unparsed) => usage(&unparsed),
    };
    let exit = match exit {
        Ok(exit) => exit,
        Err(error) => exit::report(&error),
    };
    stderr::flush(stderr::AT_THE_END);
    exit.into()
}

/// Says what is wrong with the command line. Help and version are such errors too, and go to
/// standard output.
fn usage(error: &clap::Error) -> anyhow::Result<Exit> {
    if !error.use_stderr() {
        return output::printed(error.print()).map(|()| Exit::Ok);
    }
    let text = error.render();
    let text = if io::stderr().is_terminal() {
        text.ansi().to_string()
    } else {
        text.to_string()
    };
    stderr::emit(text.into_bytes());
    Ok(Exit::Usage)
}
