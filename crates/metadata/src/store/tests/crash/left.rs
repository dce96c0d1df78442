//! What is left of a node that was killed: made worse, opened, and held against what it answered.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::child::{Case, Notes, length};
use super::node::play;
use super::script::*;
use super::*;
use crate::store::snapshot::{CURRENT, SnapshotState};

/// What becomes of what was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    /// It reached the disk all the same, as after the death of the process alone.
    Nothing,
    /// All of it is gone: names are as they were when the folder was last synced.
    Everything,
    /// Half of it is: names are new, and contents cut short.
    Half,
}

/// Takes away what was not synced. Whether there was any.
pub(super) fn lose(case: &Case, notes: &Notes, loss: Loss) -> bool {
    let mut lost = false;
    for wal in case.wals() {
        let name = wal.file_name().unwrap().to_str().unwrap();
        let synced = notes.synced.get(name).copied().unwrap_or(0);
        let unsynced = length(&wal) - synced;
        lost |= unsynced > 0;
        let kept = match loss {
            Loss::Nothing => unsynced,
            Loss::Everything => 0,
            Loss::Half => unsynced / 2,
        };
        let file = std::fs::OpenOptions::new().write(true).open(&wal).unwrap();
        file.set_len(synced + kept).unwrap();
    }
    let read = |path: PathBuf| std::fs::read(path).ok();
    let (current, named) = (read(case.snapshot(CURRENT)), read(case.kept("name-synced")));
    if current != named {
        lost = true;
        let content_synced = current == read(case.kept("content-synced"));
        match (loss, named) {
            (Loss::Nothing, _) => {}
            (Loss::Everything, Some(old)) => std::fs::write(case.snapshot(CURRENT), old).unwrap(),
            (Loss::Everything, None) => std::fs::remove_file(case.snapshot(CURRENT)).unwrap(),
            (Loss::Half, _) if content_synced => {}
            (Loss::Half, _) => {
                let bytes = current.expect("it differs, and snapshots are not deleted");
                std::fs::write(case.snapshot(CURRENT), &bytes[..bytes.len() / 2]).unwrap();
            }
        }
    }
    lost
}

/// Opens what is left and holds it against what was answered; then goes on to the end.
pub(super) async fn check(folder: &Path, answered: usize) -> Checked {
    let before = Model::after(answered);
    let next = Model::after((answered + 1).min(SCRIPT.len()));
    {
        let mut stores = open(folder).await.map_err(|error| format!("opening: {error}"))?;
        check_log(&mut stores, &before, &next).await?;
        check_state(folder, &mut stores, &next).await?;
    }
    play(folder, answered, |_| {}).await?;
    let last = Model::after(SCRIPT.len());
    let mut stores = open(folder)
        .await
        .map_err(|error| format!("opening at the end: {error}"))?;
    check_log(&mut stores, &last, &last).await?;
    let (applied, _) = stores.state.applied_state().await.unwrap();
    ensure!(
        applied == Some(committed_entry(LAST).log_id),
        "the state ends at {applied:?}"
    );
    check_state(folder, &mut stores, &last).await
}

/// Votes and entries. A step that was begun and not answered may have left its traces.
async fn check_log(stores: &mut Stores, before: &Model, next: &Model) -> Checked {
    let vote = stores.log.read_vote().await.unwrap().unwrap_or_default();
    ensure!(
        vote >= before.vote,
        "M30: it answered the vote {} and remembers {vote}",
        before.vote
    );
    ensure!(vote <= next.vote, "a vote that nobody asked for: {vote}");
    let purged = stores.log.get_log_state().await.unwrap().last_purged_log_id;
    let first = purged.map_or(0, |id| id.index + 1);
    let entries = stores.log.try_get_log_entries(0..u64::MAX).await.unwrap();
    let held: BTreeMap<u64, LogId> = entries
        .iter()
        .map(|entry| (entry.log_id.index, entry.log_id))
        .collect();
    let indexes: Vec<u64> = held.keys().copied().collect();
    let expected: Vec<u64> = (first..first + held.len() as u64).collect();
    ensure!(
        indexes == expected,
        "the log has a hole: {indexes:?} after {purged:?}"
    );
    for (index, id) in &held {
        ensure!(
            before.log.get(index) == Some(id) || next.log.get(index) == Some(id),
            "an entry that nobody sent: {id}"
        );
    }
    for (index, id) in before.log.range(first..) {
        let replaced = next.log.get(index) != Some(id);
        ensure!(
            held.get(index) == Some(id) || replaced,
            "M27: the entry {id} was acknowledged and is lost; the log holds {indexes:?} after {purged:?}"
        );
    }
    Ok(())
}

/// Snapshot, state and pointers.
async fn check_state(folder: &Path, stores: &mut Stores, next: &Model) -> Checked {
    let purged = stores.log.get_log_state().await.unwrap().last_purged_log_id;
    let mut covered = None;
    if let Ok(bytes) = std::fs::read(folder.join("snapshots").join(CURRENT)) {
        let (_, state) = SnapshotState::from_bytes(&bytes).map_err(|error| error.to_string())?;
        covered = state.last_applied;
        ensure!(
            state == state_at(covered.map(|id| id.index)),
            "the snapshot is of no state of the history"
        );
    }
    ensure!(
        purged <= covered,
        "M27: the log is purged up to {purged:?}, the snapshot covers it up to {covered:?}"
    );
    let (applied, membership) = stores.state.applied_state().await.unwrap();
    ensure!(
        applied >= purged,
        "M27: the log is purged up to {purged:?}, the state is that of {applied:?}"
    );
    ensure!(
        applied.map(|id| id.index) <= next.committed,
        "applied and never committed: {applied:?}"
    );
    let expected = state_at(applied.map(|id| id.index));
    let image = stores.state.published().images.borrow().clone();
    ensure!(
        (applied, &membership, &image) == (expected.last_applied, &expected.membership, &expected.image),
        "M26: the state is not that of {applied:?}"
    );
    let committed = stores.log.read_committed().await.unwrap();
    ensure!(
        committed.map(|id| id.index) <= next.committed,
        "a commit that nobody told of: {committed:?}"
    );
    Ok(())
}

pub(super) fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        let target = to.join(file.file_name());
        if file.file_type().unwrap().is_dir() {
            copy_folder(&file.path(), &target);
        } else {
            std::fs::copy(file.path(), target).unwrap();
        }
    }
}
