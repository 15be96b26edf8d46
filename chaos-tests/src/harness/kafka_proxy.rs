//! A proxy in front of one Kafka broker that knows where requests begin and end, and of which kind they are: it holds,
//! doubles or loses chosen ones. It reads request headers only and changes no byte; the broker's own listener for
//! proxies (`BrokerOptions::proxy`) leads clients back here.
//!
//! A held request is delivered even when its client has given up and left: that is what a slow network does. Requests
//! behind a held one of the same connection wait with it.

use std::{
    collections::{HashMap, VecDeque},
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
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
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::gate::{Gate, dial, reset};

/// Largest request or response, bytes.
const FRAME_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Requests of one connection under way; librdkafka has far fewer.
const REQUESTS_MAX: usize = 1024;
/// How long responses of a client that has left are waited for, so that the broker surely acted.
const LAST_RESPONSES_MAX: Duration = Duration::from_secs(5);
/// Kinds of requests that are counted; Kafka has fewer than a hundred.
const APIS: usize = 128;

/// Kinds of requests that stories care about, by Kafka's `api_key`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    Produce = 0,
    InitProducerId = 22,
    AddPartitionsToTxn = 24,
    EndTxn = 26,
}

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Delivered after this time.
    Hold(Duration),
    /// Delivered when `release` is called.
    HoldUntilReleased,
    /// Delivered at once, and a copy after this time, whose response nobody sees.
    Duplicate(Duration),
    /// Delivered; instead of the response the client gets a reset.
    LoseResponse,
}

/// A running proxy.
#[derive(Debug)]
pub struct KafkaProxy {
    gate: Gate,
    shared: Arc<Shared>,
}

/// What all connections share.
#[derive(Debug)]
struct Shared {
    /// None until the broker is up: connections are closed.
    target: watch::Sender<Option<SocketAddr>>,
    rules: Mutex<HashMap<i16, Rule>>,
    /// Number of the last release.
    released: watch::Sender<u64>,
    seen: [AtomicU64; APIS],
    touched: AtomicU64,
    /// Requests held now.
    held: AtomicU64,
    /// Held requests and copies that reached the broker, and were answered by it.
    late: AtomicU64,
}

#[derive(Debug, Clone, Copy)]
struct Rule {
    action: Action,
    times: u32,
}

impl KafkaProxy {
    /// Listens on a free port of `listen`; connections are accepted once `lead_to` names the broker.
    pub fn start(listen: SocketAddr) -> Result<Self> {
        let shared = Arc::new(Shared {
            target: watch::Sender::new(None),
            rules: Mutex::default(),
            released: watch::Sender::new(0),
            seen: [const { AtomicU64::new(0) }; APIS],
            touched: AtomicU64::new(0),
            held: AtomicU64::new(0),
            late: AtomicU64::new(0),
        });
        let accepting = Arc::clone(&shared);
        let gate = Gate::open(listen, move |client| run(client, Arc::clone(&accepting)))?;
        Ok(Self { gate, shared })
    }

    pub fn address(&self) -> SocketAddr {
        self.gate.address()
    }

    /// Names the broker's listener for this proxy.
    pub fn lead_to(&self, target: SocketAddr) {
        self.shared.target.send_replace(Some(target));
    }

    /// Does `action` to the next `times` requests of this kind; takes the place of the rule before.
    pub fn set(&self, api: Api, action: Action, times: u32) {
        self.shared.rules().insert(api as i16, Rule { action, times });
    }

    /// Forgets all rules; what is held stays held.
    pub fn clear(&self) {
        self.shared.rules().clear();
    }

    /// Delivers what is held until now.
    pub fn release(&self) {
        self.shared.released.send_modify(|number| *number += 1);
    }

    /// Requests of this kind so far.
    pub fn seen(&self, api: Api) -> u64 {
        self.shared.seen[api as usize].load(Ordering::Relaxed)
    }

    /// Requests to which something was done so far: the proof of the fault.
    pub fn touched(&self) -> u64 {
        self.shared.touched.load(Ordering::Relaxed)
    }

    /// Requests that are held now.
    pub fn held(&self) -> u64 {
        self.shared.held.load(Ordering::Relaxed)
    }

    /// Held requests and copies that the broker has answered so far.
    pub fn late(&self) -> u64 {
        self.shared.late.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn rules(&self) -> std::sync::MutexGuard<'_, HashMap<i16, Rule>> {
        // Rules are whole at every moment, poisoned or not.
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a request and says what happens to it.
    fn judge(&self, api_key: i16) -> Option<Action> {
        if let Some(seen) = usize::try_from(api_key).ok().and_then(|key| self.seen.get(key)) {
            seen.fetch_add(1, Ordering::Relaxed);
        }
        let mut rules = self.rules();
        let rule = rules.get_mut(&api_key)?;
        rule.times = rule.times.checked_sub(1)?;
        self.touched.fetch_add(1, Ordering::Relaxed);
        Some(rule.action)
    }
}

/// A request on its way to the broker.
struct Request {
    frame: Vec<u8>,
    correlation_id: i32,
    wait: Wait,
    fate: Fate,
}

enum Wait {
    None,
    Until(Instant),
    Release,
}

/// What becomes of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Deliver,
    /// To a held request: its client may still be there.
    DeliverLate,
    Swallow,
    Lose,
}

/// Responses that are owed, by correlation id; a copy has that of its original.
#[derive(Debug, Default)]
struct Owed {
    fates: Mutex<HashMap<i32, VecDeque<Fate>>>,
    count: watch::Sender<usize>,
}

impl Owed {
    fn owe(&self, correlation_id: i32, fate: Fate) {
        self.fates().entry(correlation_id).or_default().push_back(fate);
        self.count.send_modify(|count| *count += 1);
    }

    fn paid(&self, correlation_id: i32) -> Fate {
        let mut fates = self.fates();
        let Some(queue) = fates.get_mut(&correlation_id) else { return Fate::Deliver };
        let fate = queue.pop_front().unwrap_or(Fate::Deliver);
        if queue.is_empty() {
            fates.remove(&correlation_id);
        }
        self.count.send_modify(|count| *count -= 1);
        fate
    }

    fn fates(&self) -> std::sync::MutexGuard<'_, HashMap<i32, VecDeque<Fate>>> {
        self.fates.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn run(mut client: TcpStream, shared: Arc<Shared>) {
    let target = *shared.target.borrow();
    let Some(target) = target else { return };
    let Some(mut server) = dial(&client, target).await else { return };
    let whole = {
        let ((client_in, client_out), (server_in, server_out)) = (client.split(), server.split());
        let (sender, requests) = mpsc::channel(REQUESTS_MAX);
        let owed = Owed::default();
        let up = async {
            tokio::join!(
                read_requests(client_in, sender, &shared),
                write_requests(requests, server_out, &owed, &shared)
            )
            .1
        };
        tokio::select! {
            result = up => result,
            result = read_responses(server_in, client_out, &owed, &shared) => result,
        }
    };
    if whole.is_err() {
        reset(&client);
    }
}

/// Reads requests until the client leaves, and says what happens to each. Copies are sent by themselves, later.
async fn read_requests(mut from: ReadHalf<'_>, to: mpsc::Sender<Request>, shared: &Shared) {
    let mut copies = JoinSet::new();
    while let Ok(frame) = read_frame(&mut from).await {
        // Size, api_key, api_version, correlation id: the same in every version of the header.
        let Some((api_key, correlation_id)) = header(&frame) else { break };
        let (mut wait, mut fate) = (Wait::None, Fate::Deliver);
        match shared.judge(api_key) {
            None => {}
            Some(Action::Hold(time)) => (wait, fate) = (Wait::Until(Instant::now() + time), Fate::DeliverLate),
            Some(Action::HoldUntilReleased) => (wait, fate) = (Wait::Release, Fate::DeliverLate),
            Some(Action::LoseResponse) => fate = Fate::Lose,
            Some(Action::Duplicate(after)) => {
                let copy = Request { frame: frame.clone(), correlation_id, wait: Wait::None, fate: Fate::Swallow };
                let to = to.clone();
                #[expect(
                    clippy::disallowed_methods,
                    reason = "the suite has no supervisor: tasks end with the runtime"
                )]
                copies.spawn(async move {
                    sleep(after).await;
                    // A connection that is gone takes its copies with it.
                    let _ = to.send(copy).await;
                });
            }
        }
        if to.send(Request { frame, correlation_id, wait, fate }).await.is_err() {
            break;
        }
    }
    drop(to);
    while copies.join_next().await.is_some() {}
}

/// Writes requests when they are due, to the last one, and waits for the responses that are owed.
async fn write_requests(
    mut requests: mpsc::Receiver<Request>,
    mut to: WriteHalf<'_>,
    owed: &Owed,
    shared: &Shared,
) -> io::Result<()> {
    while let Some(request) = requests.recv().await {
        if !matches!(request.wait, Wait::None) {
            shared.held.fetch_add(1, Ordering::Relaxed);
            match request.wait {
                Wait::Until(due) => sleep_until(due).await,
                _ => {
                    // The sender lives in `shared`: a change is all that can happen.
                    let _ = shared.released.subscribe().changed().await;
                }
            }
            shared.held.fetch_sub(1, Ordering::Relaxed);
        }
        owed.owe(request.correlation_id, request.fate);
        to.write_all(&request.frame).await?;
    }
    // The client has left; the broker must have acted before it is left too.
    let _ = timeout(LAST_RESPONSES_MAX, owed.count.subscribe().wait_for(|count| *count == 0)).await;
    Ok(())
}

/// Carries responses until the broker leaves, or until one is lost on purpose.
async fn read_responses(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, owed: &Owed, shared: &Shared) -> io::Result<()> {
    loop {
        let frame = read_frame(&mut from).await?;
        let Some(correlation_id) = frame.get(4..8).map(|id| i32::from_be_bytes([id[0], id[1], id[2], id[3]])) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let fate = owed.paid(correlation_id);
        if matches!(fate, Fate::DeliverLate | Fate::Swallow) {
            shared.late.fetch_add(1, Ordering::Relaxed);
        }
        match fate {
            // A client that has left gets nothing, but its requests are still answered for.
            Fate::Deliver | Fate::DeliverLate => drop(to.write_all(&frame).await),
            Fate::Swallow => {}
            Fate::Lose => return Err(io::ErrorKind::ConnectionReset.into()),
        }
    }
}

/// A frame with its four bytes of size.
async fn read_frame(from: &mut ReadHalf<'_>) -> io::Result<Vec<u8>> {
    let size = from.read_i32().await?;
    let bytes = usize::try_from(size).ok().filter(|bytes| *bytes <= FRAME_BYTES_MAX);
    let mut frame = vec![0; 4 + bytes.ok_or(io::ErrorKind::InvalidData)?];
    frame[..4].copy_from_slice(&size.to_be_bytes());
    from.read_exact(&mut frame[4..]).await?;
    Ok(frame)
}

/// Api key and correlation id of a request.
fn header(frame: &[u8]) -> Option<(i16, i32)> {
    let at = frame.get(4..12)?;
    Some((i16::from_be_bytes([at[0], at[1]]), i32::from_be_bytes([at[4], at[5], at[6], at[7]])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_behind_the_size() {
        let frame = [0, 0, 0, 9, 0, 26, 0, 3, 0, 0, 1, 2, 0xff];
        assert_eq!(header(&frame), Some((26, 258)));
        assert_eq!(header(&frame[..11]), None);
    }

    #[test]
    fn a_copy_is_swallowed_and_its_original_delivered() {
        let owed = Owed::default();
        owed.owe(7, Fate::Deliver);
        owed.owe(7, Fate::Swallow);
        assert_eq!((owed.paid(7), owed.paid(7)), (Fate::Deliver, Fate::Swallow));
        assert_eq!((owed.paid(8), *owed.count.borrow()), (Fate::Deliver, 0));
    }
}
