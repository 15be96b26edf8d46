//! Three nodes remember together: founding, forwarding, restarts, loss of the leader, repeats, catching up.

use std::time::Instant;

use super::support::{Node, Place, create, leader, places, start_all};
use twinfeed_node::{
    model::{
        command::{Command, Outcome},
        ids::{Epoch, WriterId},
    },
    raft::Error,
};

fn has(node: &Node, name: &str) -> bool {
    node.run(node.handle.read()).expect("a linearizable read").connectors().contains_key(name)
}

#[test]
fn three_nodes_found_one_cluster_and_any_of_them_takes_a_command() {
    let root = tempfile::tempdir().unwrap();
    let nodes = start_all(&places(&root, &["n1", "n2", "n3"]));
    let ids: Vec<_> = nodes.iter().map(|n| n.status().cluster_id).collect();
    assert!(!ids[0].0.is_empty() && ids.iter().all(|id| *id == ids[0]), "more than one cluster: {ids:?}");
    for (i, node) in nodes.iter().enumerate() {
        node.create(&format!("c{i}"));
        // Acknowledged at one node, so a linearizable read at every other one must show it at once.
        assert!(nodes.iter().all(|other| has(other, &format!("c{i}"))));
    }
    let leader = leader(&nodes);
    let assign = Command::Assign {
        writer: WriterId("c0".to_owned()),
        expected_epoch: Epoch(0),
        expected_standby: None,
        owner: Some(nodes[0].id()),
        standby: Some(nodes[1].id()),
    };
    let follower = &nodes[(leader + 1) % 3];
    let Ok(Outcome::Done { revision: epoch }) = follower.propose("", assign) else { panic!("not assigned") };
    let confirm = |epoch, owner: &Node| {
        let writer = WriterId("c0".to_owned());
        follower.run(follower.handle.confirm_assignment(&writer, Epoch(epoch), owner.id())).unwrap()
    };
    assert!(confirm(epoch, &nodes[0]));
    assert!(!confirm(epoch, &nodes[1]) && !confirm(epoch + 1, &nodes[0]));
}

#[test]
fn a_killed_leader_is_replaced_and_nothing_acknowledged_is_lost() {
    let root = tempfile::tempdir().unwrap();
    let places = places(&root, &["n1", "n2", "n3"]);
    let mut nodes = start_all(&places);
    for round in 0..3 {
        let name = format!("c{round}");
        let dead = leader(&nodes);
        let term = nodes[dead].status().term;
        nodes[dead].create(&name);
        nodes.remove(dead).kill();
        let killed = Instant::now();
        // Through a survivor, whoever leads by then.
        nodes[0].create(&format!("after-{name}"));
        println!("round {round}: a command was acknowledged {:?} after the leader was killed", killed.elapsed());
        assert!(nodes.iter().all(|n| has(n, &name)), "an acknowledged command is gone");
        assert!(nodes[leader(&nodes)].status().term > term);
        nodes.insert(dead, places[dead].start());
        assert!(has(&nodes[dead], &format!("after-{name}")));
    }
}

#[test]
fn a_stopped_cluster_comes_back_with_its_state_and_identities() {
    let root = tempfile::tempdir().unwrap();
    let places = places(&root, &["n1", "n2", "n3"]);
    let nodes = start_all(&places);
    nodes[0].create("kept");
    let before: Vec<_> = nodes.iter().map(|n| (n.id(), n.status().cluster_id)).collect();
    nodes.into_iter().for_each(Node::stop);
    let nodes = start_all(&places);
    let after: Vec<_> = nodes.iter().map(|n| (n.id(), n.status().cluster_id)).collect();
    assert_eq!(before, after);
    assert!(nodes.iter().all(|n| has(n, "kept")));
}

#[test]
fn a_repeated_request_has_one_effect_across_a_change_of_leader() {
    let root = tempfile::tempdir().unwrap();
    let mut nodes = start_all(&places(&root, &["n1", "n2", "n3"]));
    let first = nodes[0].propose("request-1", create("c")).unwrap();
    let dead = leader(&nodes);
    nodes.remove(dead).kill();
    let second = nodes[0].propose("request-1", create("c")).unwrap();
    assert_eq!(first, second, "the repeat was executed: it would answer AlreadyExists");
    let restart = || Command::Restart { name: "c".to_owned(), rolls: false };
    let first = nodes[0].propose("request-2", restart()).unwrap();
    assert_eq!(nodes[1].propose("request-2", restart()).unwrap(), first);
    let state = nodes[1].run(nodes[1].handle.read()).unwrap();
    assert_eq!(Outcome::Done { revision: state.connectors()["c"].revision }, first, "it was done twice");
}

#[test]
fn without_a_majority_every_call_ends_and_says_so() {
    let root = tempfile::tempdir().unwrap();
    let mut places = places(&root, &["n1", "n2", "n3"]);
    for place in &mut places {
        place.options.propose_timeout_ms = 1_500;
        place.options.read_timeout_ms = 1_500;
    }
    let mut nodes = start_all(&places);
    let dead = (leader(&nodes) + 1) % 3;
    nodes.remove(dead).kill();
    let dead = (leader(&nodes) + 1) % 2;
    nodes.remove(dead).kill();
    let last = &nodes[0];
    let refused = last.propose("request-3", create("c"));
    assert!(matches!(&refused, Err(Error::NoLeader { .. } | Error::Unknown { .. })), "{refused:?}");
    let read = last.run(last.handle.read());
    assert!(matches!(&read, Err(Error::NoLeader { .. })), "{read:?}");
}

#[test]
fn a_leader_without_a_majority_knows_no_leader_until_it_is_back() {
    let root = tempfile::tempdir().unwrap();
    let places = places(&root, &["n1", "n2", "n3"]);
    let mut nodes = start_all(&places);
    let alone = leader(&nodes);
    let leader = nodes.remove(alone);
    leader.await_status("it leads", |status| status.leader == Some(leader.id()));
    nodes.into_iter().for_each(Node::kill);
    leader.await_status("nobody follows", |status| status.leader.is_none());
    let others: Vec<Node> =
        places.iter().enumerate().filter(|(i, _)| *i != alone).map(|(_, place)| place.start()).collect();
    let all = [&leader].into_iter().chain(&others);
    for node in all {
        node.await_status("a leader", |status| status.leader.is_some());
    }
}

#[test]
fn a_node_that_was_away_for_long_catches_up_from_a_snapshot() {
    let root = tempfile::tempdir().unwrap();
    let places = places(&root, &["n1", "n2", "n3"]);
    let mut nodes = start_all(&places);
    let away = (leader(&nodes) + 1) % 3;
    nodes.remove(away).kill();
    // Beyond the snapshot and the log kept behind it: entries alone can no longer bring the node up to date.
    for i in 0..350 {
        nodes[0].create(&format!("c{i}"));
    }
    let back = places[away].start();
    back.await_state("the snapshot arrives", |s| s.connectors().len() == 350);
    assert!(root.path().join(["n1", "n2", "n3"][away]).join("raft/snapshot").exists());
    let id = back.id();
    back.kill();
    let back = places[away].start();
    assert_eq!(back.id(), id);
    assert!(has(&back, "c349"));
}

#[test]
fn a_node_alone_is_a_cluster_and_survives_a_kill() {
    let root = tempfile::tempdir().unwrap();
    let place = Place::new(&root, "n1");
    let node = start_all(std::slice::from_ref(&place)).remove(0);
    node.create("c");
    node.kill();
    let node = place.start();
    assert!(has(&node, "c"));
}
