//! Proxies between brokers: one before each broker's peer listener. Which broker a connection comes
//! from is looked up in /proc, so that each way between two brokers can be cut apart. A cut holds
//! bytes back, as a network that drops packets does, and delivers them when it is mended.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context, Result};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::cluster::{Cluster, Layout, READY};
use crate::ports::{self, ReservedPort};

/// Most bytes that one direction of a connection holds.
const CHUNK: usize = 64 * 1024;

/// How often it is looked whose a connection is.
const LOOKS: usize = 5;

/// A way from one broker to another.
pub type Way = (u32, u32);

/// The proxies of a cluster.
pub struct Links {
    shared: Arc<Shared>,
    doors: BTreeMap<u32, Door>,
}

struct Shared {
    cut: watch::Sender<BTreeSet<Way>>,
    /// Brokers by process id.
    processes: Mutex<BTreeMap<u32, u32>>,
}

/// The proxy before one broker.
struct Door {
    port: ReservedPort,
    target: SocketAddr,
    /// While it is open.
    open: Option<(CancellationToken, JoinSet<()>)>,
}

/// Starts brokers that reach each other through proxies, and waits until they serve.
pub async fn start_cluster(brokers: u32, keep: bool) -> Result<(Cluster, Links)> {
    let (cluster, links, ()) = start_prepared(brokers, keep, |_| Ok(())).await?;
    Ok((cluster, links))
}

/// The same with something done to the cluster before its brokers start.
pub async fn start_prepared<T>(
    brokers: u32,
    keep: bool,
    prepare: impl FnOnce(&mut Cluster) -> Result<T>,
) -> Result<(Cluster, Links, T)> {
    let ports = (0..brokers)
        .map(|_| ports::reserve())
        .collect::<Result<Vec<_>>>()?;
    let mut cluster = Cluster::lay_out(&Layout {
        keep,
        peers_behind: ports.iter().map(ReservedPort::get).collect(),
        ..Layout::of(brokers)
    })?;
    let prepared = prepare(&mut cluster)?;
    let links = Links::start(&cluster, ports)?;
    cluster.start_all()?;
    links.know(&cluster);
    cluster.wait_ready(READY).await?;
    Ok((cluster, links, prepared))
}

impl Links {
    /// Proxies on these ports, one a broker in the order of their ids.
    fn start(cluster: &Cluster, ports: Vec<ReservedPort>) -> Result<Self> {
        let mut doors = BTreeMap::new();
        for (broker, port) in cluster.brokers().iter().zip(ports) {
            let target = broker.peer_address().parse().context("a peer address")?;
            let open = None;
            doors.insert(broker.id, Door { port, target, open });
        }
        let shared = Arc::new(Shared {
            cut: watch::Sender::new(BTreeSet::new()),
            processes: Mutex::default(),
        });
        let mut links = Self { shared, doors };
        for broker in cluster.brokers() {
            links.open(broker.id)?;
        }
        Ok(links)
    }

    /// Takes note of the brokers' processes. To be called after one was started, before it is of
    /// interest whom it talks to.
    pub fn know(&self, cluster: &Cluster) {
        let mut processes = self.shared.processes.lock();
        processes.clear();
        processes.extend(
            cluster
                .brokers()
                .iter()
                .filter_map(|broker| Some((broker.pid()?, broker.id))),
        );
    }

    /// The proxy before a broker listens. If it does already, nothing happens.
    pub fn open(&mut self, broker: u32) -> Result<()> {
        let door = self.doors.get_mut(&broker).context("a broker of the cluster")?;
        if door.open.is_some() {
            return Ok(());
        }
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, door.port.get()))
            .with_context(|| format!("listening on {} for broker {broker}", door.port.get()))?;
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let closed = CancellationToken::new();
        let mut task = JoinSet::new();
        task.spawn(accept(
            listener,
            Arc::clone(&self.shared),
            (broker, door.target),
            closed.clone(),
        ));
        door.open = Some((closed, task));
        Ok(())
    }

    /// The proxy before a broker refuses connections, as the port of a process that died does.
    pub fn close(&mut self, broker: u32) {
        if let Some(door) = self.doors.get_mut(&broker)
            && let Some((closed, _)) = door.open.take()
        {
            closed.cancel();
        }
    }

    /// Cuts these ways.
    pub fn cut(&self, ways: impl IntoIterator<Item = Way>) {
        self.shared.cut.send_modify(|cut| cut.extend(ways));
    }

    /// Mends every way.
    pub fn mend(&self) {
        self.shared.cut.send_modify(BTreeSet::clear);
    }
}

async fn accept(
    listener: TcpListener,
    shared: Arc<Shared>,
    target: (u32, SocketAddr),
    closed: CancellationToken,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = closed.cancelled() => return,
            accepted = listener.accept() => {
                if let Ok((stream, from)) = accepted {
                    connections.spawn(carry(stream, from, Arc::clone(&shared), target));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn carry(stream: TcpStream, from: SocketAddr, shared: Arc<Shared>, target: (u32, SocketAddr)) {
    let (to, address) = target;
    let looked_up = {
        let shared = Arc::clone(&shared);
        tokio::task::spawn_blocking(move || source(from, &shared.processes.lock().clone()))
    };
    // Whoever is not known is not let through a cut. It dials again, unless it has just died.
    let Some(from) = looked_up.await.ok().flatten() else {
        return;
    };
    // The handshake goes both ways.
    let mut cut = shared.cut.subscribe();
    let mended = |cut: &BTreeSet<Way>| !cut.contains(&(from, to)) && !cut.contains(&(to, from));
    if cut.wait_for(mended).await.is_err() {
        return;
    }
    let Ok(other) = TcpStream::connect(address).await else {
        return;
    };
    let (ours_in, ours_out) = stream.into_split();
    let (theirs_in, theirs_out) = other.into_split();
    let there = pass(ours_in, theirs_out, (from, to), shared.cut.subscribe());
    let back = pass(theirs_in, ours_out, (to, from), shared.cut.subscribe());
    // An end of one side is an end of the other.
    tokio::select! {
        () = there => {}
        () = back => {}
    }
}

/// Passes bytes on one way of a connection, while that way is not cut.
async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    way: Way,
    mut cut: watch::Receiver<BTreeSet<Way>>,
) {
    let mut bytes = vec![0; CHUNK];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        if cut.wait_for(|cut| !cut.contains(&way)).await.is_err() {
            return;
        }
        if to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
    // Not even an end is noticed across a cut.
    let _ = cut.wait_for(|cut| !cut.contains(&way)).await;
}

/// Whose process holds the other end of a loopback connection.
fn source(address: SocketAddr, processes: &BTreeMap<u32, u32>) -> Option<u32> {
    // The kernel's table is read in pieces, between which lines move: one that is missed is found
    // by another look.
    (0..LOOKS).find_map(|_| {
        let table = std::fs::read_to_string("/proc/net/tcp").ok()?;
        let inode = inode_of(&table, address)?;
        let wanted = format!("socket:[{inode}]");
        processes
            .iter()
            .find(|(pid, _)| holds(**pid, &wanted))
            .map(|(_, broker)| *broker)
    })
}

/// The socket with this local address, in the kernel's table: the second column is "0100007F:PORT",
/// the tenth the inode.
fn inode_of(table: &str, address: SocketAddr) -> Option<u64> {
    let SocketAddr::V4(address) = address else {
        return None;
    };
    let local = format!(
        "{:08X}:{:04X}",
        u32::from_ne_bytes(address.ip().octets()),
        address.port()
    );
    table.lines().skip(1).find_map(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        (columns.get(1) == Some(&local.as_str()))
            .then(|| columns.get(9)?.parse().ok())
            .flatten()
    })
}

fn holds(pid: u32, socket: &str) -> bool {
    let Ok(files) = std::fs::read_dir(format!("/proc/{pid}/fd")) else {
        return false;
    };
    files
        .filter_map(Result::ok)
        .any(|file| std::fs::read_link(file.path()).is_ok_and(|target| target.as_os_str() == socket))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_socket_is_found_in_the_kernels_table() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            0: 0100007F:1C05 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1\n";
        assert_eq!(inode_of(table, "127.0.0.1:7173".parse().unwrap()), Some(4711));
        assert_eq!(inode_of(table, "127.0.0.1:7174".parse().unwrap()), None);
    }

    #[test]
    fn a_connection_is_traced_to_its_process() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let processes = BTreeMap::from([(std::process::id(), 7)]);
        assert_eq!(source(stream.local_addr().unwrap(), &processes), Some(7));
    }

    #[tokio::test]
    async fn a_cut_way_holds_bytes_back_until_it_is_mended() {
        let cut = watch::Sender::new(BTreeSet::from([(1, 2)]));
        let (mut ours, from) = tokio::io::duplex(64);
        let (to, mut theirs) = tokio::io::duplex(64);
        let passing = tokio::spawn(pass(from, to, (1, 2), cut.subscribe()));
        ours.write_all(b"x").await.unwrap();
        let mut byte = [0];
        let early = tokio::time::timeout(Duration::from_millis(50), theirs.read_exact(&mut byte));
        assert!(early.await.is_err(), "it went through a cut");
        cut.send_modify(BTreeSet::clear);
        theirs.read_exact(&mut byte).await.unwrap();
        assert_eq!(&byte, b"x");
        drop(ours);
        passing.await.unwrap();
    }
}
