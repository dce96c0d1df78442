//! Refuses circles of imports between the modules of a crate: the files of a circle can only be
//! understood, tested and moved together.
//!
//! An import from one file to another counts between the two siblings under which the files stand:
//! `grpc/about.rs` that imports from `http.rs` counts as `grpc` that imports from `http`. A module
//! and what it contains are one thing in several files: imports between them do not count.

mod imports;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;

use anyhow::{Result, bail};

use imports::{Crate, Import, ModulePath};

/// The roots of the crates that are looked at.
const ROOTS: &[&str] = &[
    "crates/broker/src/lib.rs",
    "crates/cli/src/main.rs",
    "crates/cluster/src/lib.rs",
    "crates/group/src/lib.rs",
    "crates/history/src/lib.rs",
    "crates/metadata/src/lib.rs",
    "crates/producer/src/lib.rs",
    "crates/record/src/lib.rs",
    "crates/replica/src/lib.rs",
    "crates/types/src/lib.rs",
];

/// An import that may close a circle.
#[derive(Clone, Copy)]
struct Allowed {
    from_file: &'static str,
    to_file: &'static str,
    reason: &'static str,
}

/// Circles that are known. Each entry goes once its circle is gone: [`check`] insists.
const ALLOWED: &[Allowed] = &[
    Allowed {
        from_file: "crates/broker/src/partition/followers.rs",
        to_file: "crates/broker/src/partition/partition.rs",
        reason: "what a follower waits for moves out of `Partition`",
    },
    Allowed {
        from_file: "crates/broker/src/partition/context.rs",
        to_file: "crates/broker/src/partition/partition.rs",
        reason: "the context holds partitions, and they hold it, until lists hold ids",
    },
    Allowed {
        from_file: "crates/group/src/assignor/mod.rs",
        to_file: "crates/group/src/record.rs",
        reason: "`Partitions` moves to a file below both",
    },
];

/// Fails with a circle of each knot of modules, and with entries of [`ALLOWED`] that are not
/// needed.
pub(crate) fn check() -> Result<()> {
    let read = |file: &Path| std::fs::read_to_string(file).ok();
    let mut wrong = Vec::new();
    for root in ROOTS.iter().map(Path::new) {
        let is_here = |entry: &&Allowed| Path::new(entry.from_file).starts_with(root.with_file_name(""));
        let allowed: Vec<Allowed> = ALLOWED.iter().filter(is_here).copied().collect();
        let imports = Crate::read(root, &read)?.imports();
        wrong.extend(complaints(&imports, &allowed));
        wrong.extend(needless(&imports, &allowed));
    }
    if wrong.is_empty() {
        return Ok(());
    }
    bail!(
        "{}\nMove what both sides need into a file of its own that imports from neither, or into the module that \
         contains them, or pass it in as an argument.",
        wrong.join("\n")
    )
}

/// Modules by the siblings that they import from, each with an import that makes it so.
type Graph<'a> = BTreeMap<&'a [String], BTreeMap<&'a [String], &'a Import>>;

fn complaints(imports: &BTreeSet<Import>, allowed: &[Allowed]) -> Vec<String> {
    let kept = imports
        .iter()
        .filter(|import| !allowed.iter().any(|allowed| allowed.is(import)));
    circles(&graph(kept)).iter().map(|circle| tell(circle)).collect()
}

/// Complaints about entries without which no circle closes.
fn needless(imports: &BTreeSet<Import>, allowed: &[Allowed]) -> Vec<String> {
    let mut needless = Vec::new();
    for entry in allowed {
        let others = imports
            .iter()
            .filter(|import| entry.is(import) || !allowed.iter().any(|allowed| allowed.is(import)));
        let graph = graph(others);
        let closes =
            |import: &Import| siblings(import).is_some_and(|(from, to)| shortest(&graph, to, from).is_some());
        if !imports.iter().any(|import| entry.is(import) && closes(import)) {
            needless.push(format!(
                "ALLOWED in xtask/src/circles.rs names {} -> {} ({}), which closes no circle: remove it",
                entry.from_file, entry.to_file, entry.reason
            ));
        }
    }
    needless
}

impl Allowed {
    fn is(&self, import: &Import) -> bool {
        import.from_file == Path::new(self.from_file) && import.to_file == Path::new(self.to_file)
    }
}

fn graph<'a>(imports: impl Iterator<Item = &'a Import>) -> Graph<'a> {
    let mut graph = Graph::new();
    for import in imports {
        if let Some((from, to)) = siblings(import) {
            graph.entry(from).or_default().entry(to).or_insert(import);
        }
    }
    graph
}

/// The siblings between which an import counts. None if one module contains the other.
fn siblings(import: &Import) -> Option<(&[String], &[String])> {
    let (from, to): (&ModulePath, &ModulePath) = (&import.from, &import.to);
    let common = from
        .iter()
        .zip(to)
        .take_while(|(one, other)| one == other)
        .count();
    Some((from.get(..=common)?, to.get(..=common)?))
}

/// Circles, the shortest first, no two of which share a module.
fn circles<'a>(graph: &Graph<'a>) -> Vec<Vec<&'a Import>> {
    let mut found: Vec<Vec<&Import>> = Vec::new();
    for (from, imported) in graph {
        for (to, import) in imported {
            if let Some(mut circle) = shortest(graph, to, from) {
                circle.insert(0, import);
                found.push(circle);
            }
        }
    }
    found.sort_by_key(Vec::len);
    let mut seen = BTreeSet::new();
    found.retain(|circle| {
        let modules: Vec<_> = circle
            .iter()
            .filter_map(|import| siblings(import))
            .map(|(from, _)| from)
            .collect();
        let is_new = modules.iter().all(|module| !seen.contains(module));
        if is_new {
            seen.extend(modules);
        }
        is_new
    });
    found
}

/// The shortest chain of imports that leads from one module to another.
fn shortest<'a>(graph: &Graph<'a>, from: &[String], to: &[String]) -> Option<Vec<&'a Import>> {
    let mut seen = BTreeSet::from([from]);
    let mut open = VecDeque::from([(from, Vec::new())]);
    while let Some((at, chain)) = open.pop_front() {
        if at == to {
            return Some(chain);
        }
        for (next, import) in graph.get(at).into_iter().flatten() {
            if seen.insert(next) {
                open.push_back((next, [chain.as_slice(), &[*import]].concat()));
            }
        }
    }
    None
}

fn tell(circle: &[&Import]) -> String {
    let imports: Vec<String> = circle
        .iter()
        .map(|import| {
            let (from, to) = (import.from_file.display(), import.to_file.display());
            format!("\n  {from} imports {} from {to}", import.name)
        })
        .collect();
    format!("a circle of imports:{}", imports.concat())
}
