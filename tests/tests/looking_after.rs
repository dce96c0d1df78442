//! Looking after topics, groups and the cluster by the command line: what is said when something is
//! not there, when several things are asked for at once, and when no broker knows the present.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::{Value, json};
use tidelog_tests::cluster::{Cluster, Layout, binary};
use tidelog_tests::program::{Program, refused, stderr};
use tidelog_tests::{ports, wait};

/// How long something that is bound to come may take.
const SOON: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_and_groups_are_looked_after() -> Result<()> {
    let cluster = Cluster::start(3).await?;
    let program = Program::of(&cluster);
    creates_and_alters(&program)?;
    names_what_was_meant(&program)?;
    shows_a_topic_in_full(&program)?;
    shows_a_group_whose_member_owns_nothing(&program)?;
    completes_names(&program, &cluster)?;
    asks_on_a_terminal(&program)?;
    deletes_all_that_it_can(&program)?;
    shows_what_each_broker_tells(&program)?;
    Ok(())
}

fn creates_and_alters(program: &Program) -> Result<()> {
    let created = program.json(&["topic", "create", "orders", "-p", "2", "-o", "json"])?;
    assert_eq!(
        (&created["name"], &created["created"], &created["partitions"]),
        (&json!("orders"), &json!(true), &json!(2))
    );
    assert!(created["topic_id"].is_string(), "{created}");
    let again = program.json(&["topic", "create", "orders", "--if-not-exists", "-o", "json"])?;
    assert_eq!(
        (&again["created"], &again["topic_id"]),
        (&json!(false), &Value::Null)
    );
    let altered = program.json(&[
        "topic",
        "alter",
        "orders",
        "-c",
        "max.message.bytes=2000000",
        "-o",
        "json",
    ])?;
    assert_eq!(altered["set"], json!({ "max.message.bytes": "2000000" }));

    let flag = program.run(&["topic", "create", "x", "-c", "partitions=12"])?;
    refused(&flag, 2, &["--partitions 12"])?;
    let nosuch = program.run(&["topic", "alter", "orders", "--delete-config", "max.message.byte"])?;
    refused(
        &nosuch,
        1,
        &["INVALID_CONFIG", "did you mean \"max.message.bytes\"?"],
    )?;
    let minimum = program.run(&["topic", "create", "x", "-c", "min.insync.replicas=4"])?;
    refused(&minimum, 1, &["more than the topic's 3 replicas"])?;
    let fixed = program.run(&["topic", "alter", "orders", "-c", "partitions=12"])?;
    refused(
        &fixed,
        1,
        &["cannot be changed afterwards", "create another topic"],
    )?;
    let fixed = program.run(&["topic", "alter", "orders", "-c", "replication.factor=2"])?;
    refused(&fixed, 1, &["cannot be changed afterwards"])?;
    Ok(())
}

fn names_what_was_meant(program: &Program) -> Result<()> {
    let meant = |words: &[&str], says: &str| refused(&program.run(words)?, 4, &[says]);
    meant(
        &["topic", "describe", "ordrs"],
        "no topic \"ordrs\"; did you mean \"orders\"?",
    )?;
    meant(
        &["topic", "alter", "Orders", "-c", "min.insync.replicas=2"],
        "did you mean \"orders\"?",
    )?;
    meant(&["topic", "delete", "oders"], "did you mean \"orders\"?")?;
    meant(&["topic", "describe", "inventory"], "`tidelog topic list`")?;
    program.ok(&[
        "group",
        "reset-offsets",
        "billing",
        "--topic",
        "orders",
        "--to-latest",
        "--execute",
    ])?;
    meant(
        &["group", "describe", "biling"],
        "no group \"biling\"; did you mean \"billing\"?",
    )?;
    meant(&["group", "lag", "biling"], "did you mean \"billing\"?")?;
    meant(&["group", "delete", "biling"], "did you mean \"billing\"?")?;
    meant(
        &["group", "reset-offsets", "biling", "--to-latest"],
        "did you mean \"billing\"?",
    )?;
    let topic = [
        "group",
        "reset-offsets",
        "billing",
        "--topic",
        "ordrs",
        "--to-latest",
    ];
    meant(&topic, "did you mean \"orders\"?")?;
    let config = program.run(&["topic", "alter", "orders", "-c", "min.insync.replica=2"])?;
    refused(
        &config,
        1,
        &["min.insync.replica", "did you mean \"min.insync.replicas\"?"],
    )?;
    let config = program.run(&["topic", "create", "y", "-c", "max.mesage.bytes=2000"])?;
    refused(&config, 1, &["did you mean \"max.message.bytes\"?"])
}

fn shows_a_topic_in_full(program: &Program) -> Result<()> {
    let sent = program.run_with_input(&["produce", "orders", "-p", "1"], "one\ntwo\n")?;
    ensure!(sent.status.success(), "{}", stderr(&sent));
    let topic = program.json(&["topic", "describe", "orders", "-o", "json"])?;
    let config = |name: &str| {
        let all = topic["effective_configs"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        let found = all
            .iter()
            .find(|config| config["name"] == name)
            .cloned()
            .unwrap_or_default();
        (found["value"].clone(), found["source"].clone())
    };
    assert_eq!(config("max.message.bytes"), (json!("2000000"), json!("topic")));
    assert_eq!(config("min.insync.replicas"), (json!("2"), json!("default")));
    assert_eq!(
        (&topic["records"], &topic["partitions"][1]["records"]),
        (&json!(2), &json!(2))
    );
    // Its partitions have different leaders, so another broker is asked for one of them.
    assert_eq!(topic["partitions"][0]["size_bytes"], json!(0));
    assert_eq!(topic["partitions"][1]["size_bytes"], topic["size_bytes"]);
    assert!(
        topic["size_bytes"].as_u64().is_some_and(|size| size > 6),
        "{topic}"
    );
    let table = program.ok(&["topic", "describe", "orders"])?;
    for told in ["TOPIC-ID", "max.message.bytes", "default", "RECORDS", "SIZE"] {
        assert!(table.contains(told), "{told}: {table}");
    }
    Ok(())
}

/// The size of the one partition of a topic, once its leader tells it.
async fn size_of(program: &Program, topic: &str) -> Result<u64> {
    wait::until("a size", SOON, async || {
        let described = program.json(&["topic", "describe", topic, "-o", "json"])?;
        let size = described["partitions"][0]["size_bytes"].as_u64();
        size.with_context(|| format!("no size: {described}"))
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_tells_how_large_it_is() -> Result<()> {
    let mut cluster = Cluster::start(1).await?;
    let program = Program::of(&cluster);
    program.ok(&["topic", "create", "sized", "-p", "1", "-r", "1"])?;
    assert_eq!(size_of(&program, "sized").await?, 0);
    let line = "a".repeat(999) + "\n";
    let mut before = 0;
    for lines in [10, 990] {
        let sent = program.run_with_input(&["produce", "sized", "-z", "none"], &line.repeat(lines))?;
        ensure!(sent.status.success(), "{}", stderr(&sent));
        let grown = size_of(&program, "sized").await? - before;
        let payload = 999 * lines as u64;
        // Beside its value a record takes a few bytes, and its batch 61.
        assert!(
            (payload..payload + 80 * lines as u64).contains(&grown),
            "{payload} bytes of values became {grown}"
        );
        before += grown;
    }
    let broker = cluster.broker(1);
    broker.kill()?;
    broker.start()?;
    broker.wait_ready(SOON).await?;
    assert_eq!(size_of(&program, "sized").await?, before, "after a restart");
    Ok(())
}

/// Three members of a topic with two partitions: one of them owns none.
fn shows_a_group_whose_member_owns_nothing(program: &Program) -> Result<()> {
    let consume = ["consume", "orders", "--group", "idle", "--from", "beginning"];
    let mut members = Vec::new();
    let described = (|| {
        for _ in 0..3 {
            members.push(
                program
                    .command(&consume)?
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .spawn()?,
            );
        }
        let deadline = std::time::Instant::now() + SOON;
        loop {
            let output = program.run(&["group", "describe", "idle", "-o", "json"])?;
            let group: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
            let owned = |member: &Value| member["partitions"].as_array().map_or(0, Vec::len);
            let members = group["members"].as_array().map(Vec::as_slice).unwrap_or_default();
            let mut counts: Vec<usize> = members.iter().map(owned).collect();
            counts.sort_unstable();
            if counts == [0, 1, 1] {
                return anyhow::Ok((group, program.ok(&["group", "describe", "idle", "-o", "wide"])?));
            }
            ensure!(
                std::time::Instant::now() < deadline,
                "the members never settled: {group}"
            );
        }
    })();
    for member in &mut members {
        member.kill()?;
        member.wait()?;
    }
    let (group, table) = described?;
    assert!(group["coordinator"]["id"].is_u64(), "{group}");
    let address = group["coordinator"]["address"].as_str().context("no address")?;
    for member in group["members"].as_array().context("no members")? {
        assert_eq!(member["topics"], json!(["orders"]));
        let id = member["member_id"].as_str().context("no id")?;
        let line = table.lines().find(|line| line.starts_with(id));
        let line = line.with_context(|| format!("{id} is not shown: {table}"))?;
        assert!(line.contains("127.0.0.1") && line.ends_with("orders"), "{line}");
    }
    assert!(
        table.contains(address) && table.contains("COORDINATOR"),
        "{table}"
    );
    Ok(())
}

/// What the shell's script asks while somebody types, and how long an answer takes where no cluster
/// is.
fn completes_names(program: &Program, cluster: &Cluster) -> Result<()> {
    let complete = |bootstrap: &str, words: &[&str]| -> Result<String> {
        let output = Command::new(binary()?)
            .arg("--")
            .args(words)
            .env("TIDELOG_COMPLETE", "bash")
            .env("_CLAP_COMPLETE_INDEX", (words.len() - 1).to_string())
            .env("_CLAP_IFS", "\n")
            .env("TIDELOG_BOOTSTRAP", bootstrap)
            .output()?;
        ensure!(output.stderr.is_empty(), "{}", stderr(&output));
        Ok(String::from_utf8(output.stdout)?)
    };
    let there = cluster.bootstrap().join(",");
    let complete_there = |words: &[&str]| complete(&there, words);
    assert_eq!(complete_there(&["tidelog", "topic", "describe", "or"])?, "orders");
    assert_eq!(
        complete_there(&["tidelog", "group", "describe", "bil"])?,
        "billing"
    );
    assert_eq!(complete_there(&["tidelog", "topic", "desc"])?, "describe");
    let began = std::time::Instant::now();
    let named = ["tidelog", "topic", "describe", "--bootstrap", "127.0.0.1:1", "or"];
    assert_eq!(complete(&there, &named)?, "");
    ensure!(began.elapsed() < Duration::from_secs(10), "somebody waits for it");
    let script = program.ok(&["completions", "bash"])?;
    assert!(script.contains("TIDELOG_COMPLETE"), "{script}");
    Ok(())
}

/// Runs a command whose standard input and error are a terminal, and answers its question.
fn on_a_terminal(program: &Program, words: &[&str], answer: &str) -> Result<(Option<i32>, String)> {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
    grantpt(&terminal)?;
    unlockpt(&terminal)?;
    let name = ptsname(&terminal, Vec::new())?;
    let open = || {
        std::fs::File::options()
            .read(true)
            .write(true)
            .open(name.to_string_lossy().as_ref())
    };
    let mut child = program
        .command(words)?
        .stdin(open()?)
        .stderr(open()?)
        .stdout(Stdio::null())
        .spawn()?;
    let mut screen = std::fs::File::from(terminal);
    let mut seen = String::new();
    let mut piece = [0; 256];
    while !seen.contains("[y/N]") {
        let count = screen
            .read(&mut piece)
            .context("the command ended without a question")?;
        seen.push_str(&String::from_utf8_lossy(&piece[..count]));
    }
    screen.write_all(format!("{answer}\n").as_bytes())?;
    let ended = child.wait()?;
    Ok((ended.code(), seen))
}

fn asks_on_a_terminal(program: &Program) -> Result<()> {
    program.ok(&["topic", "create", "doomed", "-p", "1"])?;
    let (code, asked) = on_a_terminal(program, &["topic", "delete", "doomed"], "n")?;
    assert_eq!(code, Some(1), "{asked}");
    assert!(
        asked.contains("Delete topic doomed and every record in it?"),
        "{asked}"
    );
    program.ok(&["topic", "describe", "doomed"])?;
    let (code, asked) = on_a_terminal(program, &["topic", "delete", "doomed"], "y")?;
    assert_eq!(code, Some(0), "{asked}");
    refused(&program.run(&["topic", "describe", "doomed"])?, 4, &["doomed"])?;
    let (code, asked) = on_a_terminal(program, &["group", "delete", "billing"], "no")?;
    assert_eq!(code, Some(1), "{asked}");
    program.ok(&["group", "describe", "billing"])?;
    Ok(())
}

fn deletes_all_that_it_can(program: &Program) -> Result<()> {
    for name in ["a", "c"] {
        program.ok(&["topic", "create", name, "-p", "1"])?;
    }
    let output = program.run(&["topic", "delete", "a", "nosuch", "c"])?;
    refused(&output, 4, &["1 of 3 topics were not deleted"])?;
    for told in [
        "topic a deleted",
        "topic nosuch not deleted: no topic \"nosuch\"",
        "topic c deleted",
    ] {
        assert!(stderr(&output).contains(told), "{told}: {}", stderr(&output));
    }
    let output = program.run(&["group", "delete", "billing", "nobody", "-o", "json"])?;
    assert_eq!(output.status.code(), Some(4), "{}", stderr(&output));
    let deleted: Value = serde_json::from_slice(&output.stdout)?;
    assert_eq!(
        deleted[0],
        json!({ "name": "billing", "done": true, "error": null })
    );
    assert_eq!(
        (&deleted[1]["name"], &deleted[1]["done"]),
        (&json!("nobody"), &json!(false))
    );
    assert!(deleted[1]["error"].is_string(), "{deleted}");
    Ok(())
}

fn shows_what_each_broker_tells(program: &Program) -> Result<()> {
    let version = program.ok(&["--version"])?;
    let version = version
        .trim()
        .strip_prefix("tidelog ")
        .context("another program")?;
    let status = program.json(&["cluster", "status", "-o", "json"])?;
    assert_eq!(status["stale"], json!(false));
    let brokers = status["brokers"].as_array().context("no brokers")?;
    assert_eq!(brokers.len(), 3);
    for broker in brokers {
        assert_eq!(broker["version"], version);
        for figure in ["uptime_ms", "disk_used_bytes", "disk_free_bytes"] {
            assert!(
                broker[figure].as_u64().is_some_and(|figure| figure > 0),
                "{figure}: {broker}"
            );
        }
    }
    let sum = |field: &str| {
        brokers
            .iter()
            .filter_map(|broker| broker[field].as_u64())
            .sum::<u64>()
    };
    // Two partitions of orders and sixteen of the groups' offsets, three replicas each.
    assert_eq!((sum("leaders"), sum("replicas")), (18, 54));
    let health = program.json(&["cluster", "health", "-o", "json"])?;
    assert_eq!(health, json!({ "healthy": true, "troubles": [] }));
    Ok(())
}

/// Until a command ends with this code; what it said then.
async fn ends_with(program: &Program, words: &[&str], code: i32) -> Result<Output> {
    let what = format!("{words:?} ending with {code}");
    wait::until(&what, SOON, async || {
        let output = program.run(words)?;
        ensure!(
            output.status.code() == Some(code),
            "it ended with {}: {}",
            output.status,
            stderr(&output)
        );
        Ok(output)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_majority_nobody_is_called_alive_for_having_been() -> Result<()> {
    let mut cluster = Cluster::start(3).await?;
    let program = Program::of(&cluster);
    program.ok(&["topic", "create", "orders", "-p", "1"])?;
    cluster.broker(2).kill()?;
    cluster.broker(3).kill()?;
    let output = ends_with(&program, &["cluster", "status", "-o", "json"], 5).await?;
    let status: Value = serde_json::from_slice(&output.stdout)?;
    assert_eq!(
        (&status["stale"], &status["answered_by"]),
        (&json!(true), &json!(1))
    );
    let alive: Vec<&Value> = (0..3).map(|index| &status["brokers"][index]["alive"]).collect();
    assert_eq!(alive, [&json!(true), &json!(false), &json!(false)], "{status}");
    refused(
        &output,
        5,
        &["broker 1, which answered", "contact with a metadata leader"],
    )?;
    refused(
        &program.run(&["cluster", "health"])?,
        5,
        &["contact with a metadata leader"],
    )?;
    for command in [&["topic", "describe", "orders"][..], &["topic", "list"]] {
        let output = program.run(command)?;
        refused(&output, 5, &["out of date"])?;
        let shown = String::from_utf8_lossy(&output.stdout);
        ensure!(shown.contains("orders"), "{command:?}: {shown}");
    }
    cluster.broker(2).start()?;
    ends_with(&program, &["cluster", "status"], 0).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_is_healthy_when_every_voter_has_come() -> Result<()> {
    let mut cluster = Cluster::lay_out(&Layout::of(3))?;
    cluster.start_all()?;
    let program = Program::of(&cluster);
    ends_with(&program, &["cluster", "health"], 0).await?;
    program.ok(&["topic", "create", "orders", "-p", "1", "-r", "3"])?;
    Ok(())
}

/// What a script does that starts brokers and goes on at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_is_created_while_the_cluster_forms() -> Result<()> {
    let mut cluster = Cluster::lay_out(&Layout::of(3))?;
    cluster.start_all()?;
    let program = Program::of(&cluster);
    program.ok(&["topic", "create", "orders", "-p", "1", "-r", "3"])?;
    let none = program.run(&["topic", "create", "more", "-p", "1", "-r", "4"])?;
    refused(&none, 1, &["INVALID_REPLICATION_FACTOR", "3 of 3"])?;
    cluster.broker(3).kill()?;
    let broker_is_gone = ["topic", "create", "more", "-p", "1", "-r", "3", "--timeout", "15"];
    wait::until("the dead broker to be missed", SOON, async || {
        let status = program.json(&["cluster", "status", "-o", "json"])?;
        ensure!(status["brokers"][2]["alive"] == json!(false), "{status}");
        Ok(())
    })
    .await?;
    let waiting = program.command(&broker_is_gone)?.stderr(Stdio::piped()).spawn()?;
    cluster.broker(3).start()?;
    let output = waiting.wait_with_output()?;
    ensure!(output.status.success(), "{}", stderr(&output));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_has_not_formed_says_what_it_waits_for() -> Result<()> {
    let mut cluster = Cluster::lay_out(&Layout::of(3))?;
    cluster.broker(1).start()?;
    let program = Program::of(&cluster);
    let output = ends_with(&program, &["cluster", "status"], 5).await?;
    refused(&output, 5, &["the cluster has not formed", "waiting for"])?;
    refused(
        &program.run(&["cluster", "health"])?,
        5,
        &["the cluster has not formed"],
    )?;
    refused(
        &program.run(&["group", "list"])?,
        5,
        &["the cluster has not formed"],
    )?;
    refused(
        &program.run(&["group", "lag"])?,
        5,
        &["the cluster has not formed"],
    )?;
    for words in [
        &["produce", "orders", "--timeout", "2"][..],
        &["consume", "orders", "--from", "beginning", "--timeout", "2"],
    ] {
        refused(
            &program.run(words)?,
            3,
            &["\"orders\"", "the cluster has not formed"],
        )?;
    }
    Ok(())
}

/// It answers, and what it answers is that nobody decides; within the time that the caller has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_without_a_majority_refuses_changes_in_time() -> Result<()> {
    let mut cluster = Cluster::start(3).await?;
    let program = Program::of(&cluster);
    program.ok(&["topic", "create", "orders"])?;
    let alone = Program::at(&cluster.broker(3).client_address());
    cluster.broker(1).kill()?;
    cluster.broker(2).kill()?;
    for words in [
        &["topic", "create", "payments", "--timeout", "3"][..],
        &["topic", "delete", "orders", "--yes", "--timeout", "3"],
        &[
            "topic",
            "alter",
            "orders",
            "-c",
            "max.message.bytes=1000",
            "--timeout",
            "3",
        ],
    ] {
        refused(
            &alone.run(words)?,
            3,
            &["no metadata leader took the command", "nothing was changed"],
        )?;
    }
    Ok(())
}

#[test]
fn dev_may_serve_elsewhere_and_says_how_to_go_on() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let ports = ports::reserve_together(&[0, 1, 2])?;
    let port = ports[0].get();
    let mut dev = Command::new(binary()?)
        .args(["dev", "--brokers", "1", "--port", &port.to_string(), "--data-dir"])
        .arg(folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut bootstrap = String::new();
    BufReader::new(dev.stdout.take().context("no output")?).read_line(&mut bootstrap)?;
    let program = Program::at(bootstrap.trim());
    let listed = program.run(&["topic", "list"]);
    let pid = Pid::from_raw(i32::try_from(dev.id())?).context("a process id above 0")?;
    rustix::process::kill_process(pid, Signal::TERM)?;
    let ended = dev.wait_with_output()?;
    ensure!(
        ended.status.success(),
        "dev did not end in order: {}",
        stderr(&ended)
    );
    assert_eq!(bootstrap.trim(), format!("127.0.0.1:{port}"));
    ensure!(listed?.status.success(), "nobody served at {bootstrap}");
    let said = stderr(&ended);
    for told in [
        format!("peers 127.0.0.1:{}", port + 1),
        format!("health, metrics) 127.0.0.1:{}", port + 2),
        format!("rm -r {}", folder.path().display()),
        format!("TIDELOG_BOOTSTRAP=127.0.0.1:{port}"),
        "Ctrl-C".to_owned(),
    ] {
        assert!(said.contains(&told), "{told}: {said}");
    }
    Ok(())
}
