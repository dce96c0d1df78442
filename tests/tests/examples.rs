//! The client's examples, run as their documentation says.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tidelog_client::{Client, NewTopic, OffsetAt, Record};
use tidelog_tests::cluster::Cluster;
use tokio::io::{AsyncBufReadExt, BufReader};

/// How long an example may take to say what it is waited for to say.
const PATIENCE: Duration = Duration::from_mins(1);

/// Examples are built beside the tests.
fn example(name: &str) -> Result<PathBuf> {
    let test = std::env::current_exe()?;
    let folder = test
        .parent()
        .and_then(|deps| deps.parent())
        .context("no build folder")?;
    let program = folder.join("examples").join(name);
    ensure!(
        program.exists(),
        "{} is not built: run the tests of the whole workspace",
        program.display()
    );
    Ok(program)
}

/// Runs an example to its end, which must be a good one, and says what it printed.
fn run(name: &str, cluster: &Cluster) -> Result<String> {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(example(name)?)
        .arg(cluster.brokers()[0].client_address())
        .output()
        .with_context(|| format!("running the example {name}"))?;
    let out = String::from_utf8_lossy(&stdout).into_owned();
    ensure!(
        status.success(),
        "the example {name} failed: {out}{}",
        String::from_utf8_lossy(&stderr)
    );
    Ok(out)
}

fn says(out: &str, lines: &[&str]) -> Result<()> {
    for line in lines {
        ensure!(out.contains(line), "no {line:?} in {out}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_order_has_its_effect_in_every_service_once() -> Result<()> {
    let cluster = Cluster::start(3).await?;
    let out = run("order_service", &cluster)?;
    says(
        &out,
        &[
            "payment is scaled from one member to three",
            "3000 orders are published",
            "every order had its effect in every service exactly once",
        ],
    )?;
    for member in ["inventory-1", "payment-1", "payment-2", "payment-3", "shipping-1"] {
        says(&out, &[&format!("{member} was handed")])?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_short_examples_show_what_they_say() -> Result<()> {
    let cluster = Cluster::start(1).await?;
    says(
        &run("dead_letter", &cluster)?,
        &[
            "charged 12.50",
            "charged 7.00",
            "dead letter \"a lot\" from payments-0@1, tried 1 time(s): invalid float literal",
            "dead letter \"bank is down\" from payments-0@3, tried 4 time(s): the bank does not answer",
        ],
    )?;
    says(
        &run("json", &cluster)?,
        &[
            "Reading { sensor: \"roof\", celsius: 21.5, humidity: None }",
            "humidity: Some(0.8)",
            "no reading: key must be a string",
        ],
    )?;
    says(
        &run("headers", &cluster)?,
        &[
            "ada = mathematician at 1700000000000",
            "trace: \\xde\\xad",
            "draft: null",
            "ada = null at",
        ],
    )?;
    says(
        &run("errors", &cluster)?,
        &[
            "MendTheCaller: bootstrap address \"localhost\" is not an address",
            "Nothing: TOPIC_ALREADY_EXISTS",
            "MendTheCaller: MESSAGE_TOO_LARGE",
            "max.message.bytes is 1024",
            "MendTheCaller: topic name \"no such topic\" is not allowed",
            "StartOver: the producer was closed",
        ],
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_is_asked_to_end_commits_what_it_did() -> Result<()> {
    let cluster = Cluster::start(1).await?;
    let client = Client::builder(cluster.bootstrap()).connect().await?;
    for topic in ["orders", "invoices"] {
        client
            .admin()
            .create_topic(NewTopic::new(topic).partitions(1))
            .await?;
    }
    let producer = client.producer().build().await?;
    for number in 0..10 {
        producer
            .send(Record::to("orders").value(number.to_string()))
            .await?;
    }
    let mut service = tokio::process::Command::new(example("graceful_shutdown")?)
        .args([&cluster.brokers()[0].client_address(), "orders", "invoices"])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut invoices = client
        .consumer()
        .topic("invoices", OffsetAt::Earliest)
        .build()
        .await?;
    for number in 0..10 {
        let invoice = tokio::time::timeout(PATIENCE, invoices.recv()).await??;
        ensure!(invoice.value.as_deref() == Some(number.to_string().as_bytes()));
    }
    let id = service.id().context("the service has ended")?;
    let asked = Command::new("kill").arg(id.to_string()).status()?;
    ensure!(asked.success(), "the signal could not be sent");
    let out = service.stdout.take().context("its output is ours")?;
    let mut lines = BufReader::new(out).lines();
    let status = tokio::time::timeout(PATIENCE, service.wait()).await??;
    let mut last = String::new();
    while let Some(line) = lines.next_line().await? {
        last = line;
    }
    ensure!(status.success(), "the service ended with {status}");
    ensure!(last == "everything is acknowledged and committed", "{last}");
    let group = client.admin().describe_group("invoices").await?;
    ensure!(group.members.is_empty(), "it left: {group:?}");
    let committed: Vec<u64> = group.offsets.iter().map(|offset| offset.offset).collect();
    // The last invoice was read before its order was marked, perhaps.
    ensure!(committed == [10] || committed == [9], "{committed:?}");
    Ok(())
}
