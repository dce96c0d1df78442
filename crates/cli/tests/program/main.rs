//! The built program: what it prints where, and how it ends.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod data;
mod signals;
mod streams;
mod usage;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use data::Fixture;
use serde_json::Value;

fn tidelog() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidelog"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("TIDELOG_")) {
        command.env_remove(name);
    }
    command
}

fn run(words: &[&str]) -> Output {
    tidelog().args(words).output().unwrap()
}

fn log(verb: &str, dir: &Path, more: &[&str]) -> Output {
    tidelog()
        .args(["log", verb])
        .arg(dir)
        .args(more)
        .output()
        .unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn out(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn err(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

fn objects(output: &Output) -> Vec<Value> {
    assert_eq!(code(output), 0, "{}", err(output));
    out(output)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn wrong_usage_is_2_and_says_so_on_standard_error() {
    for words in [
        &["no-such-command"][..],
        &["log", "dump"],
        &["completions", "tcl"],
        &[],
    ] {
        let output = run(words);
        assert_eq!(code(&output), 2, "{words:?}");
        assert!(
            out(&output).is_empty() && err(&output).contains("--help"),
            "{words:?}: {}",
            err(&output)
        );
    }
}

#[test]
fn help_is_data_and_names_the_exit_codes() {
    let output = run(&["--help"]);
    assert_eq!(code(&output), 0);
    assert!(out(&output).contains("130  interrupted") && err(&output).is_empty());
}

#[test]
fn completions_know_the_commands_by_asking_the_program() {
    let output = run(&["completions", "bash"]);
    assert_eq!(code(&output), 0);
    assert!(out(&output).contains("TIDELOG_COMPLETE"), "{}", out(&output));
    let complete = |words: &[&str]| {
        let mut command = tidelog();
        command
            .arg("--")
            .args(words)
            .env("TIDELOG_COMPLETE", "bash")
            .env("_CLAP_IFS", "\n");
        command
            .env("_CLAP_COMPLETE_INDEX", (words.len() - 1).to_string())
            .output()
            .unwrap()
    };
    assert_eq!(out(&complete(&["tidelog", "log", "ver"])), "verify");
    assert_eq!(
        out(&complete(&["tidelog", "log", "stats", "--topic"])),
        "--topic-id"
    );
    assert_eq!(out(&complete(&["tidelog", "topic", "list", "-o", "j"])), "json");
    // Names that nobody gives are none, in silence.
    let nobody = complete(&["tidelog", "topic", "describe", "--bootstrap", "127.0.0.1:1", "o"]);
    assert_eq!((code(&nobody), out(&nobody), err(&nobody)), (0, "", ""));
}

#[test]
fn a_folder_that_is_not_there_is_4_in_one_line() {
    let output = run(&["log", "verify", "/no/such/folder"]);
    assert_eq!(code(&output), 4);
    assert_eq!(err(&output).lines().count(), 1, "{}", err(&output));
    assert!(err(&output).contains("/no/such/folder"));
}

#[test]
fn a_folder_without_data_is_a_failure_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let output = log("stats", dir.path(), &[]);
    assert_eq!(code(&output), 1, "{}", err(&output));
    assert_eq!(err(&output).lines().count(), 1, "{}", err(&output));
}

#[test]
fn replicas_are_told_apart_by_their_bytes() {
    let [one, same, other] = [
        Fixture::new(1, b"value"),
        Fixture::new(2, b"value"),
        Fixture::new(3, b"Value"),
    ];
    let dump = |fixture: &Fixture| objects(&log("dump", fixture.path(), &["-o", "json"]));
    let (one, same, other) = (dump(&one), dump(&same), dump(&other));
    assert_eq!(
        one, same,
        "broker, directory and local ids of a replica do not show"
    );
    assert_ne!(one, other);
    let [first, second, third] = one.as_slice() else {
        panic!("{one:?}")
    };
    assert_eq!(
        (&first["partition"], &second["partition"], &third["partition"]),
        (&0.into(), &0.into(), &1.into())
    );
    assert_eq!(
        (&first["base_offset"], &first["last_offset"]),
        (&0.into(), &1.into())
    );
    assert_eq!(
        (&second["base_offset"], &second["last_offset"]),
        (&2.into(), &3.into())
    );
    assert_eq!(
        (&first["leader_epoch"], &first["records"]),
        (&4.into(), &2.into())
    );
    assert_eq!(first["topic_id"], data::topic_id().to_string());
    assert_eq!(first["sha256"].as_str().unwrap().len(), 64);
    assert_ne!(first["sha256"], other[0]["sha256"]);
    assert_ne!(first["crc"], other[0]["crc"]);
    assert_eq!(first["size"], other[0]["size"]);
}

#[test]
fn a_dump_may_be_of_one_partition() {
    let fixture = Fixture::new(1, b"value");
    let id = data::topic_id().to_string();
    let chosen = objects(&log(
        "dump",
        fixture.path(),
        &["--topic-id", &id, "-p", "1", "-o", "json"],
    ));
    assert_eq!(chosen.len(), 1);
    let none = log("dump", fixture.path(), &["--topic-id", &id, "-p", "2"]);
    assert_eq!(code(&none), 4);
    assert!(err(&none).contains("no such partition"), "{}", err(&none));
}

#[test]
fn records_are_shown_as_json_or_by_a_format() {
    let fixture = Fixture::new(1, &[b'v', 0xff]);
    let records = objects(&log("dump", fixture.path(), &["--records", "-p", "0"]));
    assert_eq!(records.len(), 4);
    assert_eq!(
        records[1],
        serde_json::json!({
            "topic": data::topic_id().to_string(), "partition": 0, "offset": 1, "timestamp": 1_700_000_000_001_u64,
            "key": null, "value_base64": "dv8=", "headers": [{"key": "n", "value": "1"}],
        })
    );
    let output = log(
        "dump",
        fixture.path(),
        &["--records", "-p", "0", "-f", r"%p/%o %k\t%V %h\n"],
    );
    assert_eq!(
        out(&output),
        "0/0 key\t2 n=0\n0/1 \t2 n=1\n0/2 key\t2 n=0\n0/3 \t2 n=1\n"
    );
}

#[test]
fn a_table_has_a_header_and_a_row_a_batch() {
    let fixture = Fixture::new(1, b"value");
    let output = log("dump", fixture.path(), &[]);
    let lines: Vec<&str> = out(&output).lines().collect();
    assert_eq!(lines.len(), 4, "{}", out(&output));
    assert!(lines[0].starts_with("TOPIC-ID"));
    let wide = log("dump", fixture.path(), &["-o", "wide"]);
    assert!(
        out(&wide).lines().next().unwrap().contains("COMPRESSION"),
        "{}",
        out(&wide)
    );
}

#[test]
fn stats_tell_bounds_and_sizes() {
    let fixture = Fixture::new(1, b"value");
    let stats = objects(&log("stats", fixture.path(), &["-o", "json"])).remove(0);
    assert_eq!(stats[0]["log_end"], 4);
    assert_eq!(stats[0]["batches"], 2);
    assert_eq!(
        stats[0]["leader_epochs"],
        serde_json::json!([{"epoch": 4, "start_offset": 0}])
    );
    assert_eq!(stats[1]["log_end"], 2);
}

#[test]
fn whole_data_is_verified_and_damage_is_5() {
    let whole = Fixture::new(1, b"value");
    let output = log("verify", whole.path(), &[]);
    assert_eq!(code(&output), 0, "{}", err(&output));
    assert_eq!(out(&output), "3 batches of 2 partitions are whole\n");
    let damaged = Fixture::damaged(1);
    let output = log("verify", damaged.path(), &[]);
    assert_eq!(code(&output), 5, "{}", err(&output));
    assert!(
        err(&output).contains("1 problem(s)") && out(&output).lines().count() == 1,
        "{}",
        out(&output)
    );
    assert_eq!(code(&log("dump", damaged.path(), &["-o", "json"])), 5);
}

#[test]
fn nobody_reading_is_no_failure() {
    let fixture = Fixture::new(1, b"value");
    let mut child = tidelog()
        .args(["log", "dump", "--records"])
        .arg(fixture.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((code(&output), err(&output)), (0, ""));
}

/// Answers one request with a status.
fn broker(status: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = BufReader::new(stream.try_clone().unwrap()).lines();
        assert_eq!(request.next().unwrap().unwrap(), "GET /readyz HTTP/1.0");
        request.find(|line| line.as_ref().unwrap().is_empty());
        write!(stream, "HTTP/1.0 {status}\r\n\r\n{{\"status\":\"x\"}}").unwrap();
    });
    address
}

#[test]
fn health_as_json_is_one_shape_for_all() {
    let address = broker("503 Service Unavailable");
    let output = run(&["cluster", "health", "--local", "--http", &address, "-o", "json"]);
    assert_eq!(code(&output), 5);
    let shown: Value = serde_json::from_str(out(&output)).unwrap();
    assert_eq!(shown, serde_json::json!({ "healthy": false, "troubles": [] }));
}

#[test]
fn health_is_0_when_ready_5_when_not_and_3_when_nobody_is_there() {
    let health = |address: &str| run(&["cluster", "health", "--local", "--http", address]);
    let ready = health(&broker("200 OK"));
    assert_eq!((code(&ready), out(&ready)), (0, "{\"status\":\"x\"}\n"));
    let unready = health(&broker("503 Service Unavailable"));
    assert_eq!((code(&unready), err(&unready).lines().count()), (5, 1));
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .to_string();
    let absent = health(&free);
    assert_eq!(
        (code(&absent), err(&absent).lines().count()),
        (3, 1),
        "{}",
        err(&absent)
    );
}

#[test]
fn an_address_that_cannot_be_one_is_2_at_once() {
    for (bootstrap, why) in [
        ("HOST", "write host:port"),
        ("localhost:99999", "1 to 65535"),
        ("https://localhost:7171", "TLS is not spoken yet"),
        ("http://localhost:7171", "without a scheme"),
        ("127.0.0.1:7171,::1:7171", "in brackets"),
        ("", "at least one host:port"),
    ] {
        for command in [&["topic", "list"][..], &["consume", "t", "--from", "latest"]] {
            let began = std::time::Instant::now();
            let output = tidelog()
                .args(command)
                .args(["--bootstrap", bootstrap])
                .output()
                .unwrap();
            assert_eq!(
                (code(&output), err(&output).lines().count()),
                (2, 1),
                "{bootstrap}: {}",
                err(&output)
            );
            assert!(err(&output).contains(why), "{bootstrap}: {}", err(&output));
            // Trying to connect takes ten seconds.
            assert!(began.elapsed().as_secs() < 8, "{bootstrap}");
        }
    }
    let output = run(&["cluster", "health", "--http", "localhost"]);
    assert_eq!(code(&output), 2, "{}", err(&output));
}

#[test]
fn a_configuration_is_shown_with_where_each_value_came_from() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tidelog.toml");
    std::fs::write(&file, "[broker]\nid = 7\ndata_dir = \"/from/file\"\n").unwrap();
    let mut command = tidelog();
    command
        .args([
            "server",
            "--check-config",
            "--node-id",
            "1",
            "--cluster",
            "1=127.0.0.1:7172",
            "--config",
        ])
        .arg(&file);
    let output = command.env("TIDELOG__LOG__FILTER", "debug").output().unwrap();
    assert_eq!(code(&output), 0, "{}", err(&output));
    let row = |key: &str| {
        let line = out(&output)
            .lines()
            .find(|line| line.starts_with(key))
            .unwrap_or_else(|| panic!("{key} is missing"));
        line.split_whitespace().skip(1).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(row("broker.id"), "1 flag");
    assert_eq!(
        row("broker.data_dir"),
        format!("\"/from/file\" {}", file.display())
    );
    assert_eq!(row("log.filter"), "\"debug\" environment");
    assert!(row("listeners.http.bind").ends_with("default"));
}

#[test]
fn a_wrong_configuration_is_2_in_one_line() {
    for words in [
        &["server"][..],
        &["server", "--check-config"],
        &["server", "--print-config", "--config", "/no/such.toml"],
    ] {
        let output = run(words);
        assert_eq!(
            (code(&output), err(&output).lines().count()),
            (2, 1),
            "{}",
            err(&output)
        );
    }
}
