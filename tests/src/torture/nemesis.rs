//! What happens to the brokers: one fault after another, each healed before the next but for a few
//! that overlap.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use rand::RngExt;
use rand::rngs::StdRng;
use rustix::process::Signal;

use super::BROKERS;
use super::senders::Recovery;
use crate::cluster::{Cluster, READY};
use crate::links::{Links, Way};
use crate::small_disk::SmallDisk;

/// How long a broker is away or cut off, milliseconds: from less than its session's length (6 s) to
/// well above.
const AWAY_MS: std::ops::Range<u64> = 300..12_000;
/// How long it is calm after a fault, milliseconds.
const CALM_MS: std::ops::Range<u64> = 500..5_000;

/// The broker whose disk may run full.
const SMALL: u32 = 1;
/// Its disk: a filesystem in memory, of which only what is written counts.
const SMALL_DISK_MIB: u32 = 6 * 1024;
/// Its reserve. Below it clients' records are refused, below half of it commits, below a quarter it
/// stops fetching.
const RESERVE_MIB: u64 = 512;
/// How much a filled disk has left: above what ends a broker.
const LEFT_BYTES: std::ops::Range<u64> = 100 * MIB..500 * MIB;
const MIB: u64 = 1024 * 1024;

/// Puts the data of one broker on a disk that may run full.
pub fn give_a_small_disk(cluster: &mut Cluster) -> Result<SmallDisk> {
    let broker = cluster.broker(SMALL);
    broker.set_env("TIDELOG__BROKER__RESERVE", format!("{RESERVE_MIB}MiB"));
    SmallDisk::mount(broker.data_dir(), SMALL_DISK_MIB)
}

/// One kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    /// SIGKILL of one broker.
    Kill,
    /// SIGKILL of two, a moment apart.
    KillTwo,
    /// SIGKILL of all of them at once.
    KillAll,
    /// SIGSTOP, then SIGCONT.
    Pause,
    /// An orderly stop.
    Stop,
    /// One way between two brokers.
    CutOneWay,
    /// Both ways between two brokers.
    CutBothWays,
    /// Everything to and from one broker.
    Isolate,
    /// Everything to one broker, which still speaks.
    Deafen,
    /// A pause of one broker while another is killed.
    PauseAndKill,
    /// The disk of one broker, up to somewhere in its reserve.
    FillDisk,
}

impl Fault {
    const ALL: [(Self, u32); 11] = [
        (Self::Kill, 5),
        (Self::KillTwo, 2),
        (Self::KillAll, 2),
        (Self::Pause, 4),
        (Self::Stop, 2),
        (Self::CutOneWay, 3),
        (Self::CutBothWays, 3),
        (Self::Isolate, 3),
        (Self::Deafen, 2),
        (Self::PauseAndKill, 2),
        (Self::FillDisk, 3),
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::KillTwo => "kill two",
            Self::KillAll => "kill all",
            Self::Pause => "pause",
            Self::Stop => "stop in order",
            Self::CutOneWay => "cut one way",
            Self::CutBothWays => "cut both ways",
            Self::Isolate => "isolate",
            Self::Deafen => "deafen",
            Self::PauseAndKill => "pause and kill",
            Self::FillDisk => "fill the disk",
        }
    }

    fn draw(random: &mut StdRng) -> Self {
        let total: u32 = Self::ALL.iter().map(|(_, weight)| weight).sum();
        let mut at = random.random_range(0..total);
        for (fault, weight) in Self::ALL {
            if at < weight {
                return fault;
            }
            at -= weight;
        }
        Self::Kill
    }
}

/// Strikes a cluster.
pub struct Nemesis {
    cluster: Cluster,
    links: Links,
    recovery: Arc<Recovery>,
    counts: BTreeMap<Fault, usize>,
    // After the cluster: a broker that still runs keeps its disk busy.
    disk: SmallDisk,
}

impl Nemesis {
    /// For a cluster behind these links, one broker of which may run out of disk.
    pub fn new(cluster: Cluster, links: Links, disk: SmallDisk, recovery: Arc<Recovery>) -> Self {
        Self {
            cluster,
            links,
            recovery,
            counts: BTreeMap::new(),
            disk,
        }
    }

    /// One fault, its healing, and a little calm.
    pub async fn strike(&mut self, random: &mut StdRng) -> Result<()> {
        let fault = Fault::draw(random);
        *self.counts.entry(fault).or_default() += 1;
        self.recovery.ends();
        let one = random.random_range(1..=BROKERS);
        let other = 1 + (one + random.random_range(0..BROKERS - 1)) % BROKERS;
        let away = Duration::from_millis(random.random_range(AWAY_MS));
        let calm = Duration::from_millis(random.random_range(CALM_MS));
        if fault == Fault::FillDisk {
            self.disk.fill(random.random_range(LEFT_BYTES))?;
        }
        self.begin(fault, one, other).await?;
        tokio::time::sleep(away).await;
        self.heal().await?;
        self.recovery.begins();
        tokio::time::sleep(calm).await;
        Ok(())
    }

    async fn begin(&mut self, fault: Fault, one: u32, other: u32) -> Result<()> {
        let everybody_but = |broker: u32| (1..=BROKERS).filter(move |id| *id != broker);
        let to = |broker: u32| everybody_but(broker).map(move |id| -> Way { (id, broker) });
        let from = |broker: u32| everybody_but(broker).map(move |id| -> Way { (broker, id) });
        match fault {
            Fault::Kill => self.kill(&[one]),
            Fault::KillTwo => self.kill(&[one, other]),
            Fault::KillAll => self.kill(&(1..=BROKERS).collect::<Vec<_>>()),
            Fault::Pause => self.cluster.broker(one).signal(Signal::STOP),
            Fault::Stop => {
                self.cluster.broker(one).stop().await?;
                self.links.close(one);
                Ok(())
            }
            Fault::CutOneWay => {
                self.links.cut([(one, other)]);
                Ok(())
            }
            Fault::CutBothWays => {
                self.links.cut([(one, other), (other, one)]);
                Ok(())
            }
            Fault::Isolate => {
                self.links.cut(to(one).chain(from(one)));
                Ok(())
            }
            Fault::Deafen => {
                self.links.cut(to(one));
                Ok(())
            }
            Fault::PauseAndKill => {
                self.cluster.broker(one).signal(Signal::STOP)?;
                self.kill(&[other])
            }
            // It was filled before this, to a mark that was drawn.
            Fault::FillDisk => Ok(()),
        }
    }

    fn kill(&mut self, brokers: &[u32]) -> Result<()> {
        // All signals first, then the waiting: they shall die together.
        for id in brokers {
            self.cluster.broker(*id).signal(Signal::KILL)?;
        }
        for id in brokers {
            self.cluster.broker(*id).kill()?;
            self.links.close(*id);
        }
        Ok(())
    }

    /// Everything runs and hears each other again. A broker that does not come up is an error.
    pub async fn heal(&mut self) -> Result<()> {
        self.links.mend();
        self.disk.make_room()?;
        for id in 1..=BROKERS {
            let broker = self.cluster.broker(id);
            if broker.pid().is_some() {
                broker.signal(Signal::CONT)?;
            }
            self.links.open(id)?;
        }
        self.cluster.start_all()?;
        self.links.know(&self.cluster);
        self.cluster.wait_ready(READY).await
    }

    /// How often each kind of fault struck.
    pub fn counts(&self) -> Vec<(&'static str, usize)> {
        self.counts
            .iter()
            .map(|(fault, count)| (fault.name(), *count))
            .collect()
    }

    /// The cluster that is tormented.
    pub fn cluster(&mut self) -> &mut Cluster {
        &mut self.cluster
    }

    /// Leaves data and logs where they are, and says where.
    pub fn keep(&mut self) -> PathBuf {
        self.disk.keep();
        self.cluster.keep()
    }
}
