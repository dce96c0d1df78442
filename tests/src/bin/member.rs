//! One member of a group, as a process that tests kill and pause.

use std::process::ExitCode;

use clap::Parser;
use tidelog_tests::group::member::{Order, run};

#[derive(Parser)]
struct Args {
    #[command(flatten)]
    order: Order,
}

#[tokio::main]
async fn main() -> ExitCode {
    tidelog_tests::report(run(Args::parse().order).await)
}
