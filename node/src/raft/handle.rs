//! The only way for other rooms to remember something together: propose, read, watch. Works on every node.
//!
//! A follower passes questions on to the leader and tries again over elections until its deadline; request ids make
//! that safe. Safety never rests on [`RaftHandle::shutdown`]: a killed node is as good as a stopped one.

use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use openraft::storage::RaftLogStorage as _;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout, timeout_at},
};
use twinfeed_proto::internal::Envelope;
use uuid::Uuid;

use super::{
    driver::Driver,
    error::Error,
    identity::IdentityStore,
    leader::{Answer, Ask},
    log_store::{Closed, Expected, LogStore},
    member::Member,
    network::Network,
    options::Options,
    peers::{Peers, never_sent},
    service,
    state_machine::StateMachine,
    status::RaftStatus,
    type_config::Raft,
};
use crate::{
    clock::wall_ms,
    control::State,
    model::{
        command::{Command, Outcome, Proposal, asked},
        ids::{Epoch, NodeId, WriterId},
    },
};

/// Pause before the next attempt, in milliseconds: an election takes several hundred.
const RETRY_PAUSE_MS: u64 = 50;
/// Time allowed for each step of a shutdown, in milliseconds.
const SHUTDOWN_STEP_TIMEOUT_MS: u64 = 5_000;

/// The cheap, cloneable way to a node's Raft.
#[derive(Clone)]
pub struct RaftHandle {
    pub(super) member: Arc<Member>,
    status: watch::Receiver<RaftStatus>,
    log_index_at_start: u64,
    closed: Arc<Mutex<Option<Closed>>>,
}

/// What `start` hands to the composition root.
pub struct Started {
    pub handle: RaftHandle,
    /// To be served on the internal listener, beside other internal services.
    pub routes: tonic::service::Routes,
    /// To be run as a supervised task; without it the node neither joins nor publishes its status.
    pub driver: Driver,
}

impl RaftHandle {
    /// Opens the data directory and starts Raft. The node joins or founds its cluster once `routes` are served and
    /// `driver` runs.
    ///
    /// # Errors
    /// [`Error::Refused`] when the directory is in use or belongs elsewhere, [`Error::Damaged`] when it cannot be
    /// trusted, [`Error::Io`] when it cannot be used.
    pub async fn start(options: Options) -> Result<Started, Error> {
        let config = Arc::new(options.openraft_config()?);
        let (published, state) = watch::channel(Arc::default());
        let opening = options.clone();
        let opened = tokio::task::spawn_blocking(move || Stores::open(&opening, published)).await;
        let mut stores = opened.map_err(|e| Error::fatal(&e))??;
        let log = stores.log.get_log_state().await.map_err(|e| Error::fatal(&e))?;
        let log_index_at_start = log.last_log_id.map_or(0, |id| id.index);
        let identity = Arc::new(stores.identity);
        let peers = Peers::new(identity.clone(), options.message_bytes_max);
        let me = identity.get().node_id;
        let network = Network { me, peers: peers.clone(), state: state.clone(), retry_ms: options.heartbeat_ms };
        let raft = Raft::new(me, config, network, stores.log, stores.machine).await.map_err(|e| Error::fatal(&e))?;
        let member = Arc::new(Member { raft, identity, peers, state, options, joining: Mutex::default() });
        let (status_sender, status) = watch::channel(RaftStatus::of(&member));
        let closed = Arc::new(Mutex::new(Some(stores.closed)));
        let handle = Self { member: member.clone(), status, log_index_at_start, closed };
        let driver = Driver::new(member.clone(), handle.clone(), status_sender);
        Ok(Started { handle, routes: service::routes(member), driver })
    }

    /// Proposes a command and returns what it did. An empty `request_id` and an `asked` of 0 are filled in.
    ///
    /// # Errors
    /// [`Error::NoLeader`]: nothing was done. [`Error::Unknown`]: repeat with the same request id.
    /// [`Error::NotMember`], [`Error::Fatal`].
    pub async fn propose(&self, mut proposal: Proposal) -> Result<Outcome, Error> {
        if proposal.request_id.is_empty() {
            proposal.request_id = Uuid::new_v4().to_string();
        }
        if proposal.asked == 0 {
            proposal.asked = asked(&proposal.command);
        }
        let request_id = proposal.request_id.clone();
        let limit_ms = self.member.options.propose_timeout_ms;
        self.outcome(Ask::Propose(proposal), request_id, limit_ms).await
    }

    /// Proposes a command only if this node leads, and never passes it on: for decisions made from what a leader knows. A
    /// node that wakes up or restarts as the leader of a past term must not have its verdicts carried out by its successor.
    ///
    /// # Errors
    /// [`Error::NoLeader`]: nothing was done, another node leads. [`Error::Unknown`]: a later look at the state tells.
    pub async fn propose_as_leader(&self, proposal: Proposal) -> Result<Outcome, Error> {
        let request_id = Uuid::new_v4().to_string();
        let proposal = Proposal { request_id: request_id.clone(), ..proposal };
        if !self.member.leads() {
            return Err(Error::NoLeader { waited_ms: 0 });
        }
        match self.member.answer(Ask::Propose(proposal)).await {
            Answer::Outcome(outcome) => Ok(outcome),
            Answer::NotLeader { .. } => Err(Error::NoLeader { waited_ms: 0 }),
            Answer::ReadIndex(_) | Answer::Unknown { .. } => Err(Error::Unknown { request_id }),
        }
    }

    /// Removes a node for good, from the quorum and from the state.
    ///
    /// # Errors
    /// As [`RaftHandle::propose`]. The leader itself is refused by an outcome.
    pub async fn remove_node(&self, id: NodeId) -> Result<Outcome, Error> {
        let request_id = Uuid::new_v4().to_string();
        let proposal = Proposal {
            request_id: request_id.clone(),
            asked: 0,
            proposed_at_ms: wall_ms(),
            command: Command::RemoveNode { id },
        };
        // Two membership entries come before the command.
        let limit_ms = self.member.options.propose_timeout_ms.saturating_mul(3);
        self.outcome(Ask::RemoveNode { id, proposal }, request_id, limit_ms).await
    }

    /// Returns a state that contains everything acknowledged before the call, anywhere in the cluster.
    ///
    /// # Errors
    /// [`Error::NoLeader`] within the read timeout; [`Error::NotMember`], [`Error::Fatal`].
    pub async fn read(&self) -> Result<Arc<State>, Error> {
        let limit_ms = self.member.options.read_timeout_ms;
        let deadline = Instant::now() + Duration::from_millis(limit_ms);
        let index = match self.ask(&Ask::ReadIndex, deadline).await? {
            Asked::Answered(Answer::ReadIndex(index)) => index,
            Asked::Answered(_) | Asked::Nobody | Asked::Maybe => return Err(Error::NoLeader { waited_ms: limit_ms }),
        };
        let mut metrics = self.member.raft.metrics();
        let applied =
            metrics.wait_for(|m| m.last_applied.is_some_and(|id| id.index >= index) || m.running_state.is_err());
        match timeout_at(deadline, applied).await {
            Ok(Ok(_)) => {}
            Ok(Err(e)) => return Err(Error::fatal(&e)),
            Err(_) => return Err(Error::NoLeader { waited_ms: limit_ms }),
        }
        self.check_running()?;
        Ok(self.member.state())
    }

    /// Says, linearizably, whether `node` still owns the writer at this epoch. To be asked after fencing.
    ///
    /// # Errors
    /// As [`RaftHandle::read`].
    pub async fn confirm_assignment(&self, writer: &WriterId, epoch: Epoch, node: NodeId) -> Result<bool, Error> {
        let state = self.read().await?;
        let assignment = state.writers().get(writer).and_then(|w| w.assignment.as_ref());
        Ok(assignment.is_some_and(|a| a.epoch == epoch && a.owner == node))
    }

    /// Watches the applied state of this node; it may lag behind the cluster's.
    pub fn state(&self) -> watch::Receiver<Arc<State>> {
        self.member.state.clone()
    }

    /// Watches this node's place in Raft.
    pub fn status(&self) -> watch::Receiver<RaftStatus> {
        self.status.clone()
    }

    /// The last log index that this node had stored when its process started: whatever was decided up to there was
    /// decided for another process, whose memory is gone.
    pub fn log_index_at_start(&self) -> u64 {
        self.log_index_at_start
    }

    /// Returns the connections to other nodes.
    pub fn peers(&self) -> Peers {
        self.member.peers.clone()
    }

    /// Refuses what another cluster sent, what is meant for another node, and what a removed node still says. For the
    /// services beside this room's own on the internal listener.
    ///
    /// # Errors
    /// The text for `FAILED_PRECONDITION`.
    pub fn check_envelope(&self, envelope: Option<&Envelope>) -> Result<(), String> {
        self.member.check(envelope)
    }

    /// Returns this node's id.
    pub fn node_id(&self) -> NodeId {
        self.member.me().node_id
    }

    /// Why Raft has stopped on this node by itself, if it has: the cause behind whatever else fails then.
    pub fn failure(&self) -> Option<Error> {
        self.check_running().err()
    }

    /// Stops being a leader that others wait for, and does not become one again: the first step of a stop.
    ///
    /// openraft 0.9 cannot hand leadership over: voters refuse a candidate until the old leader's lease has run out,
    /// so the best a leader can do is to stop its heartbeats at once. The cluster then elects as after a crash.
    pub fn retire(&self) {
        self.member.raft.runtime_config().heartbeat(false);
        self.member.raft.runtime_config().elect(false);
    }

    /// Stops Raft, closes the store and releases the data directory.
    pub async fn shutdown(self) {
        self.retire();
        let step = Duration::from_millis(SHUTDOWN_STEP_TIMEOUT_MS);
        if timeout(step, self.member.raft.shutdown()).await.is_err() {
            tracing::warn!("raft did not stop within {SHUTDOWN_STEP_TIMEOUT_MS} ms");
        }
        let closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(closed) = closed
            && timeout(step, closed).await.is_err()
        {
            tracing::warn!("the raft log was not closed within {SHUTDOWN_STEP_TIMEOUT_MS} ms");
        }
        self.member.identity.release();
    }

    async fn outcome(&self, ask: Ask, request_id: String, limit_ms: u64) -> Result<Outcome, Error> {
        let deadline = Instant::now() + Duration::from_millis(limit_ms);
        match self.ask(&ask, deadline).await? {
            Asked::Answered(Answer::Outcome(outcome)) => Ok(outcome),
            Asked::Answered(_) | Asked::Maybe => Err(Error::Unknown { request_id }),
            Asked::Nobody => Err(Error::NoLeader { waited_ms: limit_ms }),
        }
    }

    /// Asks whoever leads until there is an answer or the deadline passes.
    async fn ask(&self, ask: &Ask, deadline: Instant) -> Result<Asked, Error> {
        let mut maybe_done = false;
        let mut hint = None;
        for turn in 0.. {
            self.check_running()?;
            if self.member.me().cluster_id.0.is_empty() {
                return Err(Error::NotMember {
                    why: "it has not joined yet, its log says what it waits for".to_owned(),
                });
            }
            let attempt = tokio::select! {
                attempt = timeout_at(deadline, self.ask_once(ask, hint.take(), turn)) => attempt,
                // A stopped leader would keep the question until its deadline, though another leads already.
                () = self.other_leader() => Ok(Attempt::Failed { never_sent: false }),
            };
            match attempt {
                Ok(Attempt::Answer(Answer::NotLeader { leader })) => hint = leader,
                Ok(Attempt::Answer(Answer::Unknown { why })) => {
                    tracing::debug!(why, "the leader could not answer");
                    maybe_done = true;
                }
                Ok(Attempt::Answer(answer)) => return Ok(Asked::Answered(answer)),
                Ok(Attempt::Failed { never_sent }) => maybe_done |= !never_sent,
                Err(_) => maybe_done = true,
            }
            let pause_end = Instant::now() + Duration::from_millis(RETRY_PAUSE_MS);
            if pause_end >= deadline {
                break;
            }
            sleep_until(pause_end).await;
        }
        Ok(if maybe_done { Asked::Maybe } else { Asked::Nobody })
    }

    async fn ask_once(&self, ask: &Ask, hint: Option<NodeId>, turn: usize) -> Attempt {
        let leader = hint.or_else(|| self.member.leader());
        if leader == Some(self.member.me().node_id) {
            return Attempt::Answer(self.member.answer(ask.clone()).await);
        }
        let others = self.member.addresses();
        let known = others.iter().find(|(id, _)| Some(*id) == leader);
        // Nobody known: the others may know. One after the other, because most of them may be dead.
        let Some((id, address)) = known.or_else(|| others.get(turn % others.len().max(1))) else {
            return Attempt::Failed { never_sent: true };
        };
        match self.member.peers.forward((*id, address), ask, ask.attempt_timeout_ms()).await {
            Ok(answer) => Attempt::Answer(answer),
            Err(status) => {
                tracing::debug!(node = id, error = status.message(), "a question to the leader failed");
                Attempt::Failed { never_sent: never_sent(&status) }
            }
        }
    }

    /// Ends when this node learns of another leader than the one it knows now.
    async fn other_leader(&self) {
        let mut metrics = self.member.raft.metrics();
        let known = metrics.borrow_and_update().current_leader;
        let changed = metrics.wait_for(|m| m.current_leader.is_some() && m.current_leader != known).await.is_ok();
        if !changed {
            // Raft has stopped: the attempt itself says so.
            std::future::pending::<()>().await;
        }
    }

    fn check_running(&self) -> Result<(), Error> {
        self.member.raft.metrics().borrow().running_state.clone().map_err(|e| Error::fatal(&e))
    }
}

enum Asked {
    Answered(Answer),
    /// Surely nothing was done.
    Nobody,
    /// No answer, but some leader may have acted.
    Maybe,
}

enum Attempt {
    Answer(Answer),
    Failed { never_sent: bool },
}

/// What is read from disk before Raft can start.
struct Stores {
    identity: IdentityStore,
    log: LogStore,
    closed: Closed,
    machine: StateMachine,
}

impl Stores {
    fn open(options: &Options, published: watch::Sender<Arc<State>>) -> Result<Self, Error> {
        let identity = IdentityStore::open(&options.data_dir, &options.name, &options.cluster_name)?;
        let me = identity.get();
        let raft_dir = options.data_dir.join("raft");
        if !me.log_created {
            start_empty(&raft_dir).map_err(|source| Error::Io { path: raft_dir.clone(), source })?;
        }
        let expected = Expected { node_id: me.node_id, node_name: me.name.clone(), exists: me.log_created };
        let (log, closed) = LogStore::open(&raft_dir.join("log"), &expected)?;
        if !me.log_created {
            identity.mark_log_created()?;
        }
        let machine = StateMachine::open(&raft_dir.join("snapshot"), &me.name, published)?;
        Ok(Self { identity, log, closed, machine })
    }
}

/// A first start that was cut off may have left half a log; nothing in it was ever promised to anyone.
fn start_empty(raft_dir: &Path) -> std::io::Result<()> {
    match fs::remove_dir_all(raft_dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
        Ok(()) | Err(_) => {}
    }
    fs::create_dir_all(raft_dir.join("log"))?;
    super::durable_file::sync_directory(raft_dir.parent().unwrap_or(raft_dir))
}
