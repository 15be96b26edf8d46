//! Writers whose task ends by itself, under a real cluster state of one node.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use tempfile::TempDir;

use super::*;
use crate::{
    feed,
    model::{
        command::{Command, Outcome, Proposal},
        connector::{Config, NodeRecord, TargetState},
        ids::Epoch,
        report::WriterReport,
    },
    raft,
    supervise::{Supervisor, TaskKind},
};

struct Scene {
    worker: Worker,
    writer: WriterId,
    supervisor: Supervisor,
    _directory: TempDir,
}

/// A worker whose node has this role for one connector, which runs. Neither its feed nor its Kafka exists.
async fn scene(role: Role) -> Scene {
    let directory = tempfile::tempdir().unwrap();
    let options =
        raft::Options { data_dir: directory.path().join("data"), name: "n1".into(), ..raft::Options::default() };
    let raft::Started { handle, driver, .. } = RaftHandle::start(options).await.unwrap();
    let supervisor = Supervisor::default();
    let spawner = supervisor.spawner();
    spawner.spawn(TaskKind::Membership, "driver", |_| async move { Ok(driver.run().await?) });
    handle.state().wait_for(|state| state.node_named("n1").is_some()).await.unwrap();
    let propose = async |command| {
        let proposal = Proposal { request_id: String::new(), asked: 0, proposed_at_ms: 1, command };
        assert!(matches!(handle.propose(proposal).await.unwrap(), Outcome::Done { .. }));
    };
    propose(Command::PutNode { node: NodeRecord { id: 2, name: "n2".into(), ..NodeRecord::default() } }).await;
    let config = [("websocket.url", "ws://127.0.0.1:1/"), ("kafka.topic", "t")];
    let config: Config = config.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    let (name, writer, me) = ("c".to_owned(), WriterId("c".to_owned()), handle.node_id());
    propose(Command::CreateConnector { name, config, target: TargetState::Running }).await;
    let (owner, standby) = match role {
        Role::Owner => (me, 2),
        Role::Standby => (2, me),
    };
    propose(Command::Assign {
        writer: writer.clone(),
        expected_epoch: Epoch(0),
        expected_standby: None,
        owner: Some(owner),
        standby: Some(standby),
    })
    .await;
    let settings = Settings {
        node: "n1".into(),
        bootstrap: "127.0.0.1:1".into(),
        kafka_properties: [].into_iter().collect(),
        topics: crate::kafka::Topics::default(),
        openings: crate::kafka::Openings::default(),
        message_bytes_max: 68 << 20,
        dial: feed::DialOptions::default(),
        emit: std::sync::Arc::new(|_| {}),
    };
    let (suspects, _) = mpsc::channel(1);
    let mut worker = Worker::new(handle, settings, spawner, relay::Registry::default(), suspects);
    worker.reconcile().await;
    Scene { worker, writer, supervisor, _directory: directory }
}

impl Scene {
    async fn panic(&mut self) {
        let task = self.supervisor.spawner().spawn(TaskKind::Writer, "broken", |_| async { panic!("broken") });
        task.ended().await;
        self.worker.running.get_mut(&self.writer).unwrap().replace_task(task);
        self.worker.look_after_ended().await;
    }

    fn runs(&self) -> bool {
        self.worker.running[&self.writer].offers().is_some()
    }

    fn report(&self) -> WriterReport {
        self.worker.running[&self.writer].report().borrow().clone()
    }
}

#[tokio::test]
async fn a_standby_whose_task_panics_is_started_again_and_rests_when_it_does_so_again() {
    let mut scene = scene(Role::Standby).await;
    assert!(scene.runs());
    scene.panic().await;
    assert!(scene.runs(), "at once, the first time: {:?}", scene.report());
    scene.panic().await;
    let report = scene.report();
    assert!(!scene.runs() && report.failed.is_none(), "{report:?}");
    assert!(report.trouble.unwrap().contains("started again"));
    // Neither a look nor a comparison starts it before it has rested.
    scene.worker.look_after_ended().await;
    scene.worker.reconcile().await;
    assert!(!scene.runs());
    scene.worker.rests = Rests::default();
    scene.worker.look_after_ended().await;
    assert!(scene.runs());
}

#[tokio::test]
async fn an_owner_whose_task_panics_says_at_once_that_its_memory_is_gone() {
    let mut scene = scene(Role::Owner).await;
    assert!(scene.runs());
    scene.panic().await;
    let report = scene.report();
    assert!(!scene.runs() && report.needs_epoch && report.failed.is_none(), "{report:?}");
}
