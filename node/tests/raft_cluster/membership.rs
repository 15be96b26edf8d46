//! Who may belong to a cluster: joining, wiped disks, taken names, removed ids, wrong clusters, moved addresses.

use std::{fs, net::TcpListener, os::unix::fs::PermissionsExt};

use super::support::{Node, Place, await_members, leader, places, start_all};
use tonic::Code;
use twinfeed_node::{
    model::command::Outcome,
    raft::{Error, Probed},
};
use twinfeed_proto::internal::{
    Envelope, ForwardRequest, JoinRequest, RaftRequest, membership_service_client::MembershipServiceClient,
    raft_service_client::RaftServiceClient,
};

/// A deadline that nothing here reaches.
const LONG_MS: u64 = 10_000;

fn newcomer(root: &tempfile::TempDir, name: &str, members: &[Place]) -> Place {
    let mut place = Place::new(root, name);
    place.options.initial_members = members.iter().map(Place::member).collect();
    place
}

/// What a leader answers to this node's request to join.
fn join_answer(place: &Place, node: &Node, cluster: &str, id: u64) -> tonic::Status {
    let json = format!(
        r#"{{"id":{id},"name":"{}","internal_address":"{}","admin_address":"","zone":"","draining":false,"cluster_name":"test"}}"#,
        place.options.name, place.options.internal_address
    );
    let request = JoinRequest { cluster_id: cluster.to_owned(), node: json.into_bytes().into() };
    node.run(async {
        let channel = node.handle.peers().channel(&format!("127.0.0.1:{}", port(node))).unwrap();
        MembershipServiceClient::new(channel).join(request).await.expect_err("refused")
    })
}

fn port(node: &Node) -> String {
    let state = node.handle.state().borrow().clone();
    state.nodes()[&node.id()].internal_address.rsplit(':').next().unwrap().to_owned()
}

#[test]
fn a_fourth_node_joins_and_votes() {
    let root = tempfile::tempdir().unwrap();
    let places = places(&root, &["n1", "n2", "n3"]);
    let mut nodes = start_all(&places);
    nodes[0].create("c");
    nodes.push(newcomer(&root, "n4", &places[..1]).start());
    await_members(&nodes, 4);
    assert!(nodes[3].run(nodes[3].handle.read()).unwrap().connectors().contains_key("c"));
}

#[test]
fn a_wiped_node_gets_a_new_id_and_joins_only_after_the_old_one_was_removed() {
    let root = tempfile::tempdir().unwrap();
    let places = places(&root, &["n1", "n2", "n3"]);
    let mut nodes = start_all(&places);
    let wiped = (leader(&nodes) + 1) % 3;
    let old_id = nodes[wiped].id();
    nodes.remove(wiped).kill();
    fs::remove_dir_all(&places[wiped].options.data_dir).unwrap();

    let back = places[wiped].start();
    assert_ne!(back.id(), old_id);
    let cluster = nodes[0].status().cluster_id;
    let refusal = join_answer(&places[wiped], &nodes[leader(&nodes)], &cluster.0, back.id());
    let name = &places[wiped].options.name;
    assert_eq!(refusal.code(), Code::FailedPrecondition);
    assert!(refusal.message().contains(&format!("wsctl node remove {name}")), "{refusal}");
    assert!(!nodes[0].status().voters.contains(&back.id()));

    let removed = nodes[0].run(nodes[0].handle.remove_node(old_id)).unwrap();
    assert!(matches!(removed, Outcome::Done { .. }), "{removed:?}");
    nodes.insert(wiped, back);
    await_members(&nodes, 3);
    assert!(nodes.iter().all(|n| !n.status().voters.contains(&old_id)));
}

#[test]
fn a_second_node_of_the_same_name_is_refused_while_the_first_lives() {
    let root = tempfile::tempdir().unwrap();
    let places = places(&root, &["n1", "n2", "n3"]);
    let nodes = start_all(&places);
    let twin = newcomer(&tempfile::tempdir_in(root.path()).unwrap(), "n2", &places);
    let cluster = nodes[0].status().cluster_id;
    let refusal = join_answer(&twin, &nodes[leader(&nodes)], &cluster.0, 99);
    assert_eq!(refusal.code(), Code::AlreadyExists);
    assert!(refusal.message().contains("`n2` is taken"), "{refusal}");
}

#[test]
fn a_probe_tells_a_process_that_is_gone_from_a_silent_one() {
    let root = tempfile::tempdir().unwrap();
    let places = places(&root, &["n1", "n2", "n3"]);
    let mut nodes = start_all(&places);
    let (asking, asked) = (nodes.remove(0), nodes.remove(0));
    let probe =
        |id: u64, address: &str, deadline_ms: u64| asking.run(asking.handle.peers().probe(id, address, deadline_ms));
    let (id, address) = (asked.id(), places[1].options.internal_address.as_str());
    assert_eq!(probe(id, address, LONG_MS), Probed::Alive);
    assert_eq!(probe(id ^ 1, address, LONG_MS), Probed::Refused, "another node lives there");
    // It accepts connections as the kernel does for a frozen process, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    assert_eq!(probe(id, &silent.local_addr().unwrap().to_string(), 50), Probed::Unanswered);
    asked.kill();
    assert_eq!(probe(id, address, LONG_MS), Probed::Refused);
    // It dies with the question: the broken connection alone proves nothing, the next one is refused.
    let dying = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = dying.local_addr().unwrap().to_string();
    let death = std::thread::spawn(move || {
        let connection = dying.accept().unwrap();
        drop(dying);
        drop(connection);
    });
    assert_eq!(probe(id, &address, LONG_MS), Probed::Refused);
    death.join().unwrap();
}

#[test]
fn a_removed_node_is_no_longer_heard_and_its_id_never_returns() {
    let root = tempfile::tempdir().unwrap();
    let places = places(&root, &["n1", "n2", "n3"]);
    let mut nodes = start_all(&places);
    let leading = leader(&nodes);
    let refused = nodes[(leading + 1) % 3].run(nodes[leading].handle.remove_node(nodes[leading].id())).unwrap();
    assert!(matches!(&refused, Outcome::Refused { why } if why.contains("stop it first")), "{refused:?}");

    let gone = nodes.remove((leading + 1) % 3);
    let done = nodes[0].run(nodes[0].handle.remove_node(gone.id())).unwrap();
    assert!(matches!(done, Outcome::Done { .. }));
    let state = nodes[0].run(nodes[0].handle.read()).unwrap();
    assert!(state.is_removed(gone.id()) && state.nodes().len() == 2);
    // It still runs and still believes in its old membership; what it sends is refused.
    let status = vote_from(gone.id(), &nodes[0], &nodes[0].status().cluster_id.0);
    assert!(status.message().contains("was removed"), "{status}");
    nodes[1].create("c");
}

fn vote_from(from_node: u64, to: &Node, cluster: &str) -> tonic::Status {
    let envelope = Envelope { cluster_id: cluster.to_owned(), to_node: to.id(), from_node };
    let request = RaftRequest { envelope: Some(envelope), body: b"{}".to_vec().into() };
    to.run(async {
        let channel = to.handle.peers().channel(&format!("127.0.0.1:{}", port(to))).unwrap();
        RaftServiceClient::new(channel).vote(request).await.expect_err("refused")
    })
}

#[test]
fn messages_of_another_cluster_or_for_another_node_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let node = start_all(&[Place::new(&root, "n1")]).remove(0);
    let cluster = node.status().cluster_id.0;
    let ask = |cluster: &str, to_node: u64| {
        let envelope = Some(Envelope { cluster_id: cluster.to_owned(), to_node, from_node: 5 });
        let request = ForwardRequest { envelope, body: br#""ReadIndex""#.to_vec().into() };
        node.run(async {
            let channel = node.handle.peers().channel(&format!("127.0.0.1:{}", port(&node))).unwrap();
            MembershipServiceClient::new(channel).forward(request).await.map(drop)
        })
    };
    ask(&cluster, node.id()).expect("the right cluster and node are answered");
    for (cluster, to_node) in [("other", node.id()), ("", node.id()), (cluster.as_str(), node.id() ^ 1)] {
        assert_eq!(ask(cluster, to_node).expect_err("refused").code(), Code::FailedPrecondition);
    }
    assert_eq!(vote_from(5, &node, "other").code(), Code::FailedPrecondition);
}

#[test]
fn two_clusters_that_list_each_other_stay_two() {
    let root = tempfile::tempdir().unwrap();
    let mut one = Place::new(&root, "a");
    let mut other = Place::new(&root, "b");
    let (first, second) = (start_all(&[one.clone()]).remove(0), start_all(&[other.clone()]).remove(0));
    let ids = (first.status().cluster_id, second.status().cluster_id);
    assert_ne!(ids.0, ids.1);
    first.kill();
    second.kill();
    let members = vec![one.member(), other.member()];
    one.options.initial_members.clone_from(&members);
    other.options.initial_members = members;
    let nodes = [one.start(), other.start()];
    for (node, id) in nodes.iter().zip([ids.0, ids.1]) {
        let status = node.await_status("it leads itself again", |s| s.is_leader);
        assert_eq!((status.cluster_id, status.voters.len()), (id, 1));
    }
}

#[test]
fn a_data_directory_serves_one_process_one_name_and_one_cluster() {
    let root = tempfile::tempdir().unwrap();
    let place = Place::new(&root, "n1");
    let node = start_all(std::slice::from_ref(&place)).remove(0);
    let refusal = |place: &Place| match place.try_start() {
        Err(e @ Error::Refused { .. }) => e.to_string(),
        Err(e) => panic!("another error: {e}"),
        Ok(_) => panic!("not refused"),
    };
    assert!(refusal(&place).contains("in use by another process"));
    let mode = fs::metadata(place.options.data_dir.join("identity.json")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    node.stop();

    let mut renamed = place.clone();
    renamed.options.name = "n2".to_owned();
    assert!(refusal(&renamed).contains("belongs to node `n1`"));
    let mut elsewhere = place.clone();
    elsewhere.options.cluster_name = "production".to_owned();
    assert!(refusal(&elsewhere).contains("belongs to cluster `test`"));

    fs::remove_file(place.options.data_dir.join("identity.json")).unwrap();
    let Err(error) = place.try_start() else { panic!("a log without identity was accepted") };
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
}

#[test]
fn nodes_that_move_one_after_the_other_find_each_other_again() {
    let root = tempfile::tempdir().unwrap();
    let places = places(&root, &["n1", "n2", "n3"]);
    let mut nodes = start_all(&places);
    // In the end no address is left under which a node once joined.
    for moving in 0..3 {
        nodes.remove(moving).kill();
        let place = places[moving].clone().moved();
        nodes.insert(moving, place.start());
        for node in &nodes {
            node.await_state("the new address is known", |s| {
                s.nodes()[&nodes[moving].id()].internal_address == place.options.internal_address
            });
        }
    }
    leader(&nodes);
    for (i, node) in nodes.iter().enumerate() {
        node.create(&format!("c{i}"));
    }
}

#[test]
fn a_founder_that_crashed_half_way_goes_on_with_the_same_cluster() {
    let root = tempfile::tempdir().unwrap();
    let places = places(&root, &["n1", "n2", "n3"]);
    // The founder has made the id and one of two members has adopted it; Raft has not been initialised.
    for (place, id, founder) in [(&places[0], 11, true), (&places[1], 12, false)] {
        fs::create_dir_all(&place.options.data_dir).unwrap();
        let identity = format!(
            r#"{{"version":1,"node_id":{id},"name":"{}","cluster_id":"half-made","cluster_name":"test","founder":{founder},"log_created":false}}"#,
            place.options.name
        );
        fs::write(place.options.data_dir.join("identity.json"), identity).unwrap();
    }
    let nodes = start_all(&places);
    assert!(nodes.iter().all(|n| n.status().cluster_id.0 == "half-made"));
    assert_eq!((nodes[0].id(), nodes[1].id()), (11, 12));
}
