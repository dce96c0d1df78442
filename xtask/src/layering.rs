//! Checks that dependencies point one way: pure crates know no runtime, network, disk or protobuf,
//! and each crate only the crates below it. That pure crates have the lints that keep clocks and
//! disks out of their code is checked here, too.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Crates that hold protocol rules and do no I/O.
const PURE: &[&str] = &[
    "tidelog-cluster",
    "tidelog-coordinator",
    "tidelog-group",
    "tidelog-history",
    "tidelog-log",
    "tidelog-producer",
    "tidelog-replica",
];

/// Crates without protocol rules that do no I/O either.
const PURE_BELOW: &[&str] = &["tidelog-record", "tidelog-types"];

/// Clippy's settings for [`PURE`] and [`PURE_BELOW`], to which the `clippy.toml` of each is a link.
const PURE_SETTINGS: &str = "clippy-pure.toml";

/// What a pure crate must not reach, directly or through others.
const IMPURE: &[&str] = &[
    "tokio", "tonic", "prost", "rocksdb", "openraft", "rand", "mio", "socket2",
];

/// What every user of the client would build for nothing: a web server, and what only programs
/// need.
const NOT_FOR_CLIENTS: &[&str] = &[
    "axum",
    "axum-core",
    "matchit",
    "tower-http",
    "signal-hook-registry",
    "tonic-health",
    "tonic-reflection",
    "rocksdb",
    "openraft",
];

/// Which of our crates each of our crates may name in its dependencies.
const MAY_NAME: &[(&str, &[&str])] = &[
    ("tidelog-types", &[]),
    ("tidelog-record", &["types"]),
    ("tidelog-cluster", &["types"]),
    ("tidelog-coordinator", &["types"]),
    ("tidelog-group", &["types", "coordinator"]),
    ("tidelog-producer", &["types"]),
    ("tidelog-replica", &["types"]),
    ("tidelog-history", &["types"]),
    ("tidelog-log", &["types"]),
    (
        "tidelog-sim",
        &[
            "types",
            "cluster",
            "coordinator",
            "group",
            "log",
            "producer",
            "replica",
            "history",
        ],
    ),
    ("tidelog-proto", &["types", "record"]),
    ("tidelog-storage", &["types", "log", "record", "proto"]),
    ("tidelog-metadata", &["types", "cluster", "storage", "proto"]),
    (
        "tidelog-broker",
        &[
            "types",
            "record",
            "cluster",
            "coordinator",
            "group",
            "log",
            "replica",
            "storage",
            "proto",
            "metadata",
        ],
    ),
    ("tidelog-client", &["types", "producer", "record", "proto"]),
    (
        "tidelog",
        &["types", "record", "group", "log", "storage", "broker", "client"],
    ),
    (
        "tidelog-tests",
        &["types", "record", "proto", "client", "history"],
    ),
    ("tidelog-xtask", &[]),
];

/// Fails with every edge that points the wrong way.
pub(crate) fn check() -> Result<()> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked"])
        .output()
        .context("running cargo metadata")?;
    if !output.status.success() {
        bail!(
            "cargo metadata failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let metadata: Value = serde_json::from_slice(&output.stdout).context("reading cargo metadata")?;
    let graph = Graph::read(&metadata)?;

    let mut wrong = graph.unknown_members();
    wrong.extend(graph.edges_upwards());
    for package in PURE {
        wrong.extend(impurities(package, &tree(package)?));
    }
    wrong.extend(client_burdens(&tree("tidelog-client")?));
    wrong.extend(without_pure_settings(Path::new("."))?);
    if wrong.is_empty() {
        return Ok(());
    }
    bail!("layering:\n  {}", wrong.join("\n  "))
}

/// Pure crates that clippy reads other settings for than [`PURE_SETTINGS`].
fn without_pure_settings(root: &Path) -> Result<Vec<String>> {
    let settings =
        std::fs::read(root.join(PURE_SETTINGS)).with_context(|| format!("reading {PURE_SETTINGS}"))?;
    let paths = PURE.iter().chain(PURE_BELOW).map(|name| {
        let folder = name.trim_start_matches("tidelog-");
        PathBuf::from("crates").join(folder).join("clippy.toml")
    });
    Ok(paths
        .filter(|path| std::fs::read(root.join(path)).ok().as_ref() != Some(&settings))
        .map(|path| {
            let path = path.display();
            format!("{path} must be a link to {PURE_SETTINGS}: ln -sf ../../{PURE_SETTINGS} {path}")
        })
        .collect())
}

/// What a user of a package builds, a crate a line: name, version, then its features. Not read from
/// the graph below, in which the features of all members, and of their tests, are one.
fn tree(package: &str) -> Result<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--package", package, "--edges", "normal"])
        .args(["--prefix", "none", "--format", "{p} {f}", "--locked"])
        .output()
        .context("running cargo tree")?;
    if !output.status.success() {
        bail!("cargo tree failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    String::from_utf8(output.stdout).context("crates' names in UTF-8")
}

/// What a pure package builds and must not.
fn impurities(package: &str, tree: &str) -> BTreeSet<String> {
    let names = tree.lines().filter_map(|line| line.split_whitespace().next());
    names
        .filter(|name| IMPURE.contains(name))
        .map(|name| format!("{package} is pure and must not reach {name}"))
        .collect()
}

fn client_burdens(tree: &str) -> BTreeSet<String> {
    let burden = |line: &str| {
        // What was listed before is marked so.
        let line = line.trim_end_matches(" (*)");
        let name = line.split_whitespace().next()?;
        if NOT_FOR_CLIENTS.contains(&name) {
            return Some(format!("tidelog-client must not reach {name}"));
        }
        let features = line.rsplit(' ').next()?;
        let serves = matches!(name, "hyper" | "tonic" | "tidelog-proto")
            && features
                .split(',')
                .any(|feature| matches!(feature, "server" | "router"));
        serves.then(|| format!("tidelog-client must not have the server of {name}"))
    };
    tree.lines().filter_map(burden).collect()
}

/// Normal dependencies by package id.
struct Graph {
    names: BTreeMap<String, String>,
    edges: BTreeMap<String, Vec<String>>,
    members: Vec<String>,
}

impl Graph {
    fn read(metadata: &Value) -> Result<Self> {
        let packages = metadata["packages"]
            .as_array()
            .context("no packages in cargo metadata")?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let names = packages
            .iter()
            .map(|package| (text(&package["id"]), text(&package["name"])))
            .collect();
        let nodes = metadata["resolve"]["nodes"]
            .as_array()
            .context("no resolve in cargo metadata")?;
        let edges = nodes
            .iter()
            .map(|node| {
                let normal = |dep: &&Value| {
                    dep["dep_kinds"]
                        .as_array()
                        .is_some_and(|kinds| kinds.iter().any(|kind| kind["kind"].is_null()))
                };
                let deps = node["deps"].as_array().into_iter().flatten();
                (
                    text(&node["id"]),
                    deps.filter(normal).map(|dep| text(&dep["pkg"])).collect(),
                )
            })
            .collect();
        let members = metadata["workspace_members"]
            .as_array()
            .context("no members in cargo metadata")?;
        Ok(Self {
            names,
            edges,
            members: members.iter().map(text).collect(),
        })
    }

    fn name<'a>(&'a self, id: &'a str) -> &'a str {
        self.names.get(id).map_or(id, String::as_str)
    }

    fn dependencies<'a>(&'a self, id: &str) -> impl Iterator<Item = &'a str> {
        self.edges.get(id).into_iter().flatten().map(String::as_str)
    }

    fn unknown_members(&self) -> Vec<String> {
        self.members
            .iter()
            .map(|id| self.name(id))
            .filter(|name| !MAY_NAME.iter().any(|(known, _)| known == name))
            .map(|name| format!("{name} has no line in xtask/src/layering.rs"))
            .collect()
    }

    fn edges_upwards(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for id in &self.members {
            let name = self.name(id);
            let Some((_, allowed)) = MAY_NAME.iter().find(|(known, _)| *known == name) else {
                continue;
            };
            for dependency in self
                .dependencies(id)
                .filter(|dependency| self.members.iter().any(|m| m == dependency))
            {
                let short = self.name(dependency).trim_start_matches("tidelog-");
                if !allowed.contains(&short) {
                    wrong.push(format!("{name} must not depend on {}", self.name(dependency)));
                }
            }
        }
        wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_impure_is_named_wherever_it_stands() {
        let tree = "tidelog-log v0.1.0 (/somewhere) \nbytes v1.12.2 std\nrand v0.10.0 std (*)";
        let named = impurities("tidelog-log", tree);
        assert_eq!(
            named.into_iter().collect::<Vec<_>>(),
            ["tidelog-log is pure and must not reach rand"]
        );
    }

    #[test]
    fn a_web_server_among_the_clients_dependencies_is_named() {
        let tree = "tidelog-client v0.1.0 (/somewhere) \nhyper v1.12.0 client,default,http1,http2\nhyper v1.12.0 client,server (*)";
        assert!(client_burdens("tonic v0.14.9 channel,codegen\nhyper v1.12.0 client,http2").is_empty());
        assert_eq!(client_burdens(tree).len(), 1);
        assert_eq!(
            client_burdens("axum v0.8.0 \ntonic v0.14.9 channel,router").len(),
            2
        );
    }
    #[test]
    fn every_pure_crate_has_the_settings_of_pure_crates() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        assert_eq!(
            without_pure_settings(&root).expect("settings"),
            Vec::<String>::new()
        );
        let empty = std::env::temp_dir().join(format!("tidelog-xtask-{}", std::process::id()));
        std::fs::create_dir_all(&empty).expect("a folder");
        std::fs::write(empty.join(PURE_SETTINGS), "x").expect("a file");
        let wrong = without_pure_settings(&empty).expect("settings");
        std::fs::remove_dir_all(&empty).expect("the folder that was made");
        assert_eq!(wrong.len(), PURE.len() + PURE_BELOW.len(), "{wrong:?}");
    }
}
