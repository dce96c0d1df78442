//! A node that dies between any two writes, with and without what was not synced.
//!
//! A child process is a follower that lives through a script of votes, appends, a conflict, snapshots built and installed, and purges; the
//! test is its leader. It is killed at the n-th passing of each crash point, for every n (`types/src/crash.rs` says how). What is left is
//! then taken as it is, with everything unsynced lost, and with the unsynced torn; opened; held against what the child was answered; and
//! the script goes on to its end:
//!
//! 1. A vote that was answered is there (M30), and so is every entry that was acknowledged, unless its leader's successor replaced it (M27).
//! 2. The snapshot is whole, and the log is not purged ahead of it.
//! 3. The state is that of one log index, and that index was committed.
//! 4. The node goes on from there and ends where one ends that was never killed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Command as Process, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, VoteRequest};
use openraft::{BasicNode, CommittedLeaderId, Config};
use parking_lot::Mutex;
use tidelog_cluster::command::RegisterBroker;
use tidelog_cluster::{ClusterImage, decide};
use tidelog_types::crash;

use super::*;
use crate::network::Network;
use crate::peer::PeerPool;
use crate::raft_types::{Membership, Raft, SnapshotMeta, StoredMembership};
use crate::store::snapshot::{ASIDE, CURRENT, SnapshotState};

const TEST: &str = "store::tests::crash::nothing_answered_is_lost_at_any_crash_point";
const CASE: &str = "TIDELOG_CRASH_TEST_CASE";
const KILL_AT: &str = "TIDELOG_CRASH_TEST_KILL_AT";
#[cfg(feature = "mutants")]
const MUTANT: &str = "TIDELOG_CRASH_TEST_MUTANT";

/// Every point that the script must pass; a new one belongs here.
const POINTS: [&str; 18] = [
    "crash:metadata/committed/saved",
    "crash:metadata/log/appended",
    "crash:metadata/log/purged",
    "crash:metadata/log/truncated",
    "crash:metadata/mark/recorded",
    "crash:metadata/snapshot/begun",
    "crash:metadata/snapshot/folder-synced",
    "crash:metadata/snapshot/renamed",
    "crash:metadata/snapshot/synced",
    "crash:metadata/snapshot/written",
    "crash:metadata/state/applied",
    "crash:metadata/state/replaced",
    "crash:metadata/vote/saved",
    "crash:metadata/write/begun",
    "crash:metadata/write/synced",
    "crash:metadata/write/written",
    "crash:storage/mark/synced",
    "crash:storage/mark/written",
];

/// The longest that one step may take.
const STEP_TIMEOUT: Duration = Duration::from_secs(20);
/// More passings of one point than the script has.
const MAX_PASSINGS: u64 = 1000;
/// Cases that run side by side.
const WORKERS: usize = 3;
/// This node, and the two that lead it.
const ME: u64 = 9;
const FIRST: (u64, u64) = (1, 7);
const SECOND: (u64, u64) = (2, 8);
/// Index of the last entry of the history.
const LAST: u64 = 14;
/// How many entries that a snapshot covers stay in the log.
const KEEP: u64 = 1;

type Checked<T = ()> = Result<T, String>;

macro_rules! ensure {
    ($holds:expr, $($why:tt)+) => {
        let holds: bool = $holds;
        if !holds {
            return Err(format!($($why)+));
        }
    };
}

fn id_of(leader: (u64, u64), index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(leader.0, leader.1), index)
}

/// The entry of the committed history at an index: the first leader's up to 3, the second one's after it.
fn committed_entry(index: u64) -> Entry {
    entry_of(if index <= 3 { FIRST } else { SECOND }, index)
}

fn entry_of(leader: (u64, u64), index: u64) -> Entry {
    let payload = if index == 0 {
        let nodes: BTreeMap<u64, BasicNode> = [ME, FIRST.1, SECOND.1]
            .map(|node| (node, BasicNode::new("nowhere:1")))
            .into();
        EntryPayload::Membership(Membership::new(vec![nodes.keys().copied().collect()], nodes))
    } else {
        let register = RegisterBroker {
            broker: BrokerId::new((leader.0 * 100 + index) as u32).unwrap(),
            directory: DirectoryId::from_slice(&[index as u8; 16]).unwrap(),
            peer_address: "nowhere:1".to_owned(),
            listeners: Vec::new(),
            feature_level: 1,
        };
        EntryPayload::Normal(EncodedCommand(command::to_bytes(&Command::RegisterBroker(
            register,
        ))))
    };
    Entry {
        log_id: id_of(leader, index),
        payload,
    }
}

/// The state after the committed history up to an index.
fn state_at(index: Option<u64>) -> SnapshotState {
    let mut state = SnapshotState {
        last_applied: None,
        membership: StoredMembership::default(),
        image: Arc::new(ClusterImage::default()),
    };
    for entry in (0..=LAST)
        .take_while(|at| Some(*at) <= index)
        .map(committed_entry)
    {
        state.last_applied = Some(entry.log_id);
        let at = MetadataIndex(entry.log_id.index);
        match entry.payload {
            EntryPayload::Membership(membership) => {
                state.membership = StoredMembership::new(Some(entry.log_id), membership);
            }
            EntryPayload::Normal(bytes) => {
                let (changes, _) = decide(&state.image, at, &command::from_bytes(&bytes.0).unwrap());
                Arc::make_mut(&mut state.image).replay(at, &changes);
            }
            EntryPayload::Blank => {}
        }
    }
    state
}

/// What the node is asked, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// For whom, and how long the candidate's log is.
    Vote((u64, u64), Option<u64>),
    /// By whom, after which entry, how many of its own entries, committed up to where.
    Append((u64, u64), Option<u64>, u64, u64),
    Build(u64),
    Install(u64),
}

const SCRIPT: [Step; 11] = [
    Step::Vote(FIRST, None),
    Step::Append(FIRST, None, 4, 1),
    // 4 and 5 never get a majority,
    Step::Append(FIRST, Some(3), 2, 3),
    // and are replaced.
    Step::Append(SECOND, Some(3), 3, 3),
    Step::Append(SECOND, Some(6), 0, 6),
    Step::Build(6),
    Step::Append(SECOND, Some(6), 2, 7),
    Step::Install(12),
    Step::Append(SECOND, Some(12), 2, LAST),
    Step::Build(LAST),
    Step::Vote((3, 7), Some(LAST)),
];

/// What a node must hold after the first `answered` steps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Model {
    vote: Vote,
    log: BTreeMap<u64, LogId>,
    committed: Option<u64>,
}

impl Model {
    fn after(answered: usize) -> Self {
        let mut model = Self::default();
        for step in &SCRIPT[..answered] {
            match *step {
                Step::Vote((term, node), _) => model.vote = Vote::new(term, node),
                Step::Append(leader, prev, count, committed) => {
                    model.vote = Vote::new_committed(leader.0, leader.1);
                    let first = prev.map_or(0, |prev| prev + 1);
                    if count > 0 {
                        model.log.split_off(&first);
                    }
                    model
                        .log
                        .extend((first..first + count).map(|index| (index, id_of(leader, index))));
                    model.committed = Some(committed);
                }
                Step::Build(_) => {}
                Step::Install(last) => {
                    model.log = (0..=last)
                        .map(|index| (index, committed_entry(index).log_id))
                        .collect();
                    model.committed = Some(last);
                }
            }
        }
        model
    }
}

/// Starts the node on a folder.
async fn start(folder: &Path) -> Checked<Raft> {
    let stores = open(folder).await.map_err(|error| format!("opening: {error}"))?;
    let config = Config {
        // A follower without timers: nothing happens that is not in the script.
        enable_tick: false,
        heartbeat_interval: 1,
        election_timeout_min: 2,
        election_timeout_max: 3,
        max_in_snapshot_log_to_keep: KEEP,
        ..Config::default()
    };
    let network = Network {
        peers: PeerPool::new(owner().broker, []),
    };
    let config = Arc::new(config.validate().map_err(|error| error.to_string())?);
    let raft = Raft::new(ME, config, network, stores.log, stores.state).await;
    raft.map_err(|error| format!("starting: {error}"))
}

/// Has one step done, and waits for all that follows from it.
async fn perform(raft: &Raft, step: Step) -> Checked {
    let failed = |error: &dyn std::fmt::Display| format!("{step:?}: {error}");
    match step {
        Step::Vote((term, node), last) => {
            let last_log_id = last.map(|index| committed_entry(index).log_id);
            // The lease of the leader before has to run out.
            loop {
                let request = VoteRequest::new(Vote::new(term, node), last_log_id);
                let answer = raft.vote(request).await.map_err(|error| failed(&error))?;
                if answer.vote_granted {
                    return Ok(());
                }
                tokio::task::yield_now().await;
            }
        }
        Step::Append(leader, prev, count, committed) => {
            let first = prev.map_or(0, |prev| prev + 1);
            let answer = raft
                .append_entries(AppendEntriesRequest {
                    vote: Vote::new_committed(leader.0, leader.1),
                    prev_log_id: prev.map(|index| committed_entry(index).log_id),
                    entries: (first..first + count)
                        .map(|index| entry_of(leader, index))
                        .collect(),
                    leader_commit: Some(committed_entry(committed).log_id),
                })
                .await
                .map_err(|error| failed(&error))?;
            ensure!(
                matches!(answer, AppendEntriesResponse::Success),
                "{step:?}: {answer}"
            );
            settled(raft, |metrics| {
                metrics.last_applied.is_some_and(|id| id.index >= committed)
            })
            .await
        }
        Step::Build(last) => {
            // After a restart the leader says again what is committed.
            Box::pin(perform(raft, Step::Append(SECOND, Some(last), 0, last))).await?;
            raft.trigger().snapshot().await.map_err(|error| failed(&error))?;
            settled(raft, |metrics| {
                metrics.snapshot.is_some_and(|id| id.index >= last)
            })
            .await?;
            // Raft does so by itself, unless the snapshot was there before it started.
            let purge = raft.trigger().purge_log(last - KEEP).await;
            purge.map_err(|error| failed(&error))?;
            settled(raft, |metrics| {
                metrics.purged.is_some_and(|id| id.index >= last - KEEP)
            })
            .await
        }
        Step::Install(last) => {
            let state = state_at(Some(last));
            let meta: SnapshotMeta = state.meta(state.id());
            let request = InstallSnapshotRequest {
                vote: Vote::new_committed(SECOND.0, SECOND.1),
                meta,
                offset: 0,
                data: state.to_bytes(),
                done: true,
            };
            raft.install_snapshot(request)
                .await
                .map_err(|error| failed(&error))?;
            settled(raft, |metrics| metrics.purged.is_some_and(|id| id.index >= last)).await
        }
    }
}

async fn settled(raft: &Raft, mut is: impl FnMut(&openraft::RaftMetrics<u64, BasicNode>) -> bool) -> Checked {
    let mut metrics = raft.metrics();
    let waited = metrics.wait_for(|metrics| metrics.running_state.is_err() || is(metrics));
    let metrics = waited.await.map_err(|error| error.to_string())?;
    metrics
        .running_state
        .clone()
        .map_err(|error| format!("raft stopped: {error}"))
}

/// Goes on with the script, and calls `answered` with how many steps are done.
async fn play(folder: &Path, first: usize, mut answered: impl FnMut(usize)) -> Checked {
    let raft = start(folder).await?;
    for (index, step) in SCRIPT.iter().enumerate().skip(first) {
        let done = tokio::time::timeout(STEP_TIMEOUT, perform(&raft, *step));
        done.await
            .map_err(|_| format!("{step:?} does not come to an end"))??;
        answered(index + 1);
    }
    raft.shutdown().await.map_err(|error| error.to_string())
}

/// A folder, and what its child noted beside it.
struct Case {
    root: PathBuf,
}

impl Case {
    fn metadata(&self) -> PathBuf {
        self.root.join("metadata")
    }

    fn snapshot(&self, name: &str) -> PathBuf {
        self.metadata().join("snapshots").join(name)
    }

    /// Bytes that a child keeps of a snapshot whose place, or whose content, is durable.
    fn kept(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn wals(&self) -> Vec<PathBuf> {
        let Ok(files) = std::fs::read_dir(self.metadata().join("db")) else {
            return Vec::new();
        };
        files
            .map(|file| file.unwrap().path())
            .filter(|path| path.extension().is_some_and(|end| end == "log"))
            .collect()
    }
}

fn length(path: &Path) -> u64 {
    path.metadata().map_or(0, |metadata| metadata.len())
}

/// What a hook knows of the disk.
struct Witness {
    case: Case,
    notes: std::fs::File,
    passed: BTreeMap<&'static str, u64>,
    kill_at: Option<(String, u64)>,
}

impl Witness {
    fn passes(&mut self, point: &'static str) {
        let count = self.passed.entry(point).or_default();
        *count += 1;
        let count = *count;
        match point {
            "crash:metadata/write/synced" => {
                for wal in self.case.wals() {
                    let name = wal.file_name().unwrap().to_str().unwrap();
                    note(&mut self.notes, &format!("synced {name} {}", length(&wal)));
                }
            }
            "crash:metadata/snapshot/synced" => {
                std::fs::copy(self.case.snapshot(ASIDE), self.case.kept("content-synced")).unwrap();
            }
            "crash:metadata/snapshot/folder-synced" => {
                std::fs::copy(self.case.snapshot(CURRENT), self.case.kept("name-synced")).unwrap();
            }
            _ => {}
        }
        note(&mut self.notes, &format!("passed {point}"));
        if self
            .kill_at
            .as_ref()
            .is_some_and(|(name, nth)| name == point && *nth == count)
        {
            std::process::abort();
        }
    }
}

/// One write a line, so that threads do not mix them.
fn note(notes: &mut std::fs::File, line: &str) {
    notes.write_all(format!("{line}\n").as_bytes()).unwrap();
}

/// The child: lives through the script until it is killed.
fn live(root: PathBuf) {
    #[cfg(feature = "mutants")]
    if let Ok(name) = std::env::var(MUTANT) {
        tidelog_types::mutant::switch_everywhere(tidelog_types::Mutant::by_name(&name).unwrap());
    }
    let notes = |root: &Path| {
        std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(root.join("notes"))
            .unwrap()
    };
    let mut witness = Witness {
        notes: notes(&root),
        passed: BTreeMap::new(),
        kill_at: std::env::var(KILL_AT).ok().map(|text| {
            let (name, nth) = text.split_once('#').unwrap();
            (name.to_owned(), nth.parse().unwrap())
        }),
        case: Case { root: root.clone() },
    };
    let mut notes = notes(&root);
    crash::arm(move |point| witness.passes(point));
    let folder = Case { root }.metadata();
    runtime().block_on(async {
        let played = play(&folder, 0, |answered| {
            note(&mut notes, &format!("answered {answered}"));
        });
        played.await.unwrap();
    });
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}

/// What a child noted before it died.
#[derive(Debug, Default)]
struct Notes {
    passed: BTreeSet<String>,
    /// Whether it lived to the end.
    completed: bool,
    answered: usize,
    synced: BTreeMap<String, u64>,
}

fn run_child(case: &Case, kill_at: Option<&(String, u64)>, mutant: Option<&str>) -> Notes {
    std::fs::create_dir_all(&case.root).unwrap();
    let mut child = Process::new(std::env::current_exe().unwrap());
    child
        .args(["--exact", TEST, "--nocapture"])
        .env(CASE, &case.root)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if let Some((point, nth)) = kill_at {
        child.env(KILL_AT, format!("{point}#{nth}"));
    }
    #[cfg(feature = "mutants")]
    if let Some(mutant) = mutant {
        child.env(MUTANT, mutant);
    }
    let _ = mutant;
    let status = child.status().unwrap();
    let killed = status.signal().is_some();
    assert!(
        status.success() || (killed && kill_at.is_some()),
        "killed at {kill_at:?}: {status}"
    );
    let mut notes = Notes {
        completed: !killed,
        ..Notes::default()
    };
    for line in std::fs::read_to_string(case.root.join("notes")).unwrap().lines() {
        let words: Vec<_> = line.split(' ').collect();
        match words[..] {
            ["answered", count] => notes.answered = count.parse().unwrap(),
            ["synced", wal, length] => {
                notes.synced.insert(wal.to_owned(), length.parse().unwrap());
            }
            ["passed", point] => {
                notes.passed.insert(point.to_owned());
            }
            _ => panic!("{line}"),
        }
    }
    notes
}

/// What becomes of what was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loss {
    /// It reached the disk all the same, as after the death of the process alone.
    Nothing,
    /// All of it is gone: names are as they were when the folder was last synced.
    Everything,
    /// Half of it is: names are new, and contents cut short.
    Half,
}

/// Takes away what was not synced. Whether there was any.
fn lose(case: &Case, notes: &Notes, loss: Loss) -> bool {
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
async fn check(folder: &Path, answered: usize) -> Checked {
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

fn copy_folder(from: &Path, to: &Path) {
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

/// Kills a child at one passing and checks every way in which it may have ended. Whether there was that passing.
fn run_case(root: &Path, kill_at: &(String, u64), mutant: Option<&str>) -> Checked<bool> {
    let died = Case {
        root: root.join(format!("{}-{}", kill_at.0.replace(['/', ':'], "-"), kill_at.1)),
    };
    let notes = run_child(&died, Some(kill_at), mutant);
    if notes.completed {
        return Ok(false);
    }
    for loss in [Loss::Nothing, Loss::Everything, Loss::Half] {
        let case = Case {
            root: died.root.with_extension(format!("{loss:?}")),
        };
        copy_folder(&died.root, &case.root);
        let lost = lose(&case, &notes, loss);
        if loss == Loss::Nothing || lost {
            runtime()
                .block_on(check(&case.metadata(), notes.answered))
                .map_err(|why| {
                    format!(
                        "killed at passing {} of {}, {} steps answered, {loss:?} lost: {why}",
                        kill_at.1, kill_at.0, notes.answered
                    )
                })?;
        }
        std::fs::remove_dir_all(&case.root).unwrap();
        if !lost {
            break;
        }
    }
    std::fs::remove_dir_all(&died.root).unwrap();
    Ok(true)
}

/// Runs every case; gives how many there were, and the first violations.
fn run_all(mutant: Option<&str>) -> (usize, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let whole = Case {
        root: folder.path().join("whole"),
    };
    let points: Vec<String> = run_child(&whole, None, mutant).passed.into_iter().collect();
    if mutant.is_none() {
        assert_eq!(points, POINTS, "the script passes every point");
    }
    let (next, cases, violations) = (AtomicUsize::new(0), AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some(point) = points.get(next.fetch_add(1, Ordering::Relaxed)) {
                    for nth in 1..=MAX_PASSINGS {
                        if !violations.lock().is_empty() {
                            return;
                        }
                        match run_case(folder.path(), &(point.clone(), nth), mutant) {
                            Ok(true) => cases.fetch_add(1, Ordering::Relaxed),
                            Ok(false) => break,
                            Err(why) => return violations.lock().push(why),
                        };
                        assert!(nth < MAX_PASSINGS, "{point} is passed for ever");
                    }
                }
            });
        }
    });
    (cases.into_inner(), violations.into_inner())
}

#[test]
fn nothing_answered_is_lost_at_any_crash_point() {
    if let Some(root) = std::env::var_os(CASE) {
        live(root.into());
        return;
    }
    let (cases, violations) = run_all(None);
    let mut all = String::new();
    for violation in &violations {
        writeln!(all, "{violation}").unwrap();
    }
    assert!(violations.is_empty(), "of {cases} cases:\n{all}");
    assert!(cases > 100, "{cases} are not every passing");
}

#[cfg(feature = "mutants")]
fn caught(mutant: tidelog_types::Mutant) -> String {
    let (_, violations) = run_all(Some(mutant.name()));
    violations
        .into_iter()
        .next()
        .unwrap_or_else(|| panic!("{mutant:?} is not caught"))
}

#[cfg(feature = "mutants")]
#[test]
fn m30_a_vote_that_is_answered_before_it_is_synced_is_caught() {
    let violation = caught(tidelog_types::Mutant::AnswerVoteBeforeSync);
    assert!(violation.contains("M30"), "{violation}");
}

#[cfg(feature = "mutants")]
#[test]
fn m27_a_log_that_is_purged_before_its_snapshot_is_synced_is_caught() {
    let violation = caught(tidelog_types::Mutant::PurgeBeforeSnapshotSync);
    let damaged = violation.contains("metadata snapshot is damaged");
    assert!(damaged || violation.contains("M27"), "{violation}");
}
