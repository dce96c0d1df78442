//! What `produce` and `consume` take and give: records of every shape, there and back, and where
//! reading begins and ends.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tidelog_client::{Client, Consumer, OffsetReset};
use tidelog_tests::cluster::Cluster;
use tidelog_tests::program::{Program, refused, stderr};
use tidelog_tests::wait;

const SOON: Duration = Duration::from_secs(30);

fn topic(program: &Program, name: &str, partitions: &str) -> Result<()> {
    program.ok(&["topic", "create", name, "-p", partitions])?;
    Ok(())
}

/// Produces; everything must be acknowledged.
fn produced(program: &Program, words: &[&str], input: &str) -> Result<String> {
    let output = program.run_with_input(&[&["produce"], words].concat(), input)?;
    ensure!(output.status.success(), "produce {words:?}: {}", stderr(&output));
    Ok(String::from_utf8(output.stdout)?)
}

fn all(program: &Program, topic: &str) -> Result<Vec<Value>> {
    program.json_lines(&[
        "consume",
        topic,
        "--from",
        "beginning",
        "--until-end",
        "-o",
        "json",
    ])
}

/// A record without what differs from one topic to another.
fn bare(record: &Value) -> Value {
    let mut record = record.clone();
    if let Some(fields) = record.as_object_mut() {
        for field in ["topic", "offset", "partition"] {
            fields.remove(field);
        }
    }
    record
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_of_every_shape_go_there_and_back() -> Result<()> {
    let cluster = Cluster::start(1).await?;
    let program = Program::of(&cluster);
    json_is_a_round_trip(&program)?;
    null_values_and_headers_of_a_line(&program)?;
    a_file_is_a_record(&program)?;
    acknowledgements_are_shown(&program)?;
    a_broken_line_is_named(&program)?;
    Ok(())
}

fn json_is_a_round_trip(program: &Program) -> Result<()> {
    topic(program, "one", "3")?;
    topic(program, "two", "3")?;
    let input = concat!(
        r#"{"key":"k","value":"text","timestamp":1700000000000,"headers":[{"key":"a","value":"1"},{"key":"a","value":null}]}"#,
        "\n\n",
        r#"{"key_base64":"/wA=","value_base64":"ww==","partition":2}"#,
        "\n",
        r#"{"key":"deleted","value":null}"#,
        "\n",
    );
    produced(program, &["one", "-i", "json"], input)?;
    let first = all(program, "one")?;
    assert_eq!(first.len(), 3, "an empty line is no record");
    let line = |record: &Value| format!("{record}\n");
    let copy: String = first.iter().map(line).collect();
    produced(program, &["two", "-i", "json"], &copy)?;
    let second = all(program, "two")?;
    let place = |record: &Value| (record["partition"].clone(), record["key"].clone());
    assert_eq!(
        first.iter().map(place).collect::<Vec<_>>(),
        second.iter().map(place).collect::<Vec<_>>()
    );
    assert_eq!(
        first.iter().map(bare).collect::<Vec<_>>(),
        second.iter().map(bare).collect::<Vec<_>>()
    );
    let binary = first
        .iter()
        .find(|record| record["partition"] == 2 && record["key"].is_null());
    let binary = binary.context("the record of partition 2")?;
    assert_eq!(
        (&binary["key_base64"], &binary["value_base64"]),
        (&json!("/wA="), &json!("ww=="))
    );
    Ok(())
}

fn null_values_and_headers_of_a_line(program: &Program) -> Result<()> {
    topic(program, "lines", "1")?;
    let marked = [
        "lines",
        "-K",
        ":",
        "--null-marker",
        "NULL",
        "--timestamp",
        "1600000000000",
    ];
    produced(program, &marked, "a:NULL\nNULL:v\n")?;
    produced(program, &["lines", "-K", ":", "-Z"], "b:\n")?;
    let headers = ["lines", "--header-delimiter", "\\t", "-K", "\\t"];
    produced(program, &headers, "h=1,g\tc\tv\n")?;
    let records = all(program, "lines")?;
    assert_eq!(
        (&records[0]["key"], &records[0]["value"], &records[0]["timestamp"]),
        (&json!("a"), &Value::Null, &json!(1_600_000_000_000_u64))
    );
    assert_eq!(
        (&records[1]["key"], &records[1]["value"]),
        (&Value::Null, &json!("v"))
    );
    assert_eq!(
        (&records[2]["key"], &records[2]["value"]),
        (&json!("b"), &Value::Null)
    );
    assert_eq!(
        records[3]["headers"],
        json!([{"key": "h", "value": "1"}, {"key": "g", "value": null}])
    );
    Ok(())
}

fn a_file_is_a_record(program: &Program) -> Result<()> {
    topic(program, "files", "1")?;
    program.ok(&["topic", "alter", "files", "-c", "max.message.bytes=16777216"])?;
    let folder = tempfile::tempdir()?;
    let (small, large) = (folder.path().join("small"), folder.path().join("large"));
    std::fs::write(&small, "two\nlines\r\n")?;
    std::fs::write(&large, vec![b'x'; 2 * 1024 * 1024])?;
    let files = [&small, &large].map(|path| path.to_str().unwrap_or_default());
    produced(program, &["files", "--whole-file", files[0], files[1]], "")?;
    // A topic that takes 16 MiB takes a line of two, without any option.
    let line = "y".repeat(2 * 1024 * 1024);
    produced(program, &["files"], &format!("{line}\n"))?;
    let records = all(program, "files")?;
    assert_eq!(records[0]["value"], "two\nlines\r\n");
    let lengths = records
        .iter()
        .map(|record| record["value"].as_str().map(str::len));
    assert_eq!(
        lengths.collect::<Vec<_>>(),
        [Some(11), Some(2_097_152), Some(2_097_152)]
    );

    let bounded = ["produce", "files", "--max-request-size", "1MiB"];
    let output = program.run_with_input(&bounded, &format!("ok\n{line}\n"))?;
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    ensure!(said.contains("raise --max-request-size"), "{said}");
    // What failed is no throughput.
    ensure!(
        said.contains("1 record(s) acknowledged, 1 failed, 2 bytes"),
        "{said}"
    );
    Ok(())
}

fn acknowledgements_are_shown(program: &Program) -> Result<()> {
    topic(program, "acks", "1")?;
    let shown = produced(program, &["acks", "-o", "json", "--timestamp", "5"], "a\nb\n")?;
    let shown: Vec<Value> = shown
        .lines()
        .map(|line| Ok(serde_json::from_str(line)?))
        .collect::<Result<_>>()?;
    assert_eq!(
        shown,
        [
            json!({"record": 1, "topic": "acks", "partition": 0, "offset": 0, "timestamp": 5}),
            json!({"record": 2, "topic": "acks", "partition": 0, "offset": 1, "timestamp": 5}),
        ]
    );
    let unknown = produced(program, &["acks", "-o", "json", "--acks", "0"], "c\n")?;
    assert_eq!(serde_json::from_str::<Value>(&unknown)?["offset"], Value::Null);
    Ok(())
}

fn a_broken_line_is_named(program: &Program) -> Result<()> {
    topic(program, "broken", "1")?;
    let output = program.run_with_input(
        &["produce", "broken", "-i", "json"],
        "{\"value\":\"a\"}\n{\"valeu\":1}\n",
    )?;
    refused(&output, 1, &["line 2", "valeu"])?;
    assert_eq!(all(program, "broken")?.len(), 1, "what stood before it is sent");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_alike_are_told_once() -> Result<()> {
    let cluster = Cluster::start(1).await?;
    let program = Program::of(&cluster);
    program.ok(&["topic", "create", "t", "-p", "1", "-c", "max.message.bytes=2000"])?;
    let line = |longer: usize| format!("{}\n", "x".repeat(3000 + longer));
    let lines: String = (0..300).map(line).collect();
    let output = program.run_with_input(&["produce", "t", "--batch-size", "0"], &lines)?;
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    ensure!(said.lines().count() <= 4, "{said}");
    ensure!(
        said.contains("300 of 300 record(s) were not acknowledged"),
        "{said}"
    );
    ensure!(
        said.contains("0 record(s) acknowledged, 300 failed, 0 bytes"),
        "{said}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reading_begins_and_ends_where_it_is_told() -> Result<()> {
    let cluster = Cluster::start(1).await?;
    let program = Program::of(&cluster);
    from_beyond_the_end(&program)?;
    until_a_moment(&program)?;
    until_a_moment_to_come(&program)?;
    filters(&program)?;
    topics_by_expression(&program)?;
    a_group_that_committed_needs_no_from(&program)?;
    Ok(())
}

fn from_beyond_the_end(program: &Program) -> Result<()> {
    topic(program, "few", "1")?;
    produced(program, &["few"], "a\nb\n")?;
    let words = ["consume", "few", "-p", "0", "--from", "999", "--until-end"];
    let beyond = program.run(&words)?;
    ensure!(
        beyond.status.success() && beyond.stdout.is_empty(),
        "{}",
        stderr(&beyond)
    );
    ensure!(
        stderr(&beyond).contains("few-0 ends at offset 2") && stderr(&beyond).contains("999"),
        "{}",
        stderr(&beyond)
    );
    for words in [
        &["consume", "few", "-p", "9", "--from", "beginning"][..],
        &["produce", "few", "-p", "9"],
    ] {
        refused_at_last(
            &program.run(words)?,
            &["topic few has 1 partition(s), and none of number 9"],
        )?;
    }
    let inside = program.run(&["consume", "few", "--from", "1", "--until-end"])?;
    assert_eq!(
        (inside.stdout.as_slice(), stderr(&inside).as_str()),
        (&b"b\n"[..], "")
    );
    Ok(())
}

fn until_a_moment(program: &Program) -> Result<()> {
    topic(program, "times", "1")?;
    let line = |second: u32| format!("{{\"timestamp\":{second}000,\"value\":\"{second}\"}}\n");
    let lines: String = (1..=5).map(line).collect();
    produced(program, &["times", "-i", "json"], &lines)?;
    let read = program.ok(&["consume", "times", "--from", "@2000", "--until", "@4000"])?;
    assert_eq!(read, "2\n3\n");
    Ok(())
}

/// A moment to come is waited for; what is stamped later is not read, though it is there.
fn until_a_moment_to_come(program: &Program) -> Result<()> {
    topic(program, "ahead", "1")?;
    let moment = now_ms()? + 1_500;
    let later = moment + 3_600_000;
    let lines = format!(
        "{{\"value\":\"now\"}}\n{{\"timestamp\":{later},\"value\":\"later\"}}\n{{\"value\":\"behind it\"}}\n"
    );
    produced(program, &["ahead", "-i", "json"], &lines)?;
    let until = format!("@{moment}");
    let read = program.ok(&["consume", "ahead", "--from", "beginning", "--until", &until])?;
    assert_eq!(read, "now\n");
    let ended = now_ms()?;
    ensure!(ended >= moment, "it ended {} ms too early", moment - ended);
    Ok(())
}

fn now_ms() -> Result<u64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as u64)
}

fn filters(program: &Program) -> Result<()> {
    topic(program, "mixed", "1")?;
    let lines = "type=a\tk1\tred\ntype=b\tk2\tred\ntype=a\tk2\tblue\n";
    produced(
        program,
        &["mixed", "--header-delimiter", "\\t", "-K", "\\t"],
        lines,
    )?;
    let read = |words: &[&str]| {
        let all = [
            "consume",
            "mixed",
            "--from",
            "beginning",
            "--until-end",
            "-f",
            "%k %v\\n",
        ];
        program.ok(&[&all[..], words].concat())
    };
    assert_eq!(read(&["--filter", "re"])?, "k1 red\nk2 red\n");
    assert_eq!(read(&["--filter-key", "2$"])?, "k2 red\nk2 blue\n");
    assert_eq!(
        read(&["--filter-header", "type=^a$", "--filter", "^b"])?,
        "k2 blue\n"
    );
    assert_eq!(read(&["--filter", "^re$"])?, "");
    // What is not shown is not counted, and is committed all the same.
    let words = [
        "consume",
        "mixed",
        "-g",
        "sieve",
        "--from",
        "beginning",
        "--filter",
        "blue",
        "-n",
        "1",
    ];
    assert_eq!(program.ok(&words)?, "blue\n");
    let left = program.ok(&["consume", "mixed", "-g", "sieve", "--until-end"])?;
    assert_eq!(left, "");
    Ok(())
}

fn topics_by_expression(program: &Program) -> Result<()> {
    for name in ["log.eu", "log.us", "my.log.eu"] {
        topic(program, name, "1")?;
        produced(program, &[name], &format!("{name}\n"))?;
    }
    let words = [
        "consume",
        "--topic-regex",
        r"log\..*",
        "--from",
        "beginning",
        "--until-end",
    ];
    let output = program.run(&words)?;
    let mut lines: Vec<&str> = std::str::from_utf8(&output.stdout)?.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["log.eu", "log.us"]);
    ensure!(stderr(&output).contains("log.eu, log.us"), "{}", stderr(&output));
    let in_group = program.ok(&[&words[..], &["-g", "logs"]].concat())?;
    assert_eq!(in_group.lines().count(), 2, "{in_group}");
    let none = ["consume", "--topic-regex", "nothing.*", "--from", "beginning"];
    refused(&program.run(&none)?, 4, &["nothing.*", "topic list"])?;
    // A group waits for what may come, unless it is told to end.
    let none_yet = program.run(&[&none[..], &["-g", "later", "--until-end"]].concat())?;
    ensure!(none_yet.status.success(), "{}", stderr(&none_yet));
    ensure!(
        stderr(&none_yet).contains("no topic matches nothing.* now"),
        "{}",
        stderr(&none_yet)
    );
    Ok(())
}

fn a_group_that_committed_needs_no_from(program: &Program) -> Result<()> {
    topic(program, "held", "2")?;
    produced(program, &["held", "-p", "0"], "a\nb\n")?;
    let group = ["consume", "held", "-g", "reader"];
    let unsaid = program.run(&[&group[..], &["-n", "1"]].concat())?;
    refused(&unsaid, 2, &["reader", "held-0", "--from beginning"])?;
    assert_eq!(
        program.ok(&[&group[..], &["--from", "beginning", "-n", "1"]].concat())?,
        "a\n"
    );
    // Partition 1 has no commit, and nothing that could be missed.
    assert_eq!(program.ok(&[&group[..], &["-n", "1"]].concat())?, "b\n");
    produced(program, &["held", "-p", "1"], "c\n")?;
    let open = program.run(&[&group[..], &["-n", "1"]].concat())?;
    refused(&open, 2, &["held-1"])?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_member_ends_when_the_group_is_at_the_ends() -> Result<()> {
    let cluster = Cluster::start(1).await?;
    let program = Program::of(&cluster);
    topic(&program, "t", "1")?;
    produced(&program, &["t"], "a\nb\nc\n")?;
    // One that has read everything, and one that began at the end and has read nothing.
    for (group, from, lines) in [("read", "beginning", 3), ("late", "latest", 0)] {
        let mut first = program
            .command(&["consume", "t", "-g", group, "--from", from])?
            .stdout(Stdio::piped())
            .spawn()?;
        let mut output = BufReader::new(first.stdout.take().context("no output")?).lines();
        for _ in 0..lines {
            output.next().context("no line")??;
        }
        let owns = wait::until("the first to own the partition", SOON, async || {
            let described = program.json(&["group", "describe", group, "-o", "json"])?;
            let text = described["members"].to_string();
            ensure!(text.contains("\"t"), "{text}");
            Ok(())
        })
        .await;
        let second = program.run(&[
            "consume",
            "t",
            "-g",
            group,
            "--from",
            from,
            "--until-end",
            "--timeout",
            "30",
        ]);
        first.kill()?;
        first.wait()?;
        owns?;
        let second = second?;
        ensure!(
            second.status.success() && second.stdout.is_empty(),
            "{}",
            stderr(&second)
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_does_not_exist_is_said_and_waited_for_as_long_as_asked() -> Result<()> {
    let cluster = Cluster::start(1).await?;
    let program = Program::of(&cluster);
    topic(&program, "orders", "1")?;
    for words in [
        &["produce", "ordrs"][..],
        &["consume", "ordrs", "--from", "beginning"],
        &["bench", "consume", "ordrs"],
    ] {
        let began = Instant::now();
        let output = program.run(&[words, &["--timeout", "3"]].concat())?;
        ensure!(
            began.elapsed() < Duration::from_secs(9),
            "{words:?} took {:?}",
            began.elapsed()
        );
        let said = stderr(&output);
        ensure!(
            said.contains("waiting up to 3 s") && said.contains("did you mean \"orders\"?"),
            "{words:?}: {said}"
        );
        refused_at_last(&output, &["no topic \"ordrs\"", "tidelog topic create ordrs"])?;
    }
    // It comes while it is waited for.
    let mut waiting = program
        .command(&["produce", "later"])?
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    waiting.stdin.take().context("no input")?.write_all(b"a\n")?;
    let mut said = BufReader::new(waiting.stderr.take().context("no standard error")?).lines();
    let first = said.next().context("it says nothing")??;
    ensure!(first.contains("no topic \"later\""), "{first}");
    topic(&program, "later", "1")?;
    ensure!(waiting.wait()?.success(), "{:?}", said.collect::<Vec<_>>());
    assert_eq!(all(&program, "later")?.len(), 1);
    Ok(())
}

fn refused_at_last(output: &std::process::Output, words: &[&str]) -> Result<()> {
    let said = stderr(output);
    assert_eq!(output.status.code(), Some(4), "{said}");
    let last = said.lines().last().context("it says nothing")?;
    for word in words {
        ensure!(last.contains(word), "{last:?} does not say {word:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_timeout_is_heeded_by_records_too() -> Result<()> {
    let mut cluster = Cluster::start(1).await?;
    let program = Program::of(&cluster);
    topic(&program, "t", "1")?;
    let mut command = program.command(&["produce", "t", "-o", "json", "--timeout", "4"])?;
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut input = child.stdin.take().context("no input")?;
    input.write_all(b"one\n")?;
    let mut first = String::new();
    BufReader::new(child.stdout.take().context("no output")?).read_line(&mut first)?;
    cluster.broker(1).kill()?;
    input.write_all(b"two\nthree\n")?;
    drop(input);
    let began = Instant::now();
    let output = child.wait_with_output()?;
    let said = stderr(&output);
    ensure!(
        began.elapsed() < Duration::from_secs(15),
        "{:?}: {said}",
        began.elapsed()
    );
    assert_eq!(output.status.code(), Some(1), "{said}");
    ensure!(said.contains("2 of 3 record(s) were not acknowledged"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bench_says_what_it_leaves() -> Result<()> {
    let cluster = Cluster::start(1).await?;
    let program = Program::of(&cluster);
    let run = |words: &[&str]| -> Result<String> {
        let output = program.run(&[&["bench", "produce", "load", "-n", "100"], words].concat())?;
        ensure!(output.status.success(), "{}", stderr(&output));
        Ok(stderr(&output))
    };
    let exists = || -> Result<bool> { Ok(program.run(&["topic", "describe", "load"])?.status.success()) };
    ensure!(run(&[])?.contains("is deleted") && !exists()?);
    let kept = run(&["--keep"])?;
    ensure!(kept.contains("are left in topic load") && exists()?, "{kept}");
    let there_before = run(&[])?;
    ensure!(
        there_before.contains("are left in topic load") && exists()?,
        "{there_before}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bench_shows_on_a_terminal_how_far_it_is() -> Result<()> {
    let cluster = Cluster::start(1).await?;
    let program = Program::of(&cluster);
    let binary = tidelog_tests::cluster::binary()?;
    let bench = format!(
        "stty cols 100 rows 30; exec {} bench produce load --seconds 2",
        binary.display()
    );
    // It runs the command on a terminal of its own, and copies what stands there.
    let output = std::process::Command::new("script")
        .args(["-qec", &bench, "/dev/null"])
        .env("TIDELOG_BOOTSTRAP", cluster.bootstrap().join(","))
        .env("TERM", "xterm")
        .stdin(Stdio::null())
        .output()
        .context("running script, which is in the package bsdutils")?;
    let shown = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{shown}");
    ensure!(
        shown.contains(" records acknowledged, ") && shown.contains("is deleted"),
        "{shown}"
    );
    let hidden = program.run(&["bench", "produce", "load", "-n", "10"])?;
    ensure!(
        !stderr(&hidden).contains("records acknowledged, "),
        "{}",
        stderr(&hidden)
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_another_members_partitions_is_told_so() -> Result<()> {
    let cluster = Cluster::start(1).await?;
    let program = Program::of(&cluster);
    topic(&program, "t", "1")?;
    produced(&program, &["t"], "a\nb\nc\n")?;
    let client = Client::builder(cluster.bootstrap()).connect().await?;
    let group = client
        .group("slow")
        .topics(["t"])
        .auto_offset_reset(OffsetReset::Earliest);
    let mut first = group.build().await?;
    let record = first.recv().await?;
    first.mark(&record);
    first.commit().await?;
    let mut second = program
        .command(&["consume", "t", "-g", "slow", "--until-end"])?
        .stderr(Stdio::piped())
        .spawn()?;
    let told = waits_for_the_first(&mut second, &mut first).await;
    let _ = second.kill();
    second.wait()?;
    told
}

async fn waits_for_the_first(second: &mut Child, first: &mut Consumer) -> Result<()> {
    let mut said = BufReader::new(second.stderr.take().context("no standard error")?).lines();
    let waits = move || said.find_map(|line| line.ok().filter(|line| line.contains("waiting for other")));
    let waits = tokio::task::spawn_blocking(waits).await?;
    let waits = waits.context("it did not say what it waits for")?;
    for part in [
        "group slow, which own 1 partition(s)",
        "t-0 is committed up to 1 of 3",
    ] {
        ensure!(waits.contains(part), "{waits}");
    }
    for _ in 0..2 {
        let record = first.recv().await?;
        first.mark(&record);
    }
    first.commit().await?;
    wait::until("the second to end", SOON, async || {
        let ended = second.try_wait()?.context("it runs")?;
        ensure!(ended.success(), "{ended}");
        Ok(())
    })
    .await
}

/// Each line after the first refusal would be waited with for as long as that one was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn produce_ends_when_its_topic_is_gone() -> Result<()> {
    let cluster = Cluster::start(1).await?;
    let program = Program::of(&cluster);
    let said = ends_without_topic(&program, &[]).await?;
    ensure!(said.contains("1 record(s) acknowledged"), "{said}");
    // Paced, it has read all lines by the time that it has tried a few.
    let said = ends_without_topic(&program, &["--rate", "2"]).await?;
    ensure!(said.contains("record(s) that were read were not sent"), "{said}");
    Ok(())
}

/// What it says on standard error when its topic is deleted under it.
async fn ends_without_topic(program: &Program, flags: &[&str]) -> Result<String> {
    topic(program, "gone", "1")?;
    let words = [&["produce", "gone", "--timeout", "3"], flags].concat();
    let mut command = program.command(&words)?;
    let mut running = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let ended = after_its_topic(program, &mut running).await;
    let _ = running.kill();
    let output = running.wait_with_output()?;
    ended?;
    refused(&output, 4, &["no topic \"gone\""])?;
    Ok(stderr(&output))
}

/// Sends a line, deletes the topic, sends a hundred more, and waits for the end of the program.
async fn after_its_topic(program: &Program, running: &mut Child) -> Result<()> {
    let mut input = running.stdin.take().context("no input")?;
    writeln!(input, "first")?;
    wait::until("the first record", SOON, async || {
        let read = program.run(&["consume", "gone", "--from", "beginning", "--until-end"])?;
        ensure!(read.stdout == b"first\n", "{}", stderr(&read));
        Ok(())
    })
    .await?;
    program.ok(&["topic", "delete", "gone", "--yes"])?;
    for number in 0..100 {
        writeln!(input, "{number}")?;
    }
    // Well below the three seconds a line that it would take.
    wait::until("the program to end", SOON, async || {
        running.try_wait()?.context("it runs")?;
        Ok(())
    })
    .await
}
