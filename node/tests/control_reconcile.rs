//! Desired against running roles: applying the difference leaves no difference.

use std::collections::BTreeMap;

use proptest::{collection::vec, option, prelude::*};
use twinfeed_node::{
    control::{RoleChange, RoleSpec, State, diff},
    model::{
        command::{Command, Proposal},
        connector::Line,
        connector::{Config, NodeRecord, TargetState},
        ids::{Epoch, WriterId},
        report::Role,
    },
};

fn run(state: &mut State, index: u64, command: Command) {
    state.apply(index, &Proposal { request_id: String::new(), asked: 0, proposed_at_ms: 0, command });
}

fn assign(state: &mut State, index: u64, name: &str, owner: Option<u64>, standby: Option<u64>) {
    let writer = WriterId(name.to_owned());
    let current = state.writers().get(&writer).and_then(|w| w.assignment.clone());
    let expected_epoch = current.as_ref().map_or(Epoch(0), |a| a.epoch);
    let expected_standby = current.and_then(|a| a.standby);
    run(state, index, Command::Assign { writer, expected_epoch, expected_standby, owner, standby });
}

fn create(state: &mut State, index: u64, name: &str) {
    let (name, config) = (name.to_owned(), Config::new());
    run(state, index, Command::CreateConnector { name, config, target: TargetState::Running });
}

/// Nodes 1 to 3, and connectors `a` to `c` in one of the shapes that the commands can produce.
fn state() -> impl Strategy<Value = State> {
    let target = prop_oneof![3 => Just(TargetState::Running), 1 => Just(TargetState::Paused)];
    vec((option::of(1..4u64), option::of(1..4u64), target, any::<(bool, bool)>()), 0..4).prop_map(|writers| {
        let mut state = State::default();
        for id in 1..4 {
            run(
                &mut state,
                id,
                Command::PutNode { node: NodeRecord { id, name: id.to_string(), ..Default::default() } },
            );
        }
        for (i, (owner, standby, target, (restart, rolls))) in writers.into_iter().enumerate() {
            let (name, index) = (["a", "b", "c", "d"][i], 10 * i as u64 + 10);
            create(&mut state, index, name);
            assign(&mut state, index + 1, name, owner, standby.filter(|s| owner.is_some() && Some(*s) != owner));
            run(&mut state, index + 2, Command::SetTarget { name: name.to_owned(), target });
            if restart {
                run(&mut state, index + 3, Command::Restart { name: name.to_owned(), rolls });
            }
        }
        state
    })
}

fn follow(running: &mut BTreeMap<WriterId, RoleSpec>, changes: Vec<RoleChange>) {
    for change in changes {
        match change {
            RoleChange::Start { writer, to } => assert_eq!(running.insert(writer, to), None),
            RoleChange::Change { writer, from, to } => assert_eq!(running.insert(writer, to), Some(from)),
            RoleChange::Stop { writer, from } => assert_eq!(running.remove(&writer), Some(from)),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn following_the_difference_leaves_none(before in state(), after in state(), me in 1..4u64) {
        let mut running = BTreeMap::new();
        for state in [&before, &after] {
            let changes = diff(state, me, &running);
            follow(&mut running, changes);
            prop_assert_eq!(diff(state, me, &running), vec![]);
        }
    }
}

#[test]
fn a_new_epoch_a_new_peer_and_a_restart_are_changes_and_a_pause_stops() {
    let mut state = State::default();
    for id in 1..4 {
        run(&mut state, id, Command::PutNode { node: NodeRecord { id, name: id.to_string(), ..Default::default() } });
    }
    create(&mut state, 4, "a");
    assign(&mut state, 5, "a", Some(1), Some(2));
    let mut running = BTreeMap::new();
    let changes = diff(&state, 2, &running);
    follow(&mut running, changes);
    let writer = WriterId("a".to_owned());
    let standby = RoleSpec {
        role: Role::Standby,
        epoch: Epoch(5),
        peer: Some(1),
        line: Line::Secondary,
        reopened: BTreeMap::from([("a".to_owned(), 4)]),
        revision: 4,
    };
    assert_eq!(running[&writer], standby);

    assign(&mut state, 6, "a", Some(2), Some(3));
    let owner = RoleSpec { role: Role::Owner, epoch: Epoch(6), peer: Some(3), ..standby.clone() };
    let promoted = RoleChange::Change { writer: writer.clone(), from: standby, to: owner.clone() };
    assert_eq!(diff(&state, 2, &running), vec![promoted.clone()]);
    follow(&mut running, vec![promoted]);

    run(&mut state, 7, Command::Restart { name: "a".to_owned(), rolls: false });
    assert!(matches!(diff(&state, 2, &running)[..], [RoleChange::Change { .. }]));
    run(&mut state, 8, Command::SetTarget { name: "a".to_owned(), target: TargetState::Paused });
    assert_eq!(diff(&state, 2, &running), vec![RoleChange::Stop { writer, from: owner }]);
}

/// Node 1 owns connector `a` since log index 5, node 2 stands by.
fn pair() -> State {
    let mut state = State::default();
    for id in 1..4 {
        run(&mut state, id, Command::PutNode { node: NodeRecord { id, name: id.to_string(), ..Default::default() } });
    }
    create(&mut state, 4, "a");
    assign(&mut state, 5, "a", Some(1), Some(2));
    state
}

fn running(state: &State, me: u64) -> BTreeMap<WriterId, RoleSpec> {
    let mut running = BTreeMap::new();
    let changes = diff(state, me, &running);
    follow(&mut running, changes);
    running
}

fn configure(state: &mut State, index: u64, rolls_from: u64) {
    let (name, config) = ("a".to_owned(), Config::from([("k".to_owned(), index.to_string())]));
    run(state, index, Command::UpdateConnector { name, config, expected_revision: 0, rolls_from });
}

/// What a node does about its one writer: nothing, or from where to where, and whether it begins anew.
fn change(state: &State, me: u64, before: &BTreeMap<WriterId, RoleSpec>) -> Option<(RoleSpec, bool)> {
    match diff(state, me, before).pop() {
        Some(RoleChange::Change { from, to, .. }) => Some((to.clone(), from.begins_anew(&to))),
        None => None,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_new_configuration_reaches_the_standby_first_and_interrupts_no_owner() {
    let mut state = pair();
    let (owner, standby) = (running(&state, 1), running(&state, 2));
    configure(&mut state, 6, 4);
    assert_eq!(change(&state, 1, &owner), None, "the owner goes on");
    let (newer, anew) = change(&state, 2, &standby).unwrap();
    assert!(anew && newer.revision == 6 && newer.role == Role::Standby);

    // They change places: the new owner goes on as it is, the old one takes over the configuration.
    assign(&mut state, 7, "a", Some(2), Some(1));
    let newer = BTreeMap::from([(WriterId("a".to_owned()), newer)]);
    let (promoted, anew) = change(&state, 2, &newer).unwrap();
    assert!(!anew && promoted.role == Role::Owner && promoted.revision == 6);
    let (deposed, anew) = change(&state, 1, &owner).unwrap();
    assert!(anew && deposed.role == Role::Standby && deposed.revision == 6);
}

#[test]
fn a_restart_of_a_pair_rolls_unless_it_is_forced() {
    let mut state = pair();
    let (owner, standby) = (running(&state, 1), running(&state, 2));
    run(&mut state, 6, Command::Restart { name: "a".to_owned(), rolls: true });
    let connector = &state.connectors()["a"];
    assert!(connector.revision == 6 && connector.configured == 4, "{connector:?}");
    assert_eq!(change(&state, 1, &owner), None, "the owner goes on");
    assert!(change(&state, 2, &standby).is_some_and(|(to, anew)| anew && to.epoch == Epoch(5)));
    run(&mut state, 7, Command::Restart { name: "a".to_owned(), rolls: false });
    for (me, before) in [(1, owner), (2, standby)] {
        assert!(change(&state, me, &before).is_some_and(|(to, anew)| anew && to.epoch == Epoch(7)));
    }
}

#[test]
fn a_standby_that_is_promoted_keeps_what_it_holds_whatever_has_been_configured_meanwhile() {
    let mut state = pair();
    let standby = running(&state, 2);
    configure(&mut state, 6, 4);
    assign(&mut state, 7, "a", Some(2), Some(3));
    let (promoted, anew) = change(&state, 2, &standby).unwrap();
    assert!(!anew && promoted.role == Role::Owner && promoted.revision == 4, "{promoted:?}");
    // And an owner that the coordinator gives a new epoch takes it over in place.
    let promoted = BTreeMap::from([(WriterId("a".to_owned()), promoted)]);
    run(&mut state, 8, Command::NewEpoch { writer: WriterId("a".to_owned()), expected_epoch: Epoch(7) });
    let (reopened, anew) = change(&state, 2, &promoted).unwrap();
    assert!(anew && reopened.revision == 6);
}

#[test]
fn a_change_that_cannot_roll_reopens_both_at_once() {
    for rolls_from in [0, 3] {
        let mut state = pair();
        let (owner, standby) = (running(&state, 1), running(&state, 2));
        configure(&mut state, 6, rolls_from);
        for (me, before) in [(1, owner), (2, standby)] {
            let (to, anew) = change(&state, me, &before).unwrap();
            assert!(anew && to.epoch == Epoch(6) && to.revision == 6, "judged from revision {rolls_from}");
        }
    }
    let mut alone = pair();
    assign(&mut alone, 6, "a", Some(1), None);
    let owner = running(&alone, 1);
    configure(&mut alone, 7, 4);
    assert!(change(&alone, 1, &owner).is_some_and(|(to, anew)| anew && to.epoch == Epoch(7)), "nobody else delivers");
}
