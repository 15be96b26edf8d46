//! The cluster state under any sequence of commands: total, deterministic, bounded, one effect per request id.

use std::collections::BTreeSet;

use proptest::{collection::vec, option, prelude::*};
use twinfeed_node::{
    control::State,
    model::{
        command::{Command, Outcome, Proposal, asked},
        connector::{Assignment, Config, Connector, Line, NodeRecord, TargetState},
        ids::{ClusterId, Epoch, WriterId},
    },
};

fn node_id() -> impl Strategy<Value = u64> {
    prop_oneof![19 => 1..4u64, 1 => any::<u64>()]
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![20 => "[ab]", 1 => Just(String::new()), 1 => any::<String>(), 1 => Just("x".repeat(256))]
}

fn config() -> impl Strategy<Value = Config> {
    let small = proptest::collection::btree_map(any::<String>(), any::<String>(), 0..3).prop_map(Config::from);
    prop_oneof![9 => small, 1 => Just(Config::from([("big".to_owned(), "x".repeat(256 * 1024))]))]
}

fn target() -> impl Strategy<Value = TargetState> {
    prop_oneof![Just(TargetState::Running), Just(TargetState::Paused), Just(TargetState::Stopped)]
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![6 => 0..40u64, 1 => any::<u64>()]
}

fn command() -> impl Strategy<Value = Command> {
    let writer = || name().prop_map(WriterId);
    let record = (node_id(), name(), name(), any::<bool>()).prop_map(|(id, name, zone, draining)| NodeRecord {
        id,
        name,
        zone,
        draining,
        ..NodeRecord::default()
    });
    prop_oneof![
        1 => (name(), name()).prop_map(|(id, name)| Command::InitCluster { id: ClusterId(id), name }),
        4 => record.prop_map(|node| Command::PutNode { node }),
        1 => node_id().prop_map(|id| Command::RemoveNode { id }),
        1 => (node_id(), any::<bool>()).prop_map(|(id, draining)| Command::SetDraining { id, draining }),
        3 => (name(), config(), target()).prop_map(|(name, config, target)| Command::CreateConnector { name, config, target }),
        1 => (name(), config(), (number(), number()))
            .prop_map(|(name, config, (expected_revision, rolls_from))| Command::UpdateConnector {
                name, config, expected_revision, rolls_from
            }),
        1 => (name(), number()).prop_map(|(name, expected_revision)| Command::DeleteConnector { name, expected_revision }),
        1 => (name(), target()).prop_map(|(name, target)| Command::SetTarget { name, target }),
        1 => (name(), any::<bool>()).prop_map(|(name, rolls)| Command::Restart { name, rolls }),
        2 => (writer(), number()).prop_map(|(writer, epoch)| Command::NewEpoch { writer, expected_epoch: Epoch(epoch) }),
        1 => (writer(), option::of(node_id())).prop_map(|(writer, node)| Command::WantOwner { writer, node }),
        6 => (writer(), number(), option::of(node_id()), option::of(node_id()), option::of(node_id())).prop_map(
            |(writer, epoch, expected_standby, owner, standby)| Command::Assign {
                writer,
                expected_epoch: Epoch(epoch),
                expected_standby,
                owner,
                standby,
            }
        ),
    ]
}

fn proposal() -> impl Strategy<Value = Proposal> {
    (prop_oneof!["[abcd]{0,2}", any::<String>()], any::<u64>(), command()).prop_map(
        |(request_id, proposed_at_ms, command)| Proposal {
            asked: asked(&command),
            request_id,
            proposed_at_ms,
            command,
        },
    )
}

/// Fills in what a well-behaved coordinator would expect, so that assignments get through often.
fn informed(state: &State, mut proposal: Proposal) -> Proposal {
    if let Command::Assign { writer, expected_epoch, expected_standby, .. } = &mut proposal.command
        && expected_epoch.0 % 4 != 0
    {
        let current = state.writers().get(writer).and_then(|w| w.assignment.as_ref());
        *expected_epoch = current.map_or(Epoch(0), |a| a.epoch);
        *expected_standby = current.and_then(|a| a.standby);
    }
    if let Command::NewEpoch { writer, expected_epoch } = &mut proposal.command
        && expected_epoch.0 % 4 != 0
    {
        let current = state.writers().get(writer).and_then(|w| w.assignment.as_ref());
        *expected_epoch = current.map_or(Epoch(0), |a| a.epoch);
    }
    proposal
}

fn check_invariants(state: &State) {
    let names: BTreeSet<_> = state.nodes().values().map(|n| &n.name).collect();
    assert_eq!(names.len(), state.nodes().len(), "two nodes share a name");
    assert!(!state.nodes().keys().any(|id| state.is_removed(*id)), "a removed id is back");
    for (id, writer) in state.writers() {
        assert!(!writer.connectors.is_empty(), "writer {id} writes nothing");
        assert!(writer.connectors.iter().all(|name| state.connectors()[name].writer == *id));
        let nodes = writer.assignment.iter().flat_map(|a| [Some(a.owner), a.standby]).chain([writer.wanted_owner]);
        assert!(nodes.flatten().all(|id| state.nodes().contains_key(&id)), "writer {id} names a stranger");
        assert!(writer.assignment.as_ref().is_none_or(|a| a.standby != Some(a.owner)));
    }
    assert!(state.connectors().values().all(|c| state.writers().contains_key(&c.writer)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_commands_keep_the_state_sound_and_replicas_equal(proposals in vec(proposal(), 0..60)) {
        let (mut one, mut other) = (peopled(), peopled());
        for (index, proposal) in proposals.into_iter().enumerate() {
            let proposal = informed(&one, proposal);
            let index = index as u64 + 100;
            let before = one.clone();
            let outcome = one.apply(index, &proposal);
            prop_assert_eq!(&other.apply(index, &proposal), &outcome);
            check_invariants(&one);
            check_epochs(&before, &one, index, &proposal.command);
            // A replica that was restored from a snapshot at any point goes on equal.
            other = State::from_json(&one.to_json()).expect("own bytes decode");
            prop_assert_eq!(&other, &one);
        }
    }

    #[test]
    fn a_repeated_request_has_one_effect_and_the_first_outcome(
        proposals in vec(proposal(), 1..20), repeat in any::<prop::sample::Index>()
    ) {
        let mut state = State::default();
        let outcomes: Vec<_> = proposals.iter().enumerate().map(|(i, p)| state.apply(i as u64 + 1, p)).collect();
        let chosen = repeat.index(proposals.len());
        let repeated = &proposals[chosen];
        if repeated.request_id.is_empty() || repeated.request_id.len() > 128 {
            return Ok(());
        }
        // The first use of the id counts; with anything else the id is refused.
        let first = proposals.iter().position(|p| p.request_id == repeated.request_id).expect("it is among them");
        let before = state.clone();
        let outcome = state.apply(1_000, repeated);
        if proposals[first].command == repeated.command {
            prop_assert_eq!(&outcome, &outcomes[first]);
        } else {
            let request_id = repeated.request_id.clone();
            prop_assert_eq!(outcome, Outcome::RequestReused { request_id });
        }
        prop_assert_eq!(state, before);
    }

    #[test]
    fn any_bytes_are_refused_or_decoded_without_panic(bytes in vec(any::<u8>(), 0..200)) {
        let _ = State::from_json(&bytes);
    }
}

/// Three nodes and a connector, so that random commands find something to change.
fn peopled() -> State {
    let mut state = State::default();
    for id in 1..=3 {
        run(&mut state, id, node(id, &format!("n{id}")));
    }
    let (name, config) = ("a".to_owned(), Config::new());
    run(&mut state, 4, Command::CreateConnector { name, config, target: TargetState::Running });
    state
}

fn check_epochs(before: &State, after: &State, index: u64, command: &Command) {
    for (id, writer) in after.writers() {
        let old = before.writers().get(id).and_then(|w| w.assignment.as_ref());
        let Some(new) = writer.assignment.as_ref() else { continue };
        let any =
            |at: fn(&Connector) -> u64| writer.connectors.iter().any(|name| at(&after.connectors()[name]) == index);
        let (changed, reopened) = (any(|c| c.revision), any(|c| c.reopened));
        let may_roll = match command {
            Command::Restart { rolls, .. } => *rolls,
            Command::UpdateConnector { name, rolls_from, .. } => {
                before.connectors().get(name).is_some_and(|c| c.revision == *rolls_from)
            }
            _ => false,
        };
        let asked = matches!(command, Command::NewEpoch { writer, .. } if writer == id);
        match old {
            Some(old) if old.owner == new.owner && old.epoch == new.epoch => {
                assert!(!reopened && (may_roll || !changed), "what opens anew needs a new epoch");
            }
            Some(old) if old.owner == new.owner => {
                assert!(reopened || asked, "a kept owner lost its epoch for nothing")
            }
            _ => {}
        }
        let kept = old.is_some_and(|old| old.owner == new.owner && old.epoch == new.epoch);
        assert!(kept || new.epoch == Epoch(index), "a new epoch is the index of its entry");
    }
}

fn run(state: &mut State, index: u64, command: Command) -> Outcome {
    state.apply(index, &Proposal { request_id: String::new(), asked: 0, proposed_at_ms: 7, command })
}

fn node(id: u64, name: &str) -> Command {
    Command::PutNode { node: NodeRecord { id, name: name.to_owned(), ..NodeRecord::default() } }
}

fn assign(expected: (u64, Option<u64>), owner: u64, standby: Option<u64>) -> Command {
    Command::Assign {
        writer: WriterId("c".to_owned()),
        expected_epoch: Epoch(expected.0),
        expected_standby: expected.1,
        owner: Some(owner),
        standby,
    }
}

/// Nodes 1, 2, 3 and connector `c`, owned by 1 with standby 2 at epoch 5.
fn assigned() -> State {
    let mut state = State::default();
    for id in 1..=3 {
        run(&mut state, id, node(id, &format!("n{id}")));
    }
    let create = Command::CreateConnector { name: "c".to_owned(), config: Config::new(), target: TargetState::Running };
    assert_eq!(run(&mut state, 4, create), Outcome::Done { revision: 4 });
    assert_eq!(run(&mut state, 5, assign((0, None), 1, Some(2))), Outcome::Done { revision: 5 });
    state
}

fn assignment(state: &State) -> Option<Assignment> {
    state.writers()[&WriterId("c".to_owned())].assignment.clone()
}

#[test]
fn a_decision_that_rests_on_an_old_epoch_or_standby_is_refused() {
    let mut state = assigned();
    assert_eq!(run(&mut state, 6, assign((4, Some(2)), 2, None)), Outcome::Conflict { expected: 4, actual: 5 });
    assert_eq!(run(&mut state, 7, assign((5, Some(2)), 1, Some(3))), Outcome::Done { revision: 7 });
    // The epoch is still 5, but 2 is no longer the standby: promoting it would lose what only 3 holds.
    assert!(matches!(run(&mut state, 8, assign((5, Some(2)), 2, None)), Outcome::Refused { .. }));
    assert_eq!(
        assignment(&state),
        Some(Assignment { owner: 1, standby: Some(3), epoch: Epoch(5), owner_line: Line::Primary })
    );
}

#[test]
fn removing_the_owner_promotes_the_standby_at_a_new_epoch() {
    let mut state = assigned();
    run(&mut state, 9, Command::RemoveNode { id: 1 });
    assert_eq!(
        assignment(&state),
        Some(Assignment { owner: 2, standby: None, epoch: Epoch(9), owner_line: Line::Secondary })
    );
    assert!(matches!(run(&mut state, 10, node(1, "n1")), Outcome::Refused { .. }));
    assert_eq!(run(&mut state, 11, node(9, "n1")), Outcome::Done { revision: 11 });
}

#[test]
fn a_name_is_held_by_one_id_and_a_restart_keeps_the_drain_flag() {
    let mut state = assigned();
    assert_eq!(run(&mut state, 6, node(9, "n2")), Outcome::AlreadyExists { what: "node `n2`".to_owned() });
    run(&mut state, 7, Command::SetDraining { id: 2, draining: true });
    run(&mut state, 8, node(2, "n2"));
    assert!(state.nodes()[&2].draining);
}

#[test]
fn a_config_of_one_mebibyte_is_refused_with_its_bound() {
    let config = Config::from([("k".to_owned(), "x".repeat(1024 * 1024))]);
    let create = Command::CreateConnector { name: "big".to_owned(), config, target: TargetState::Running };
    let Outcome::Refused { why } = run(&mut State::default(), 1, create) else { panic!("not refused") };
    assert!(why.contains("1048577 bytes, the most is 262144"), "{why}");
}

#[test]
fn a_lost_update_is_refused_and_no_change_makes_no_revision() {
    let mut state = assigned();
    let update = |expected_revision| Command::UpdateConnector {
        name: "c".to_owned(),
        config: Config::from([("k".to_owned(), "v".to_owned())]),
        expected_revision,
        rolls_from: 0,
    };
    assert_eq!(run(&mut state, 6, update(4)), Outcome::Done { revision: 6 });
    assert_eq!(run(&mut state, 7, update(4)), Outcome::Conflict { expected: 4, actual: 6 });
    assert_eq!(run(&mut state, 7, update(6)), Outcome::Done { revision: 6 }, "it is so already");
    let running = Command::SetTarget { name: "c".to_owned(), target: TargetState::Running };
    assert_eq!(run(&mut state, 8, running), Outcome::Done { revision: 6 });
    let delete = Command::DeleteConnector { name: "c".to_owned(), expected_revision: 0 };
    assert_eq!(run(&mut state, 9, delete), Outcome::Done { revision: 9 });
    assert!(state.connectors().is_empty() && state.writers().is_empty());
}

/// A stream's id rests on it: the stream is the same through all changes, and another after a deletion.
#[test]
fn a_connector_remembers_its_creation_and_one_made_anew_has_its_own() {
    let created = |state: &State| state.connectors().get("c").map(|connector| connector.created);
    let mut state = assigned();
    let first = created(&state).expect("a connector");
    assert!(first > 0);
    let config = Config::from([("k".to_owned(), "v".to_owned())]);
    let update = Command::UpdateConnector { name: "c".to_owned(), config, expected_revision: 0, rolls_from: 0 };
    run(&mut state, 6, update);
    run(&mut state, 7, Command::SetTarget { name: "c".to_owned(), target: TargetState::Stopped });
    assert_eq!(created(&state), Some(first));
    run(&mut state, 8, Command::DeleteConnector { name: "c".to_owned(), expected_revision: 0 });
    let config = Config::new();
    run(&mut state, 9, Command::CreateConnector { name: "c".to_owned(), config, target: TargetState::Running });
    assert_eq!(created(&state), Some(9));
}

#[test]
fn a_newer_version_of_the_state_is_refused_by_name() {
    let error = State::from_json(br#"{"version": 2}"#).expect_err("too new");
    assert!(error.to_string().contains("version 2"), "{error}");
}
