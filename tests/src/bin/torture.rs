//! Three brokers under load, and a nemesis, for minutes: run by `cargo xtask torture`.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Parser;
use tidelog_tests::torture::{self, Plan, Report};

#[derive(Parser)]
struct Args {
    /// For how many minutes faults go on; settling comes on top
    #[arg(long, default_value_t = 3.0, value_parser = minutes)]
    minutes: f64,
    /// What faults are drawn from; by default another every time. It chooses the faults and does
    /// not replay a run
    #[arg(long)]
    seed: Option<u64>,
    /// Leave the brokers' data and logs where they are
    #[arg(long)]
    keep: bool,
}

fn minutes(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|minutes| (0.1..=24.0 * 60.0).contains(minutes))
        .ok_or_else(|| "not a number of minutes from 0.1 to 1440".to_owned())
}

#[tokio::main]
async fn main() -> ExitCode {
    tidelog_tests::report(run().await)
}

async fn run() -> Result<()> {
    let args = Args::parse();
    let seed = args.seed.unwrap_or_else(rand::random);
    println!(
        "torture for {} minute(s), faults drawn from seed {seed}",
        args.minutes
    );
    let began = Instant::now();
    let report = torture::run(Plan {
        faults_for: Duration::from_secs_f64(args.minutes * 60.0),
        seed,
        keep: args.keep,
    })
    .await?;
    print(&report, began.elapsed());
    Ok(())
}

fn print(report: &Report, took: Duration) {
    let total: usize = report.faults.iter().map(|(_, count)| count).sum();
    let kinds: Vec<String> = report
        .faults
        .iter()
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    println!("no invariant was violated in {:.0} s", took.as_secs_f64());
    println!("  faults               {total} ({})", kinds.join(", "));
    println!("  events checked       {}", report.events);
    println!("  acknowledged         {}", report.acknowledged);
    println!("  fate unknown         {}", report.unknown);
    println!("  handed to the group  {}", report.delivered);
    println!(
        "  slowest to acknowledge again after healing  {:.2} s",
        report.slowest_recovery.as_secs_f64()
    );
    println!("  batches compared     {}", report.batches_compared);
}
