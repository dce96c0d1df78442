//! Checks that dependencies point one way: pure crates know no runtime, network, disk or protobuf, and each crate only the
//! crates below it.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Crates that hold protocol rules and do no I/O.
const PURE: &[&str] = &[
    "tidelog-cluster",
    "tidelog-group",
    "tidelog-history",
    "tidelog-replica",
];

/// What a pure crate must not reach, directly or through others.
const IMPURE: &[&str] = &[
    "tokio", "tonic", "prost", "rocksdb", "openraft", "rand", "mio", "socket2",
];

/// Which of our crates each of our crates may name in its dependencies.
const MAY_NAME: &[(&str, &[&str])] = &[
    ("tidelog-types", &[]),
    ("tidelog-record", &["types"]),
    ("tidelog-cluster", &["types"]),
    ("tidelog-group", &["types"]),
    ("tidelog-replica", &["types"]),
    ("tidelog-history", &["types"]),
    (
        "tidelog-sim",
        &["types", "cluster", "group", "replica", "history"],
    ),
    ("tidelog-proto", &["types", "record"]),
    ("tidelog-storage", &["types", "record", "proto"]),
    ("tidelog-metadata", &["types", "cluster", "storage", "proto"]),
    (
        "tidelog-broker",
        &[
            "types", "record", "cluster", "group", "replica", "storage", "proto", "metadata",
        ],
    ),
    ("tidelog-client", &["types", "record", "proto"]),
    ("tidelog", &["types", "record", "storage", "broker", "client"]),
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
    wrong.extend(graph.impurities());
    if wrong.is_empty() {
        return Ok(());
    }
    bail!("layering:\n  {}", wrong.join("\n  "))
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

    fn impurities(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for id in self.members.iter().filter(|id| PURE.contains(&self.name(id))) {
            let mut reached = BTreeSet::new();
            let mut open = vec![id.as_str()];
            while let Some(next) = open.pop() {
                open.extend(
                    self.dependencies(next)
                        .filter(|dependency| reached.insert((*dependency).to_owned())),
                );
            }
            let bad = reached
                .iter()
                .map(|id| self.name(id))
                .filter(|name| IMPURE.contains(name));
            wrong.extend(bad.map(|bad| format!("{} is pure and must not reach {bad}", self.name(id))));
        }
        wrong
    }
}
