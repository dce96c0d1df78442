//! What the README records, measured on brokers as real processes. Run by
//! `cargo xtask measure footprint | throughput | failover | rebalance | groups`.

mod failover;
mod footprint;
mod groups;
mod process;
mod throughput;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Idle CPU and memory of three brokers, and how long starting and restarting take
    Footprint {
        /// The year's departures to load before the restart; without it the week that comes with
        /// the sources, as often as makes a year
        #[arg(long)]
        file: Option<PathBuf>,
        /// How long the brokers idle before and during the measurement, seconds each
        #[arg(long, default_value_t = 60)]
        idle_seconds: u64,
    },
    /// MB/s and latencies with 1 KiB records, replication 3, acks=all, 6 partitions
    Throughput {
        /// How long each load lasts, seconds
        #[arg(long, default_value_t = 20)]
        seconds: u64,
    },
    /// How long producers wait when a leader is killed, paused, cut off or stopped
    Failover {
        /// How often each is done
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..))]
        repetitions: u16,
        /// Only this
        #[arg(long, value_enum)]
        only: Option<failover::Fault>,
    },
    /// How soon a group's new member is handed its first record, and whether the other members
    /// notice
    Rebalance {
        /// How often one joins
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..))]
        repetitions: u16,
    },
    /// Many groups of ten members on one broker: commit latencies, sessions lost, CPU. Then how
    /// soon a coordinator loads a million commits
    Groups {
        /// How many groups
        #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=2000))]
        groups: u32,
        /// How long they are measured, seconds
        #[arg(long, default_value_t = 600)]
        seconds: u64,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    tidelog_tests::report(run().await)
}

async fn run() -> Result<()> {
    match Args::parse().what {
        What::Footprint { file, idle_seconds } => footprint::measure(file.as_deref(), idle_seconds).await,
        What::Throughput { seconds } => throughput::measure(seconds).await,
        What::Rebalance { repetitions } => groups::rebalance::measure(repetitions.into()).await,
        What::Groups { groups, seconds } => {
            groups::scale::measure(groups, seconds).await?;
            groups::loading::measure().await
        }
        What::Failover { repetitions, only } => failover::measure(repetitions.into(), only).await,
    }
}
