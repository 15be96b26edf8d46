//! When a leaving node may go, on a paused clock.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{collections::BTreeMap, pin::pin};

use futures_util::poll;

use super::*;
use crate::model::{
    command::{Command, Proposal},
    connector::{Config, NodeRecord, TargetState},
    ids::{ClusterId, Epoch},
    report::{NodeReport, NodeView, WriterReport},
};

const ME: NodeId = 1;
const OTHER: NodeId = 2;

/// A cluster of two nodes with one connector, as the leaving node hears of it.
struct Scene {
    state: watch::Sender<Arc<State>>,
    view: watch::Sender<ClusterView>,
    index: u64,
}

impl Scene {
    fn new() -> Self {
        let (state, view) = (watch::Sender::new(Arc::default()), watch::Sender::default());
        let mut scene = Self { state, view, index: 0 };
        let config = [("websocket.url", "ws://feed"), ("kafka.topic", "t")];
        let config: Config = config.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        let node = |id: NodeId| NodeRecord { id, name: format!("n{id}"), ..NodeRecord::default() };
        scene.apply(Command::InitCluster { id: ClusterId("c".to_owned()), name: "c".to_owned() });
        scene.apply(Command::PutNode { node: node(ME) });
        scene.apply(Command::PutNode { node: node(OTHER) });
        let name = "prices".to_owned();
        scene.apply(Command::CreateConnector { name, config, target: TargetState::Running });
        scene.assign(ME);
        scene.reports(ME, |_| {});
        scene
    }

    fn apply(&mut self, command: Command) {
        self.index += 1;
        let (index, request_id) = (self.index, self.index.to_string());
        self.state.send_modify(|state| {
            Arc::make_mut(state).apply(index, &Proposal { request_id, asked: 0, proposed_at_ms: 0, command });
        });
    }

    fn writer(&self) -> WriterId {
        self.state.borrow().writers().keys().next().unwrap().clone()
    }

    fn epoch(&self) -> Epoch {
        self.state.borrow().writers()[&self.writer()].assignment.as_ref().map(|a| a.epoch).unwrap_or_default()
    }

    fn assign(&mut self, owner: NodeId) {
        let (writer, expected_epoch) = (self.writer(), self.epoch());
        self.apply(Command::Assign {
            writer,
            expected_epoch,
            expected_standby: None,
            owner: Some(owner),
            standby: None,
        });
    }

    /// Both nodes are up, and `owner` alone runs the writer.
    fn reports(&self, owner: NodeId, change: impl Fn(&mut WriterReport)) {
        let mut report = WriterReport { role: Role::Owner, epoch: self.epoch(), ..WriterReport::default() };
        change(&mut report);
        let node = |id: NodeId| {
            let writers: BTreeMap<_, _> =
                (id == owner).then(|| (self.writer().0, report.clone())).into_iter().collect();
            let report = NodeReport { id, writers, ..NodeReport::default() };
            (id, NodeView { report, up: true, last_contact_ms: 0 })
        };
        self.view.send_replace(ClusterView { leader: ME, nodes: [node(ME), node(OTHER)].into() });
    }

    fn leaving(&self) -> Leaving {
        let (state, view) = (self.state.subscribe(), self.view.subscribe());
        Leaving { me: ME, say: watch::Sender::new(false), state, view }
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_stays_until_the_new_owner_delivers() {
    let mut scene = Scene::new();
    let leaving = scene.leaving();
    let said = leaving.say.subscribe();
    let mut leave = pin!(leaving.leave());
    assert!(poll!(&mut leave).is_pending());
    assert!(*said.borrow(), "nobody would move its writers");
    scene.assign(OTHER);
    scene.reports(ME, |_| {});
    assert!(poll!(&mut leave).is_pending(), "the writer still runs here");
    scene.reports(OTHER, |_| {});
    assert!(poll!(&mut leave).is_pending(), "moved, and not delivered yet");
    scene.reports(OTHER, |report| {
        report.delivering = true;
        report.epoch = Epoch(0);
    });
    assert!(poll!(&mut leave).is_pending(), "that was an earlier epoch");
    scene.reports(OTHER, |report| report.delivering = true);
    assert!(poll!(&mut leave).is_ready());
}

#[tokio::test(start_paused = true)]
async fn a_new_owner_that_failed_or_has_nothing_to_do_is_not_waited_for() {
    let mut scene = Scene::new();
    let mut leave = pin!(scene.leaving().leave());
    assert!(poll!(&mut leave).is_pending());
    scene.assign(OTHER);
    scene.reports(OTHER, |report| report.failed = Some("the topic is gone".to_owned()));
    assert!(poll!(&mut leave).is_ready());

    let mut scene = Scene::new();
    let mut leave = pin!(scene.leaving().leave());
    assert!(poll!(&mut leave).is_pending());
    scene.apply(Command::DeleteConnector { name: "prices".to_owned(), expected_revision: 0 });
    scene.view.send_modify(|view| view.nodes.values_mut().for_each(|node| node.report.writers.clear()));
    assert!(poll!(&mut leave).is_ready());
}

#[tokio::test(start_paused = true)]
async fn a_paused_stream_keeps_nobody() {
    let mut scene = Scene::new();
    scene.apply(Command::SetTarget { name: "prices".to_owned(), target: TargetState::Paused });
    scene.view.send_modify(|view| view.nodes.values_mut().for_each(|node| node.report.writers.clear()));
    assert!(poll!(pin!(scene.leaving().leave())).is_ready());
}

#[tokio::test(start_paused = true)]
async fn nobody_is_waited_for_longer_than_the_limits() {
    let mut scene = Scene::new();
    let (began, leave) = (Instant::now(), scene.leaving().leave());
    leave.await;
    assert_eq!(began.elapsed().as_secs(), LEAVE_MAX.as_secs(), "nobody moved it");

    scene.assign(ME);
    let (began, mut leave) = (Instant::now(), pin!(scene.leaving().leave()));
    assert!(poll!(&mut leave).is_pending());
    scene.assign(OTHER);
    scene.reports(OTHER, |_| {});
    leave.await;
    assert_eq!(began.elapsed().as_secs(), DELIVERED_WITHIN.as_secs(), "moved, and never delivered");
}

#[tokio::test(start_paused = true)]
async fn the_last_node_goes_at_once() {
    let scene = Scene::new();
    scene.view.send_modify(|view| view.nodes.get_mut(&OTHER).unwrap().up = false);
    assert!(poll!(pin!(scene.leaving().leave())).is_ready());
}
