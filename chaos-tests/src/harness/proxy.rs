//! A TCP proxy whose links can be made slow, narrow, dead or torn at run time, per direction. It understands no protocol.
//!
//! Dropping it ends all connections. Bytes are delayed, never lost, doubled or swapped: that is what TCP leaves of a bad
//! network.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};

use super::gate::{Gate, dial, reset};

/// Read at once, bytes.
const CHUNK_BYTES: usize = 16 * 1024;
/// Chunks under way in one direction of one connection; then the proxy stops reading, as a full pipe does.
const CHUNKS_MAX: usize = 256;

/// The state of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Link {
    pub delay: Duration,
    /// A further delay between zero and this, drawn for each chunk.
    pub jitter: Duration,
    /// Bandwidth; None is unlimited.
    pub bytes_per_second: Option<u64>,
    /// Nothing arrives while this is set; what was sent comes afterwards.
    pub blackhole: bool,
}

/// From client to server, or back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Up,
    Down,
}

/// What has happened so far.
#[derive(Debug, Default)]
struct Counters {
    connections: AtomicU64,
    up_bytes: AtomicU64,
    down_bytes: AtomicU64,
    resets: AtomicU64,
}

/// A running proxy.
#[derive(Debug)]
pub struct Proxy {
    gate: Gate,
    switches: Switches,
    counters: Arc<Counters>,
}

/// The senders of what every connection listens to.
#[derive(Debug)]
struct Switches {
    up: watch::Sender<Link>,
    down: watch::Sender<Link>,
    /// Number of the last reset.
    torn: watch::Sender<u64>,
}

impl Proxy {
    /// Listens on a free port of `listen`'s address, or on its port, and forwards to `target`.
    pub fn start(listen: SocketAddr, target: SocketAddr) -> Result<Self> {
        let switches = Switches {
            up: watch::Sender::new(Link::default()),
            down: watch::Sender::new(Link::default()),
            torn: watch::Sender::new(0),
        };
        let counters = Arc::new(Counters::default());
        let (up, down, torn) = (switches.up.subscribe(), switches.down.subscribe(), switches.torn.subscribe());
        let counted = Arc::clone(&counters);
        let gate = Gate::open(listen, move |client| {
            counted.connections.fetch_add(1, Ordering::Relaxed);
            let counters = Arc::clone(&counted);
            Connection { up: up.clone(), down: down.clone(), torn: torn.clone(), counters }.run(client, target)
        })?;
        Ok(Self { gate, switches, counters })
    }

    pub fn address(&self) -> SocketAddr {
        self.gate.address()
    }

    /// Changes one direction of all connections, those to come included.
    pub fn set(&self, way: Way, link: Link) {
        match way {
            Way::Up => self.switches.up.send_replace(link),
            Way::Down => self.switches.down.send_replace(link),
        };
    }

    /// Tears all connections with a reset on both sides; new ones are accepted.
    pub fn reset(&self) {
        self.switches.torn.send_modify(|number| *number += 1);
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> u64 {
        self.counters.connections.load(Ordering::Relaxed)
    }

    /// Connections torn so far.
    pub fn resets(&self) -> u64 {
        self.counters.resets.load(Ordering::Relaxed)
    }

    /// Bytes delivered so far.
    pub fn bytes(&self, way: Way) -> u64 {
        match way {
            Way::Up => self.counters.up_bytes.load(Ordering::Relaxed),
            Way::Down => self.counters.down_bytes.load(Ordering::Relaxed),
        }
    }
}

/// What one connection needs to know.
struct Connection {
    up: watch::Receiver<Link>,
    down: watch::Receiver<Link>,
    torn: watch::Receiver<u64>,
    counters: Arc<Counters>,
}

impl Connection {
    async fn run(mut self, mut client: TcpStream, target: SocketAddr) {
        // Those of before do not count for this connection.
        self.torn.mark_unchanged();
        let Some(mut server) = dial(&client, target).await else { return };
        let whole = {
            let ((client_in, client_out), (server_in, server_out)) = (client.split(), server.split());
            let up = carry(client_in, server_out, self.up, &self.counters.up_bytes);
            let down = carry(server_in, client_out, self.down, &self.counters.down_bytes);
            let both = async { tokio::try_join!(up, down) };
            tokio::select! {
                result = both => result.is_ok(),
                _ = self.torn.changed() => {
                    self.counters.resets.fetch_add(1, Ordering::Relaxed);
                    false
                }
            }
        };
        if !whole {
            reset(&client);
            reset(&server);
        }
    }
}

/// Carries one direction to its end, every chunk when it is due.
async fn carry(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut link: watch::Receiver<Link>,
    delivered_bytes: &AtomicU64,
) -> std::io::Result<()> {
    let (sender, mut chunks) = mpsc::channel::<(Instant, Vec<u8>)>(CHUNKS_MAX);
    let now_link = link.clone();
    let read = async move {
        let mut pace = Pace::default();
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            let count = from.read(&mut buffer).await?;
            let due = pace.due(&now_link.borrow(), Instant::now(), count);
            // The other half gone is its error to report.
            if count == 0 || sender.send((due, buffer[..count].to_vec())).await.is_err() {
                return Ok(());
            }
        }
    };
    let write = async move {
        while let Some((due, chunk)) = chunks.recv().await {
            sleep_until(due).await;
            if link.wait_for(|link| !link.blackhole).await.is_err() {
                break;
            }
            // Before the write: whoever has got them must find them counted.
            delivered_bytes.fetch_add(chunk.len() as u64, Ordering::Relaxed);
            to.write_all(&chunk).await?;
        }
        to.shutdown().await
    };
    tokio::try_join!(read, write).map(drop)
}

/// When chunks are due: never sooner than the ones before.
#[derive(Debug, Default)]
struct Pace {
    /// When the last byte has passed the narrow place.
    passed: Option<Instant>,
    last: Option<Instant>,
}

impl Pace {
    fn due(&mut self, link: &Link, now: Instant, bytes: usize) -> Instant {
        let begins = self.passed.map_or(now, |passed| passed.max(now));
        let takes = link.bytes_per_second.map_or(0.0, |per_second| bytes as f64 / per_second.max(1) as f64);
        let passed = begins + Duration::from_secs_f64(takes);
        self.passed = Some(passed);
        let jitter = rand::random_range(Duration::ZERO..=link.jitter);
        let arrives = passed + link.delay + jitter;
        let due = self.last.map_or(arrives, |last| last.max(arrives));
        self.last = Some(due);
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_keep_their_order_and_wait_for_delay_and_bandwidth() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        let slow = Link { delay: Duration::from_millis(50), bytes_per_second: Some(1_000), ..Link::default() };
        assert_eq!(pace.due(&slow, now, 100), now + Duration::from_millis(150));
        assert_eq!(pace.due(&slow, now, 100), now + Duration::from_millis(250));
        // A link that became fast lets nothing overtake what is under way.
        assert_eq!(pace.due(&Link::default(), now, 100), now + Duration::from_millis(250));
        let trembling = Link { jitter: Duration::from_millis(40), ..Link::default() };
        let dues: Vec<Instant> = (0..100).map(|_| pace.due(&trembling, now + Duration::from_secs(1), 1)).collect();
        assert!(dues.is_sorted());
    }
}
