//! Three brokers, a week of real flights, a group that grows, and a broker killed on the way; then
//! every record is counted. Run by `cargo xtask demo`.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use comfy_table::{Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use parking_lot::Mutex;
use tidelog_client::{Client, NewTopic};
use tidelog_tests::cluster::{Cluster, READY};
use tidelog_tests::ledger::{Ledger, Sums};
use tidelog_tests::scenario::{Disturbance, Load, LoadReport, Member, MemberReport, SharedLedger, in_sync};
use tidelog_tests::{flights, wait};
use tokio::task::JoinHandle;

const TOPIC: &str = "flights";
const GROUP: &str = "demo";
const PARTITIONS: u32 = 6;
const REPLICATION_FACTOR: u32 = 3;
/// Records a second, roughly: the week is repeated as often as that takes.
const RATE: usize = 6_000;
/// When, as parts of the load: the second member joins, a broker is killed, the third member joins,
/// the broker is back.
const SECOND_MEMBER: f64 = 0.2;
const KILL: f64 = 0.4;
const THIRD_MEMBER: f64 = 0.6;
const RESTART: f64 = 0.7;
/// How often the progress is drawn.
const LOOK: Duration = Duration::from_millis(100);
/// How long the group may take to read the rest.
const CATCH_UP: Duration = Duration::from_mins(1);

#[derive(Parser)]
struct Args {
    /// Leave the brokers' data where it is
    #[arg(long)]
    keep: bool,
    /// How long the load lasts, seconds
    #[arg(long, default_value_t = 20)]
    seconds: u64,
}

#[tokio::main]
async fn main() -> ExitCode {
    tidelog_tests::report(run().await)
}

async fn run() -> Result<()> {
    let args = Args::parse();
    let mut cluster = Cluster::prepare(3, args.keep, &[])?;
    eprintln!("starting three brokers, data in {}", cluster.folder().display());
    let began = Instant::now();
    cluster.start_all()?;
    cluster.wait_ready(READY).await?;
    eprintln!("the cluster serves after {:.1} s", began.elapsed().as_secs_f64());

    let outcome = Demo::new(cluster, Duration::from_secs(args.seconds))
        .await?
        .run()
        .await?;
    println!("{}", outcome.table());
    if args.keep {
        println!("data and logs: {}", outcome.folder.display());
    }
    let sums = outcome.sums;
    ensure!(sums.lost == 0, "{} acknowledged records were lost", sums.lost);
    ensure!(
        sums.stored_twice == 0,
        "{} records were stored twice",
        sums.stored_twice
    );
    ensure!(
        sums.acknowledged == outcome.load.produced,
        "not every record was acknowledged"
    );
    Ok(())
}

struct Demo {
    cluster: Cluster,
    client: Client,
    ledger: SharedLedger,
    disturbance: Arc<Mutex<Option<Disturbance>>>,
    members: Vec<Member>,
    progress: ProgressBar,
    pace: Duration,
}

struct Outcome {
    load: LoadReport,
    members: Vec<MemberReport>,
    sums: Sums,
    caught_up_in: Duration,
    folder: std::path::PathBuf,
}

impl Demo {
    async fn new(cluster: Cluster, pace: Duration) -> Result<Self> {
        let client = Client::builder(cluster.bootstrap())
            .client_id("demo")
            .connect()
            .await?;
        let topic = NewTopic::new(TOPIC)
            .partitions(PARTITIONS)
            .replication_factor(REPLICATION_FACTOR);
        client
            .admin()
            .create_topic(topic)
            .await
            .context("creating the topic")?;
        let ledger = Arc::new(Mutex::new(Ledger::default()));
        let progress = ProgressBar::new(0);
        progress.set_style(ProgressStyle::with_template(
            "{bar:30} {pos}/{len} acknowledged  {msg}",
        )?);
        Ok(Self {
            cluster,
            client,
            ledger,
            disturbance: Arc::default(),
            members: Vec::new(),
            progress,
            pace,
        })
    }

    async fn run(mut self) -> Result<Outcome> {
        let flights = Arc::new(flights::read(&flights::week_file())?);
        let rounds = (RATE * self.pace.as_secs() as usize)
            .div_ceil(flights.len())
            .max(1);
        let load = Load {
            topic: TOPIC.to_owned(),
            flights,
            rounds,
            pace: self.pace,
            disturbance: Arc::clone(&self.disturbance),
        };
        let total = load.total();
        self.progress.set_length(total as u64);
        let loading = tokio::spawn(load.run(self.client.clone(), Arc::clone(&self.ledger)));

        self.join("one");
        self.acknowledged(total, SECOND_MEMBER).await?;
        self.join("two");
        self.acknowledged(total, KILL).await?;
        let victim = self.kill_a_leader().await?;
        self.acknowledged(total, THIRD_MEMBER).await?;
        self.join("three");
        self.acknowledged(total, RESTART).await?;
        self.cluster.broker(victim).start()?;
        self.say(&format!("broker {victim} is started again"));

        let load = self.watch(loading, victim).await?;
        let caught_up_in = self.catch_up(total).await?;
        let mut members = Vec::new();
        for member in self.members {
            members.push(member.leave().await?);
        }
        self.progress.finish_and_clear();
        let sums = self.ledger.lock().sums();
        Ok(Outcome {
            load,
            members,
            sums,
            caught_up_in,
            folder: self.cluster.folder().to_owned(),
        })
    }

    fn join(&mut self, name: &str) {
        let ledger = Arc::clone(&self.ledger);
        self.members
            .push(Member::join(self.client.clone(), GROUP, TOPIC, name, ledger));
        self.say(&format!("member {name} joined"));
    }

    /// Waits until a part of the load is acknowledged.
    async fn acknowledged(&self, total: usize, part: f64) -> Result<()> {
        let enough = (total as f64 * part) as usize;
        wait::until("acknowledgements", self.pace * 2 + CATCH_UP, async || {
            let now = self.show();
            ensure!(now >= enough, "{now} of {total} are acknowledged");
            Ok(())
        })
        .await
    }

    async fn kill_a_leader(&mut self) -> Result<u32> {
        let topic = self
            .client
            .admin()
            .describe_topic(TOPIC)
            .await
            .context("describing the topic")?;
        let leader = topic.partitions[0].leader.context("partition 0 has no leader")?;
        let led = topic
            .partitions
            .iter()
            .filter(|partition| partition.leader == Some(leader));
        let partitions = led.map(|partition| partition.partition).collect();
        self.cluster.broker(leader).kill()?;
        *self.disturbance.lock() = Some(Disturbance {
            at: Instant::now(),
            partitions,
        });
        self.say(&format!("broker {leader} was killed (SIGKILL)"));
        Ok(leader)
    }

    /// Shows how the load goes on to its end, and says when the killed broker serves again and
    /// holds everything.
    async fn watch(&self, loading: JoinHandle<Result<LoadReport>>, victim: u32) -> Result<LoadReport> {
        let restarted = Instant::now();
        let back = in_sync(&self.client, TOPIC, REPLICATION_FACTOR, CATCH_UP);
        let mut back = std::pin::pin!(back);
        let mut is_back = false;
        let mut loading = loading;
        let mut ticks = tokio::time::interval(LOOK);
        let load = loop {
            tokio::select! {
                load = &mut loading => break load??,
                result = &mut back, if !is_back => {
                    result?;
                    is_back = true;
                    let seconds = restarted.elapsed().as_secs_f64();
                    self.say(&format!("broker {victim} serves again, in sync after {seconds:.1} s"));
                }
                _ = ticks.tick() => {
                    self.show();
                }
            }
        };
        if !is_back {
            back.await?;
            self.say(&format!("broker {victim} serves again and is in sync"));
        }
        Ok(load)
    }

    async fn catch_up(&self, total: usize) -> Result<Duration> {
        self.say("everything is acknowledged; the group reads the rest");
        let began = Instant::now();
        wait::until("the group to have read everything", CATCH_UP, async || {
            self.show();
            let read = self.ledger.lock().rows_read();
            ensure!(read == total, "{read} of {total} are read");
            Ok(())
        })
        .await?;
        Ok(began.elapsed())
    }

    fn show(&self) -> usize {
        let (acknowledged, read) = {
            let ledger = self.ledger.lock();
            (ledger.rows_acknowledged(), ledger.rows_read())
        };
        self.progress.set_position(acknowledged as u64);
        self.progress.set_message(format!("{read} read"));
        acknowledged
    }

    fn say(&self, what: &str) {
        let at = self.show();
        if self.progress.is_hidden() {
            eprintln!("[{at} acknowledged] {what}");
        } else {
            self.progress.println(what);
        }
    }
}

impl Outcome {
    fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(presets::UTF8_BORDERS_ONLY);
        let seconds = self.load.elapsed.as_secs_f64();
        let mut row = |name: &str, value: String| {
            table.add_row([name.to_owned(), value]);
        };
        row("records produced", self.load.produced.to_string());
        row(
            "acknowledged (fsynced on 2 brokers at least)",
            self.sums.acknowledged.to_string(),
        );
        for member in &self.members {
            row(
                &format!("read by member {}", member.name),
                member.read.to_string(),
            );
        }
        row("stored twice", self.sums.stored_twice.to_string());
        row("delivered again", self.sums.delivered_again.to_string());
        row("lost", self.sums.lost.to_string());
        let recovery = self
            .load
            .recovered_in
            .map_or("-".to_owned(), |time| format!("{} ms", time.as_millis()));
        row("acknowledged again after the kill in", recovery);
        row(
            "group caught up after the last acknowledgement in",
            format!("{} ms", self.caught_up_in.as_millis()),
        );
        let throughput = format!(
            "{:.0} records/s, {:.1} MB/s (paced)",
            self.load.produced as f64 / seconds,
            self.load.bytes as f64 / seconds / 1e6
        );
        row("throughput", throughput);
        table
    }
}
