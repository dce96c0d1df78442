//! What whole-cluster tests, the demo and the measurements share.
//!
//! - [`cluster`]: brokers as real processes, to be killed, paused and started again
//! - [`documented`]: the commands of a document, to be run as they stand there
//! - [`python`]: an interpreter with gRPC
//! - [`ports`]: ports that no other test takes
//! - [`program`]: the `tidelog` program as a user runs it
//! - [`flights`]: the real data
//! - [`ledger`]: which rows were acknowledged, stored and read
//! - [`group`]: members of a group as processes, and what became of them
//! - [`links`]: proxies between brokers, to cut each way apart
//! - [`replicas`]: brokers' logs on disk, compared
//! - [`small_disk`]: filesystems that are soon full
//! - [`streams`]: standard streams that do not take what is written
//! - [`scenario`]: loads and readers that several of them run
//! - [`torture`]: a load and a nemesis, judged by the checker of histories
//! - [`wait`]: conditions with a deadline

pub mod cluster;
pub mod documented;
pub mod flights;
pub mod group;
pub mod ledger;
pub mod links;
pub mod ports;
pub mod program;
pub mod python;
pub mod replicas;
pub mod scenario;
pub mod small_disk;
pub mod streams;
pub mod torture;
pub mod wait;

use std::process::ExitCode;

/// How a program of this package ends: what went wrong is one line on standard error.
pub fn report(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}
