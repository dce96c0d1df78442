//! The `tidelog` program: what one does with a broker or its data from a shell.
//!
//! | module | what |
//! | --- | --- |
//! | `args` | the command line, and how values with a syntax of their own are read |
//! | `commands` | one file a command: parse → options → validate → run |
//! | `output` | columns for people, JSON for programs, formats |
//! | `exit` | exit codes, and the line that says why |
//! | `fail_stop` | a panic ends the process |
//! | `interrupt`, `logging` | signals, and what the program says of itself |
//! | `probe` | GET on a broker's HTTP listener |

mod args;
mod commands;
mod exit;
mod fail_stop;
mod interrupt;
mod logging;
mod output;
mod probe;

use std::process::ExitCode;

use clap::Parser;

use args::Cli;
use exit::Exit;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are such errors too, and go to standard output with code 0. If nobody reads them, so be it.
            let _ = error.print();
            return if error.use_stderr() {
                Exit::Usage.into()
            } else {
                Exit::Ok.into()
            };
        }
    };
    match commands::run(&cli.command) {
        Ok(()) => Exit::Ok.into(),
        Err(error) => exit::report(&error).into(),
    }
}
