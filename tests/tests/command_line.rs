//! The command line against three brokers: the spellings that scripts depend on, where output goes,
//! and how programs end.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal};
use serde_json::{Value, json};
use tidelog_tests::cluster::{Cluster, binary, http_get};
use tidelog_tests::flights;
use tidelog_tests::ports;
use tidelog_tests::program::{Program, stderr};
use tidelog_tests::streams;

const FLIGHTS: usize = 6_099;

/// Tail number and line of each departure, as `produce --key-delimiter` takes them. Without a tail
/// number there is no delimiter.
fn lines() -> Result<String> {
    let flights = flights::read(&flights::week_file())?;
    let line = |flight: &flights::Flight| match &flight.key {
        Some(key) => format!("{key}\t{}\n", flight.line),
        None => format!("{}\n", flight.line),
    };
    Ok(flights.iter().map(line).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_week_of_flights_goes_in_and_comes_out() -> Result<()> {
    let mut cluster = Cluster::start(3).await?;
    let program = Program::of(&cluster);
    program.ok(&[
        "topic",
        "create",
        "flights",
        "--partitions",
        "6",
        "--replication-factor",
        "3",
        "--config",
        "max.message.bytes=500000",
    ])?;
    describes_the_topic(&program)?;

    let produced = program.run_with_input(&["produce", "flights", "--key-delimiter", "\\t"], &lines()?)?;
    ensure!(
        produced.status.success() && produced.stdout.is_empty(),
        "{}",
        stderr(&produced)
    );
    ensure!(
        stderr(&produced).contains(&format!("{FLIGHTS} record(s) acknowledged, 0 failed")),
        "{}",
        stderr(&produced)
    );

    reads_in_a_group(&program)?;
    looks_after_the_group(&program, &cluster)?;
    reads_to_the_end(&program)?;
    ends_on_a_topic_that_is_written_to_without_a_pause(&program)?;
    alters_the_topic(&program)?;
    measures(&program)?;
    shows_the_cluster(&program, &mut cluster).await?;
    program.ok(&["topic", "delete", "flights"])?;
    let gone = program.run(&["topic", "describe", "flights"])?;
    assert_eq!(gone.status.code(), Some(4), "{}", stderr(&gone));
    Ok(())
}

fn describes_the_topic(program: &Program) -> Result<()> {
    let topic = program.json(&["topic", "describe", "flights", "-o", "json"])?;
    assert_eq!(topic["configs"], json!({ "max.message.bytes": "500000" }));
    let partitions = topic["partitions"].as_array().context("no partitions")?;
    assert_eq!(partitions.len(), 6);
    for (number, partition) in partitions.iter().enumerate() {
        assert_eq!(partition["partition"], number);
        assert!(
            partition["leader"].is_u64() && partition["leader_epoch"].is_u64(),
            "{partition}"
        );
        assert_eq!(
            partition["replicas"].as_array().map(Vec::len),
            Some(3),
            "{partition}"
        );
        assert_eq!(partition["isr"].as_array().map(Vec::len), Some(3), "{partition}");
        assert_eq!(
            (&partition["elr"], &partition["hw"], &partition["start"]),
            (&json!([]), &json!(0), &json!(0))
        );
    }
    let listed = program.json(&["topic", "list", "-o", "json"])?;
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed}");
    assert_eq!(listed[0]["name"], "flights");
    Ok(())
}

fn reads_in_a_group(program: &Program) -> Result<()> {
    let group = ["consume", "flights", "--group", "g", "--from", "beginning"];
    let first = program.json_lines(&[&group[..], &["-n", "1000", "-o", "json"]].concat())?;
    assert_eq!(first.len(), 1000);
    let record = &first[0];
    for (field, fits) in [
        ("topic", record["topic"] == "flights"),
        ("partition", record["partition"].is_u64()),
        ("offset", record["offset"] == 0),
        ("timestamp", record["timestamp"].is_i64()),
        ("key", record["key"].is_string() || record["key"].is_null()),
        (
            "value",
            record["value"]
                .as_str()
                .is_some_and(|value| value.starts_with("2013,1,")),
        ),
        ("headers", record["headers"] == json!([])),
    ] {
        assert!(fits, "{field}: {record}");
    }
    // What was printed is committed, and nothing more: the next member goes on exactly there.
    let described = program.json(&["group", "describe", "g", "-o", "json"])?;
    assert_eq!(described["members"], json!([]));
    assert_eq!(sum(&described, "committed"), 1000, "{described}");
    let rest = program.json_lines(&[&group[..], &["--until-end", "-o", "json"]].concat())?;
    assert_eq!(rest.len(), FLIGHTS - 1000);
    let described = program.json(&["group", "describe", "g", "-o", "json"])?;
    assert_eq!(
        (
            sum(&described, "committed"),
            sum(&described, "end"),
            sum(&described, "lag")
        ),
        (FLIGHTS as u64, FLIGHTS as u64, 0)
    );
    let listed = program.json(&["group", "list", "-o", "json"])?;
    assert_eq!(listed[0]["group"], "g");
    Ok(())
}

/// The group is where it ends, and has no members. It ends there again.
fn looks_after_the_group(program: &Program, cluster: &Cluster) -> Result<()> {
    let reset = ["group", "reset-offsets", "g"];
    let would = program.json(&[&reset[..], &["--to-earliest", "-o", "json"]].concat())?;
    assert_eq!(
        (&would["executed"], would["partitions"][0]["committed"].as_u64()),
        (&json!(false), Some(0))
    );
    let lag = |words: &[&str]| -> Result<u64> {
        let shown = program.json(&[&["group", "lag", "-o", "json"], words].concat())?;
        assert_eq!(shown[0]["group"], "g");
        shown[0]["lag"].as_u64().context("no lag")
    };
    assert_eq!(lag(&[])?, 0, "a dry run changes nothing");

    let back = [
        "--topic",
        "flights:0,1",
        "--shift-by",
        "-5",
        "--execute",
        "-o",
        "json",
    ];
    let done = program.json(&[&reset[..], &back].concat())?;
    assert_eq!(done["partitions"].as_array().map(Vec::len), Some(2));
    assert_eq!(lag(&["g"])?, 10);
    lag_is_a_metric(cluster, 10)?;
    program.ok(&[
        &reset[..],
        &["--to-datetime", "1970-01-01T00:00:00Z", "--execute"],
    ]
    .concat())?;
    assert_eq!(lag(&[])?, FLIGHTS as u64);
    let beyond = program.run(&[&reset[..], &["--to-offset", "99999999", "--execute"]].concat())?;
    ensure!(
        beyond.status.success() && stderr(&beyond).contains("instead of 99999999"),
        "{}",
        stderr(&beyond)
    );
    assert_eq!(lag(&[])?, 0);

    for (words, code) in [
        (&["reset-offsets", "g"][..], 2),
        (&["reset-offsets", "g", "--to-latest", "--to-earliest"], 2),
        (&["reset-offsets", "nobody", "--to-latest"], 4),
        (&["reset-offsets", "g", "--topic", "flights:77", "--to-latest"], 4),
        (&["lag", "nobody"], 4),
        (&["delete", "nobody"], 4),
    ] {
        let refused = program.run(&[&["group"], words].concat())?;
        assert_eq!(
            refused.status.code(),
            Some(code),
            "{words:?}: {}",
            stderr(&refused)
        );
    }
    // A group may be made to begin somewhere before its first member comes; and deleted again.
    program.ok(&[
        "group",
        "reset-offsets",
        "new",
        "--topic",
        "flights",
        "--to-latest",
        "--execute",
    ])?;
    let none = program.json_lines(&[
        "consume",
        "flights",
        "--group",
        "new",
        "--from",
        "beginning",
        "--until-end",
        "-o",
        "json",
    ])?;
    assert_eq!(none.len(), 0);
    program.ok(&["group", "delete", "new"])?;
    assert_eq!(program.run(&["group", "describe", "new"])?.status.code(), Some(4));
    Ok(())
}

/// The group's coordinator tells of its lag, and no other broker does.
fn lag_is_a_metric(cluster: &Cluster, lag: u64) -> Result<()> {
    let (mut sums, mut partitions) = (Vec::new(), 0);
    for broker in cluster.brokers() {
        let (_, metrics) = http_get(&broker.http_address(), "/metrics")?;
        let sum = "tidelog_consumergroup_lag_sum{consumergroup=\"g\",topic=\"flights\"} ";
        sums.extend(
            metrics
                .lines()
                .filter_map(|line| line.strip_prefix(sum))
                .map(ToOwned::to_owned),
        );
        let (_, detail) = http_get(&broker.http_address(), "/metrics/detail")?;
        let of_partition = "tidelog_consumergroup_lag{consumergroup=\"g\",topic=\"flights\",partition=";
        partitions += detail
            .lines()
            .filter(|line| line.starts_with(of_partition))
            .count();
    }
    assert_eq!((sums, partitions), (vec![lag.to_string()], 6));
    Ok(())
}

fn sum(group: &Value, field: &str) -> u64 {
    let offsets = group["offsets"].as_array().map(Vec::as_slice).unwrap_or_default();
    offsets.iter().filter_map(|offset| offset[field].as_u64()).sum()
}

fn reads_to_the_end(program: &Program) -> Result<()> {
    let all = ["consume", "flights", "--from", "beginning", "--until-end"];
    let text = program.ok(&all)?;
    assert_eq!(text.lines().count(), FLIGHTS);
    let raw = program.ok(&[&all[..], &["-o", "raw"]].concat())?;
    assert!(
        !raw.contains('\n') && raw.starts_with("2013,1,"),
        "raw adds nothing to the values"
    );
    let formatted = program.ok(&[&all[..], &["-f", "%p %o %k\\n"]].concat())?;
    assert_eq!(formatted.lines().count(), FLIGHTS);
    let one = program.ok(&[
        "consume", "flights", "--from", "5", "-p", "0", "-n", "1", "-f", "%p:%o",
    ])?;
    assert_eq!(one, "0:5");
    let none = program.ok(&["consume", "flights", "--from", "latest", "--until-end"])?;
    assert_eq!(none, "");
    let unsaid = program.run(&["consume", "flights", "--until-end"])?;
    assert_eq!(unsaid.status.code(), Some(2), "{}", stderr(&unsaid));
    Ok(())
}

fn ends_on_a_topic_that_is_written_to_without_a_pause(program: &Program) -> Result<()> {
    let mut flood = program
        .command(&[
            "bench",
            "produce",
            "flood",
            "--record-size",
            "100",
            "--seconds",
            "120",
        ])?
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let count = ["consume", "flood", "--from", "beginning", "-f", "", "--until-end"];
    let read = until_something_is_there(program).and_then(|()| program.ok(&count));
    let still_running = flood.try_wait()?.is_none();
    flood.kill()?;
    flood.wait()?;
    read?;
    ensure!(still_running, "the end was only reached after the flood");
    program.ok(&["topic", "delete", "flood"])?;
    Ok(())
}

fn until_something_is_there(program: &Program) -> Result<()> {
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    let one = ["consume", "flood", "--from", "beginning", "-n", "1", "-f", ""];
    while !program.run(&one)?.status.success() {
        ensure!(std::time::Instant::now() < deadline, "the flood never began");
    }
    Ok(())
}

fn alters_the_topic(program: &Program) -> Result<()> {
    let alter = ["topic", "alter", "flights"];
    let change = [
        "--config",
        "min.insync.replicas=3",
        "--delete-config",
        "max.message.bytes",
    ];
    program.ok(&[&alter[..], &change, &["--dry-run"]].concat())?;
    let before = program.json(&["topic", "describe", "flights", "-o", "json"])?;
    assert_eq!(before["configs"], json!({ "max.message.bytes": "500000" }));
    program.ok(&[&alter[..], &change].concat())?;
    let after = program.json(&["topic", "describe", "flights", "-o", "json"])?;
    assert_eq!(after["configs"], json!({ "min.insync.replicas": "3" }));
    program.ok(&[
        "topic",
        "alter",
        "flights",
        "--delete-config",
        "min.insync.replicas",
    ])?;

    let refused = |words: &[&str], code, says: &[&str]| {
        tidelog_tests::program::refused(&program.run(&[&alter[..], words].concat())?, code, says)
    };
    refused(
        &["--config", "retention.ms=5"],
        1,
        &["INVALID_CONFIG", "retention.ms"],
    )?;
    let nothing = program.run(&alter)?;
    assert_eq!(nothing.status.code(), Some(2), "{}", stderr(&nothing));
    Ok(())
}

async fn shows_the_cluster(program: &Program, cluster: &mut Cluster) -> Result<()> {
    let status = program.json(&["cluster", "status", "-o", "json"])?;
    let brokers = status["brokers"].as_array().context("no brokers")?;
    assert_eq!(brokers.len(), 3);
    for (broker, started) in brokers.iter().zip(cluster.brokers()) {
        assert_eq!(broker["id"], started.id);
        assert_eq!(
            (&broker["alive"], &broker["address"]),
            (&json!(true), &json!(started.client_address()))
        );
    }
    assert!(status["metadata_leader"].is_u64(), "{status}");
    assert_eq!(
        (&status["under_replicated"], &status["offline"]),
        (&json!(0), &json!(0))
    );
    program.ok(&["cluster", "health"])?;

    let http = cluster.broker(3).http_address();
    let local = ["cluster", "health", "--local", "--http", &http];
    program.ok(&local)?;
    let (code, metrics) = http_get(&http, "/metrics")?;
    assert!(code == 200 && metrics.contains("tidelog_"), "{metrics}");
    cluster.broker(3).stop().await?;
    assert_eq!(program.run(&local)?.status.code(), Some(3));
    let health = program.run(&["cluster", "health"])?;
    assert_eq!(health.status.code(), Some(5), "{}", stderr(&health));
    assert!(
        stderr(&health).contains("broker 3 is dead"),
        "{}",
        stderr(&health)
    );
    Ok(())
}

fn measures(program: &Program) -> Result<()> {
    let produced = program.json(&["bench", "produce", "bench", "-n", "5000", "--keep", "-o", "json"])?;
    assert_eq!(
        (&produced["records"], &produced["failed"]),
        (&json!(5000), &json!(0))
    );
    assert!(
        produced["latency_ms"]["p99"]
            .as_f64()
            .is_some_and(|p99| p99 > 0.0),
        "{produced}"
    );
    let consumed = program.json(&["bench", "consume", "bench", "-o", "json"])?;
    assert_eq!(
        (&consumed["records"], &consumed["bytes"]),
        (&json!(5000), &json!(5000 * 1024))
    );
    let paced = program.json(&[
        "bench",
        "latency",
        "bench",
        "--rate",
        "500",
        "--seconds",
        "2",
        "--warmup",
        "0",
        "-o",
        "json",
    ])?;
    assert_eq!((&paced["records"], &paced["failed"]), (&json!(1000), &json!(0)));
    Ok(())
}

#[test]
fn dev_is_a_cluster_in_one_process_that_keeps_its_data() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let ports = ports::reserve_together(&[0, 1, 2, 100, 101, 102, 200, 201, 202])?;
    let port = ports[0].get().to_string();
    // A broker that cannot start: those that did are closed first, else a database that closes on
    // its own thread would abort the process.
    let blocked = folder.path().join("broker-2");
    std::fs::write(&blocked, "not a folder")?;
    let output = Command::new(binary()?)
        .args(["dev", "--brokers", "3", "--port", &port, "--data-dir"])
        .arg(folder.path())
        .stdin(Stdio::null())
        .output()?;
    tidelog_tests::program::refused(&output, 1, &["broker 2", "broker-2"])?;
    std::fs::remove_file(&blocked)?;
    for expected in [1, 2] {
        let log = folder.path().join("log");
        let mut dev = Command::new(binary()?)
            .args(["dev", "--brokers", "3", "--port", &port, "--data-dir"])
            .arg(folder.path())
            .stdout(Stdio::piped())
            .stderr(File::create(&log)?)
            .spawn()?;
        let mut bootstrap = String::new();
        BufReader::new(dev.stdout.take().context("no output")?).read_line(&mut bootstrap)?;
        ensure!(
            bootstrap.trim().split(',').count() == 3,
            "dev printed {bootstrap:?}"
        );
        let program = Program::at(bootstrap.trim());
        program.ok(&["topic", "create", "orders", "--if-not-exists"])?;
        let sent = program.run_with_input(&["produce", "orders", "-k", "k"], "placed\n")?;
        ensure!(sent.status.success(), "{}", stderr(&sent));
        let read = program.ok(&["consume", "orders", "--from", "beginning", "--until-end"])?;
        assert_eq!(read.lines().count(), expected);

        let pid = Pid::from_raw(i32::try_from(dev.id())?).context("a process id above 0")?;
        rustix::process::kill_process(pid, Signal::TERM)?;
        ensure!(dev.wait()?.success(), "dev did not end in order");
        let said = std::fs::read_to_string(&log)?;
        let (_, since) = said.split_once("to stop").context("no word of how to stop it")?;
        ensure!(!since.contains("WARN") && !since.contains("ERROR"), "{said}");
    }
    dev_needs_nobody_to_read_what_it_says(folder.path())
}

fn dev_needs_nobody_to_read_what_it_says(folder: &Path) -> Result<()> {
    let (_unread, full) = streams::full_pipe()?;
    for (what, stderr) in [
        ("closed", streams::closed_pipe()?),
        ("full", full.into()),
        ("on a full disk", streams::full_disk()?),
    ] {
        let mut dev = Command::new(binary()?)
            .args(["dev", "--brokers", "1", "--log", "trace", "--data-dir"])
            .arg(folder.join("alone"))
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()?;
        let mut bootstrap = String::new();
        BufReader::new(dev.stdout.take().context("no output")?).read_line(&mut bootstrap)?;
        let program = Program::at(bootstrap.trim());
        let created = program.run(&["topic", "create", "orders", "--if-not-exists"]);
        let sent = program.run_with_input(&["produce", "orders"], &"placed\n".repeat(500));
        let pid = Pid::from_raw(i32::try_from(dev.id())?).context("a process id above 0")?;
        rustix::process::kill_process(pid, Signal::TERM)?;
        let ended = dev.wait()?;
        ensure!(created?.status.success() && sent?.status.success(), "{what}");
        ensure!(ended.success(), "{what}: dev ended with {ended}");
    }
    Ok(())
}

#[test]
fn nobody_there_is_3_and_says_where_it_looked() -> Result<()> {
    let program = Program::at("127.0.0.1:1");
    let began = std::time::Instant::now();
    let output = program.run(&["topic", "list", "--timeout", "1"])?;
    tidelog_tests::program::refused(&output, 3, &["127.0.0.1:1", "--bootstrap"])?;
    ensure!(began.elapsed() < Duration::from_secs(20), "it did not give up");
    Ok(())
}
