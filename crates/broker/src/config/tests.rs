use super::*;

fn flag(key: &str, value: &str) -> (String, toml::Value) {
    (key.to_owned(), toml::Value::String(value.to_owned()))
}

fn minimal() -> Sources {
    Sources {
        flags: vec![
            ("broker.id".to_owned(), toml::Value::Integer(2)),
            flag("broker.data_dir", "data"),
        ],
        ..Sources::default()
    }
}

fn with(more: impl IntoIterator<Item = (String, toml::Value)>) -> Result<Loaded, ConfigError> {
    let mut sources = minimal();
    sources.flags.extend(more);
    Config::load(&sources)
}

fn refusal(more: (String, toml::Value)) -> String {
    with([more]).expect_err("a bad value was taken").to_string()
}

#[test]
fn a_broker_that_names_nobody_is_a_cluster_of_one() {
    let config = with([]).unwrap().config;
    assert_eq!(config.broker_id.get(), 2);
    assert_eq!(config.voters.len(), 1);
    assert_eq!(config.voters[0].id, config.broker_id);
    assert_eq!(config.client_listeners[0].bind, "127.0.0.1:7171");
}

#[test]
fn voters_and_listeners_are_read_from_text() {
    let config = with([
        flag("cluster.voters", "1=a:7172, 2=b:7272"),
        flag(
            "listeners.client",
            "inside=0.0.0.0:7171@b:7171,outside=0.0.0.0:17271@localhost:17271",
        ),
    ])
    .unwrap()
    .config;
    assert_eq!(config.voters[1].address, "b:7272");
    assert_eq!(config.peer_advertise, "b:7272");
    assert_eq!(config.client_listeners[1].name, "outside");
    assert_eq!(
        config.client_listeners[1].advertise.as_deref(),
        Some("localhost:17271")
    );
}

#[test]
fn a_file_is_overridden_by_flags_and_says_where_values_come_from() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tidelog.toml");
    std::fs::write(
        &file,
        "[broker]\nid = 7\nmemory_budget = \"64MiB\"\n[[listeners.client]]\nname = \"x\"\nbind = \"[::1]:0\"\n",
    )
    .unwrap();
    let loaded = Config::load(&Sources {
        file: Some(file),
        ..minimal()
    })
    .unwrap();
    assert_eq!(loaded.config.broker_id.get(), 2);
    assert_eq!(loaded.config.memory_budget_bytes, 64 << 20);
    assert_eq!(loaded.config.client_listeners[0].name, "x");
    let origin = |key: &str| {
        let (_, _, from) = loaded
            .origins
            .iter()
            .find(|(found, _, _)| found == key)
            .expect(key);
        from.clone()
    };
    assert!(
        origin("broker.memory_budget").ends_with("tidelog.toml"),
        "{}",
        origin("broker.memory_budget")
    );
    assert_eq!(origin("broker.id"), "flag");
    assert_eq!(origin("raft.heartbeat_ms"), "default");
}

#[test]
fn an_unknown_key_is_an_error_that_names_it() {
    let text = refusal(flag("broker.datadir", "x"));
    assert!(text.contains("datadir"), "{text}");
}

#[test]
fn bad_values_are_refused_with_the_remedy() {
    assert!(refusal(("broker.id".to_owned(), toml::Value::Integer(0))).contains("--node-id"));
    assert!(refusal(flag("broker.data_dir", "")).contains("--data-dir"));
    assert!(refusal(flag("cluster.voters", "1:7172")).contains("ID=HOST:PORT"));
    assert!(refusal(flag("cluster.voters", "1=a:1,1=b:2")).contains("twice"));
    assert!(refusal(flag("listeners.client", "nowhere")).contains("host:port"));
    assert!(refusal(flag("listeners.client", "a=h:1,a=h:2")).contains("two listeners"));
    assert!(refusal(flag("listeners.peer.bind", "h:0")).contains("port 0"));
    assert!(refusal(flag("broker.memory_budget", "1MiB")).contains("32MiB"));
    assert!(
        refusal(("replication.session_ms".to_owned(), toml::Value::Integer(600))).contains("three times")
    );
    assert!(
        refusal(("raft.election_max_ms".to_owned(), toml::Value::Integer(1))).contains("election_min_ms")
    );
}

#[test]
fn what_is_advertised_can_be_connected_to() {
    for bad in [
        "0.0.0.0:7171@h:0",
        "0.0.0.0:7171@h",
        "0.0.0.0:7171@h:99999",
        "0.0.0.0:7171@http://h:7171",
    ] {
        let text = refusal(flag("listeners.client", bad));
        assert!(text.contains("listeners.client"), "{text}");
    }
    let text = refusal(flag("listeners.peer.advertise", "https://h:7172"));
    assert!(text.contains("TLS is not spoken yet"), "{text}");
    assert!(refusal(flag("cluster.voters", "2=h:0")).contains("1 to 65535"));
    with([
        flag("listeners.client", "127.0.0.1:0"),
        flag("listeners.http.bind", "127.0.0.1:0"),
    ])
    .unwrap();
}

/// It may be bound, but clients and brokers elsewhere would connect to themselves.
#[test]
fn an_address_of_every_interface_is_not_advertised() {
    for unspecified in ["0.0.0.0:7171", "[::]:7171", "h:1@0.0.0.0:7171"] {
        let text = refusal(flag("listeners.client", unspecified));
        assert!(
            text.contains("listeners.client") && text.contains("@HOST:PORT"),
            "{text}"
        );
    }
    let text = refusal(flag("listeners.peer.bind", "0.0.0.0:7172"));
    assert!(text.contains("listeners.peer.advertise"), "{text}");
    let text = refusal(flag("cluster.voters", "2=h:7172,3=[::]:7172"));
    assert!(text.contains("cluster.voters"), "{text}");
    with([flag("listeners.client", "0.0.0.0:7171@h:7171")]).unwrap();
    with([
        flag("listeners.peer.bind", "0.0.0.0:7172"),
        flag("cluster.voters", "2=h:7172"),
    ])
    .unwrap();
}

#[test]
fn a_missing_file_is_named() {
    let error = Config::load(&Sources {
        file: Some("/nowhere/tidelog.toml".into()),
        ..minimal()
    });
    assert!(error.unwrap_err().to_string().contains("/nowhere/tidelog.toml"));
}

#[test]
fn brokers_of_dev_lie_100_ports_apart() {
    let config = Config::for_dev(2, 3, 7171, Path::new("d")).unwrap();
    assert_eq!(config.broker_id.get(), 3);
    assert_eq!(config.client_listeners[0].bind, "127.0.0.1:7371");
    assert_eq!(config.peer_bind, "127.0.0.1:7372");
    assert_eq!(config.http_bind, "127.0.0.1:7373");
    assert_eq!(config.data_dir, Path::new("d/broker-3"));
    let elsewhere = Config::for_dev(1, 3, 9000, Path::new("d")).unwrap();
    assert_eq!(elsewhere.client_listeners[0].bind, "127.0.0.1:9100");
    assert_eq!(
        (elsewhere.peer_bind.as_str(), elsewhere.http_bind.as_str()),
        ("127.0.0.1:9101", "127.0.0.1:9102")
    );
    assert_eq!(elsewhere.voters[2].address, "127.0.0.1:9201");
}
