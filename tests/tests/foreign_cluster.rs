//! Clients and clusters that are not theirs: one that came to the same address, and two that are
//! named in one breath.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tidelog_client::{Client, Error, ErrorKind, NewTopic, OffsetAt, OffsetReset, Record};
use tidelog_tests::cluster::{Cluster, READY};
use tidelog_tests::ports;
use tidelog_tests::program::{Program, refused};
use tidelog_tests::wait;

const TOPIC: &str = "orders";
const GROUP: &str = "inventory";
const PATIENCE: Duration = Duration::from_secs(30);

async fn create(client: &Client) -> Result<()> {
    client
        .admin()
        .create_topic(NewTopic::new(TOPIC).partitions(1))
        .await?;
    Ok(())
}

fn is_foreign(error: &Error, names: &[String]) -> Result<()> {
    ensure!(
        error.kind() == ErrorKind::ForeignCluster && !error.is_retriable(),
        "{error:?}"
    );
    for name in names {
        ensure!(
            error.message().contains(name.as_str()),
            "{error} does not name {name}"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_whose_cluster_is_gone_joins_no_other_that_came_to_its_address() -> Result<()> {
    let mut cluster = Cluster::start(1).await?;
    let address = cluster.bootstrap()[0].clone();
    let client = Client::builder([address.clone()]).connect().await?;
    create(&client).await?;
    let producer = client.producer().build().await?;
    producer.send(Record::to(TOPIC).value("ours")).await?;
    let group = client
        .group(GROUP)
        .topics([TOPIC])
        .auto_offset_reset(OffsetReset::Earliest);
    let mut member = group.build().await?;
    let mut reader = client.consumer().topic(TOPIC, OffsetAt::Earliest).build().await?;
    tokio::time::timeout(PATIENCE, member.recv()).await??;
    tokio::time::timeout(PATIENCE, reader.recv()).await??;

    // Another cluster at the same address, with a topic of the same name.
    let broker = cluster.broker(1);
    broker.kill()?;
    std::fs::remove_dir_all(broker.data_dir())?;
    broker.start()?;
    cluster.wait_ready(READY).await?;
    let theirs = Client::builder([address.clone()]).connect().await?;
    create(&theirs).await?;
    let id = |client: &Client| client.cluster_id().map(|id| id.to_string()).unwrap_or_default();
    let names = [id(&client), id(&theirs), address.clone()];
    ensure!(names[0] != names[1], "it is the same cluster");

    let sent = tokio::time::timeout(PATIENCE, producer.send(Record::to(TOPIC).value("stray"))).await?;
    is_foreign(&sent.expect_err("a record for another cluster"), &names)?;
    let handed = tokio::time::timeout(PATIENCE, member.recv()).await?;
    is_foreign(&handed.expect_err("a record of another cluster"), &names)?;
    let handed = tokio::time::timeout(PATIENCE, reader.recv()).await?;
    is_foreign(&handed.expect_err("a record of another cluster"), &names)?;
    let described = client.admin().describe_cluster().await;
    is_foreign(&described.expect_err("another cluster"), &names)?;
    let listed = client.admin().delete_topic(TOPIC).await;
    is_foreign(&listed.expect_err("another cluster's topic"), &names)?;
    let joined = client.group("others").topics([TOPIC]).build().await;
    is_foreign(&joined.expect_err("another cluster's group"), &names)?;
    // A stream of its own, which no answer of metadata stands before.
    let another = client.producer().build().await?;
    let sent = tokio::time::timeout(PATIENCE, another.send(Record::to(TOPIC).value("stray"))).await?;
    is_foreign(&sent.expect_err("a record for another cluster"), &names)?;

    // Nothing of it came to the other cluster.
    let partitions = theirs.partitions(TOPIC).await?;
    let ends = partitions
        .into_iter()
        .map(|partition| (partition, OffsetAt::Latest));
    let ends = theirs.admin().list_offsets(ends).await?;
    ensure!(ends.values().all(|end| end.offset == 0), "{ends:?}");
    let groups = theirs.admin().list_groups().await?.groups;
    ensure!(groups.is_empty(), "{groups:?}");
    Ok(())
}

/// A program that pipes a log into `tidelog produce` must learn that nothing arrives any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn produce_ends_when_another_cluster_is_at_its_address() -> Result<()> {
    let mut cluster = Cluster::start(1).await?;
    let program = Program::of(&cluster);
    program.ok(&["topic", "create", TOPIC, "-p", "1"])?;
    let mut command = program.command(&["produce", TOPIC, "-o", "json"])?;
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut running = command.spawn()?;
    let ended = until_another_cluster(&mut cluster, &mut running).await;
    let _ = running.kill();
    let output = running.wait_with_output()?;
    ended?;
    refused(&output, 2, &["belongs to cluster"])
}

async fn until_another_cluster(cluster: &mut Cluster, running: &mut Child) -> Result<()> {
    let mut input = running.stdin.take().context("no input")?;
    writeln!(input, "ours")?;
    let mut acknowledged = String::new();
    let output = running.stdout.as_mut().context("no output")?;
    BufReader::new(output).read_line(&mut acknowledged)?;
    let broker = cluster.broker(1);
    broker.kill()?;
    std::fs::remove_dir_all(broker.data_dir())?;
    broker.start()?;
    cluster.wait_ready(READY).await?;
    wait::until("the program to end", PATIENCE, async || {
        // A pipe that nobody reads any more is what is waited for.
        let _ = writeln!(input, "stray");
        running.try_wait()?.context("it runs")?;
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bootstrap_addresses_of_two_clusters_are_refused_by_name() -> Result<()> {
    let (one, two) = (Cluster::start(1).await?, Cluster::start(1).await?);
    let both = [one.bootstrap(), two.bootstrap()].concat();
    let mut names = Vec::new();
    for cluster in [&one, &two] {
        let client = Client::builder(cluster.bootstrap()).connect().await?;
        names.extend(client.cluster_id().map(|id| id.to_string()));
    }
    for bootstrap in [both.clone(), both.iter().rev().cloned().collect()] {
        let connected = Client::builder(bootstrap).connect().await;
        is_foreign(&connected.expect_err("two clusters"), &names)?;
    }
    let program = Program::at(&both.join(","));
    for words in [
        &["cluster", "status"][..],
        &["cluster", "health"],
        &["topic", "create", "astray"],
        &["topic", "list"],
    ] {
        refused(&program.run(words)?, 2, &[&names[0], &names[1], "two clusters"])?;
    }
    // One that is down is no reason to refuse the other.
    drop(two);
    Client::builder(both).connect().await?;
    Ok(())
}

/// A broker advertises addresses where another cluster's client, peer and HTTP listeners answer.
/// Commands name the broker, the address, and what answers there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_advertised_address_where_somebody_else_answers_is_named() -> Result<()> {
    let mut other = Cluster::start(1).await?;
    let other = other.broker(1);
    let doors = [
        (other.client_address(), "belongs to cluster"),
        (other.peer_address(), "the peer listener of broker 1"),
        (other.http_address(), "the HTTP listener of broker 1"),
    ];
    let mut extra = Vec::new();
    let mut listeners = Vec::new();
    for (at, (door, finds)) in doors.iter().enumerate() {
        let port = ports::reserve()?;
        extra.push("--listen".to_owned());
        extra.push(format!("l{at}=127.0.0.1:{}@{door}", port.get()));
        listeners.push((port, door, finds));
    }
    let extra: Vec<&str> = extra.iter().map(String::as_str).collect();
    let mut cluster = Cluster::prepare(1, false, &extra)?;
    cluster.start_all()?;
    cluster.wait_ready(READY).await?;
    Program::of(&cluster).ok(&["topic", "create", TOPIC, "-p", "1"])?;
    for (port, door, finds) in listeners {
        let program = Program::at(&format!("127.0.0.1:{}", port.get()));
        for words in [
            &["produce", TOPIC, "--timeout", "2"][..],
            &["consume", TOPIC, "--from", "beginning"],
            &["consume", TOPIC, "-g", GROUP],
            &["cluster", "status"],
        ] {
            says(&program, words, &["broker 1", door, "that it advertises", finds])?;
        }
    }
    Ok(())
}

/// Runs a command until a line of its standard error holds all of these parts.
fn says(program: &Program, words: &[&str], parts: &[&str]) -> Result<()> {
    let mut command = program.command(words)?;
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut running = command.spawn()?;
    let mut input = running.stdin.take().context("no input")?;
    // Who needs no input may have ended.
    let _ = writeln!(input, "a line");
    drop(input);
    let said = BufReader::new(running.stderr.take().context("no standard error")?);
    let (line, lines) = mpsc::channel();
    let reader = thread::spawn(move || {
        said.lines()
            .map_while(Result::ok)
            .try_for_each(|said| line.send(said))
    });
    let mut heard = Vec::new();
    let says_all = |line: &String| parts.iter().all(|part| line.contains(part));
    while !heard.last().is_some_and(says_all) {
        match lines.recv_timeout(PATIENCE) {
            Ok(line) => heard.push(line),
            Err(_) => break,
        }
    }
    let _ = running.kill();
    running.wait()?;
    // It ended: nobody holds the other end of the pipe.
    let _ = reader.join();
    let heard_it = heard.last().is_some_and(says_all);
    ensure!(heard_it, "{words:?} did not say {parts:?}: {}", heard.join("\n"));
    Ok(())
}
