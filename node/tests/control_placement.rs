//! Placement as properties over any facts, and one test per rule of the design.

use proptest::{collection::vec, option, prelude::*};
use twinfeed_node::{
    control::{Liveness, NodeFacts, Placement, WriterFacts, solve},
    model::{
        connector::{Assignment, Line, Redundancy},
        ids::{Epoch, WriterId},
    },
};

fn nodes() -> impl Strategy<Value = Vec<NodeFacts>> {
    let liveness = prop_oneof![3 => Just(Liveness::Up), 1 => Just(Liveness::Silent), 1 => Just(Liveness::Dead)];
    vec((prop_oneof!["", "a", "b"], liveness, prop::bool::weighted(0.2)), 0..5).prop_map(|facts| {
        let ids = 1u64..;
        ids.zip(facts).map(|(id, (zone, liveness, draining))| NodeFacts { id, zone, liveness, draining }).collect()
    })
}

fn writer() -> impl Strategy<Value = WriterFacts> {
    let assignment = (1..6u64, option::of(1..6u64)).prop_map(|(owner, standby)| Assignment {
        owner,
        standby: standby.filter(|s| *s != owner),
        epoch: Epoch(3),
        owner_line: Line::Primary,
    });
    let flags = (prop::bool::weighted(0.9), any::<[bool; 5]>());
    let said = (option::of(any::<bool>()), option::of(any::<bool>()));
    (option::of(assignment), option::of(1..6u64), said, flags).prop_map(
        |(
            assignment,
            wanted_owner,
            (owner_delivers, standby_holds),
            (running, [dual, redundant, outdated, standby_ready, hold]),
        )| {
            WriterFacts {
                id: WriterId(String::new()),
                running,
                redundancy: if dual { Redundancy::Dual } else { Redundancy::Single },
                // A wish that has come true is cleared.
                wanted_owner: wanted_owner.filter(|wanted| assignment.as_ref().is_none_or(|a| a.owner != *wanted)),
                assignment,
                redundant,
                standby_holds,
                outdated,
                owner_delivers,
                standby_ready,
                hold,
            }
        },
    )
}

fn writers() -> impl Strategy<Value = Vec<WriterFacts>> {
    vec(writer(), 0..8).prop_map(|mut writers| {
        for (i, writer) in writers.iter_mut().enumerate() {
            writer.id = WriterId(format!("w{i}"));
        }
        writers
    })
}

/// The facts after the answer took effect: what was reported of an owner or a standby speaks of these only.
fn in_effect(writers: &[WriterFacts], placements: &[Placement]) -> Vec<WriterFacts> {
    let zip = writers.iter().zip(placements);
    zip.map(|(writer, placement)| {
        let before = writer.assignment.as_ref();
        let same_owner = before.map(|a| a.owner) == placement.owner;
        let same = same_owner && before.and_then(|a| a.standby) == placement.standby;
        WriterFacts {
            assignment: placement.owner.map(|owner| Assignment {
                owner,
                standby: placement.standby,
                epoch: Epoch(9),
                owner_line: Line::Primary,
            }),
            wanted_owner: writer.wanted_owner.filter(|w| placement.owner != Some(*w)),
            owner_delivers: writer.owner_delivers.filter(|_| same_owner),
            redundant: writer.redundant && same,
            standby_holds: writer.standby_holds.filter(|_| same),
            outdated: writer.outdated && same,
            standby_ready: writer.standby_ready && same,
            ..writer.clone()
        }
    })
    .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn solving_twice_moves_nothing(nodes in nodes(), writers in writers()) {
        let once = solve(&nodes, &writers);
        let after = in_effect(&writers, &once);
        prop_assert_eq!(solve(&nodes, &after), once);
    }

    #[test]
    fn every_answer_obeys_the_rules(nodes in nodes(), writers in writers()) {
        let node = |id: u64| nodes.iter().find(|n| n.id == id);
        let liveness = |id: u64| node(id).map_or(Liveness::Dead, |n| n.liveness);
        let takes_work = |id: u64| node(id).is_some_and(|n| n.liveness == Liveness::Up && !n.draining);
        for (writer, placement) in writers.iter().zip(solve(&nodes, &writers)) {
            let before = writer.assignment.as_ref();
            let held = |id: u64| before.is_some_and(|a| a.owner == id || a.standby == Some(id));
            prop_assert_eq!(placement.owner.is_some(), placement.owner.is_some() && writer.running);
            prop_assert!(placement.standby.is_none() || placement.standby != placement.owner);
            let waits = before.is_some_and(|a| placement.owner == Some(a.owner) && liveness(a.owner) != Liveness::Up);
            let may_stay = |id: u64| node(id).is_some_and(|n| n.liveness != Liveness::Dead && (waits || !n.draining));
            let may_stand_by = |id: u64| takes_work(id) || held(id) && may_stay(id);
            prop_assert!(placement.standby.is_none_or(may_stand_by), "a standby that cannot take work");
            for id in [placement.owner, placement.standby].into_iter().flatten() {
                prop_assert!(takes_work(id) || held(id), "node {id} was given something new");
            }
            let Some(owner) = placement.owner else {
                prop_assert!(!writer.running || before.is_none() && !nodes.iter().any(|n| takes_work(n.id)));
                continue;
            };
            if nodes.iter().any(|n| takes_work(n.id)) {
                let owner_may_be_back = liveness(owner) == Liveness::Silent;
                let worth_it = match placement.standby.filter(|id| held(*id)) {
                    Some(standby) if liveness(standby) == Liveness::Silent => true,
                    Some(_) => owner_may_be_back && writer.standby_holds != Some(true),
                    None => owner_may_be_back,
                };
                prop_assert!(!waits || worth_it, "left with an owner that is away though a node is free");
            }
            if let Some(before) = before.filter(|a| liveness(a.owner) == Liveness::Silent && a.owner != owner) {
                prop_assert_eq!((before.standby, writer.standby_holds), (Some(owner), Some(true)), "it may be back");
            }
            if writer.redundancy == Redundancy::Dual && nodes.iter().any(|n| takes_work(n.id) && n.id != owner) {
                prop_assert!(placement.standby.is_some(), "no standby though a second node is free");
            }
            if let Some(before) = before.filter(|a| liveness(a.owner) == Liveness::Up && a.owner != owner) {
                prop_assert_eq!(before.standby, Some(owner), "a living owner gives way to its standby only");
                prop_assert!(writer.redundant || writer.owner_delivers == Some(false), "moved by force");
            }
        }
    }
}

fn node(id: u64, zone: &str) -> NodeFacts {
    NodeFacts { id, zone: zone.to_owned(), liveness: Liveness::Up, draining: false }
}

fn on(owner: u64, standby: Option<u64>) -> WriterFacts {
    WriterFacts {
        id: WriterId("w".to_owned()),
        running: true,
        redundancy: Redundancy::Dual,
        assignment: Some(Assignment { owner, standby, epoch: Epoch(1), owner_line: Line::Primary }),
        wanted_owner: None,
        redundant: false,
        standby_holds: Some(true),
        outdated: false,
        owner_delivers: Some(true),
        standby_ready: true,
        hold: false,
    }
}

fn place(nodes: &[NodeFacts], writer: WriterFacts) -> (Option<u64>, Option<u64>) {
    let placement = solve(nodes, &[writer]).remove(0);
    (placement.owner, placement.standby)
}

#[test]
fn new_writers_spread_over_zones_first_and_then_evenly() {
    let nodes = [node(1, "a"), node(2, "a"), node(3, "b"), node(4, "b")];
    let writers: Vec<_> =
        (0..8).map(|i| WriterFacts { id: WriterId(format!("w{i}")), assignment: None, ..on(1, None) }).collect();
    let placements = solve(&nodes, &writers);
    let zone = |id: Option<u64>| nodes.iter().find(|n| Some(n.id) == id).map(|n| n.zone.clone());
    assert!(placements.iter().all(|p| zone(p.owner) != zone(p.standby)), "{placements:?}");
    for n in &nodes {
        assert_eq!(placements.iter().filter(|p| p.owner == Some(n.id)).count(), 2, "{placements:?}");
        assert_eq!(placements.iter().filter(|p| p.standby == Some(n.id)).count(), 2, "{placements:?}");
    }
}

#[test]
fn a_dead_owner_gives_way_to_its_standby_even_while_damped() {
    let mut nodes = [node(1, ""), node(2, ""), node(3, "")];
    nodes[0].liveness = Liveness::Dead;
    assert_eq!(place(&nodes, WriterFacts { hold: true, ..on(1, Some(2)) }), (Some(2), Some(3)));
    nodes[1].liveness = Liveness::Dead;
    assert_eq!(place(&nodes, on(1, Some(2))), (Some(3), None));
    nodes[2].liveness = Liveness::Dead;
    assert_eq!(place(&nodes, on(1, Some(2))), (Some(1), None));
}

#[test]
fn a_silent_owner_gives_way_only_to_a_standby_that_holds_everything() {
    let mut nodes = [node(1, ""), node(2, ""), node(3, "")];
    nodes[0].liveness = Liveness::Silent;
    let holds = |standby_holds| WriterFacts { standby_holds, ..on(1, Some(2)) };
    assert_eq!(place(&nodes, holds(Some(true))), (Some(2), Some(3)));
    assert_eq!(place(&nodes, holds(Some(false))), (Some(1), Some(2)), "the owner may be back with what it alone holds");
    assert_eq!(place(&nodes, holds(None)), (Some(1), Some(2)), "the standby will say in a moment");
    assert_eq!(place(&nodes, on(1, None)), (Some(1), Some(2)), "somebody reads, in case that it stays away");
    let single = |standby| WriterFacts { redundancy: Redundancy::Single, ..on(1, standby) };
    assert_eq!(place(&nodes, single(None)), (Some(1), None), "two readers were not asked for");
    nodes[0].liveness = Liveness::Dead;
    assert_eq!(place(&nodes, holds(Some(false))), (Some(2), Some(3)), "better than nobody");
}

#[test]
fn a_silent_standby_keeps_its_place_until_it_is_dead() {
    let mut nodes = [node(1, ""), node(2, ""), node(3, "")];
    nodes[1].liveness = Liveness::Silent;
    assert_eq!(place(&nodes, on(1, Some(2))), (Some(1), Some(2)));
    nodes[0].liveness = Liveness::Dead;
    assert_eq!(place(&nodes, on(1, Some(2))), (Some(1), Some(2)), "it may hold what the dead owner had");
    nodes[0].liveness = Liveness::Up;
    nodes[1].liveness = Liveness::Dead;
    assert_eq!(place(&nodes, on(1, Some(2))), (Some(1), Some(3)));
    nodes[1] = NodeFacts { draining: true, liveness: Liveness::Silent, ..node(2, "") };
    assert_eq!(place(&nodes, on(1, Some(2))), (Some(1), Some(3)), "it was to be emptied anyway");
}

#[test]
fn an_owner_that_cannot_deliver_gives_way_unless_damped() {
    let nodes = [node(1, ""), node(2, ""), node(3, "")];
    let stuck = WriterFacts { owner_delivers: Some(false), ..on(1, Some(2)) };
    assert_eq!(place(&nodes, stuck.clone()), (Some(2), Some(3)));
    assert_eq!(place(&nodes, WriterFacts { hold: true, ..stuck.clone() }), (Some(1), Some(2)));
    assert_eq!(place(&nodes, WriterFacts { standby_ready: false, ..stuck.clone() }), (Some(1), Some(2)));
    assert_eq!(place(&nodes[..2], stuck), (Some(2), Some(1)));
}

#[test]
fn a_drained_owner_moves_only_once_its_target_is_redundant() {
    let mut nodes = [node(1, ""), node(2, ""), node(3, "")];
    nodes[0].draining = true;
    assert_eq!(place(&nodes, on(1, Some(2))), (Some(1), Some(2)));
    assert_eq!(place(&nodes, WriterFacts { redundant: true, ..on(1, Some(2)) }), (Some(2), Some(3)));
    let single = WriterFacts { redundancy: Redundancy::Single, ..on(1, None) };
    assert_eq!(place(&nodes, single.clone()), (Some(1), Some(2)));
    let ready = WriterFacts { redundant: true, assignment: on(1, Some(2)).assignment, ..single };
    assert_eq!(place(&nodes, ready), (Some(2), None));
}

#[test]
fn a_drained_standby_is_replaced_or_given_up() {
    let mut nodes = [node(1, ""), node(2, ""), node(3, "")];
    nodes[1].draining = true;
    assert_eq!(place(&nodes, on(1, Some(2))), (Some(1), Some(3)));
    assert_eq!(place(&nodes[..2], on(1, Some(2))), (Some(1), None));
}

#[test]
fn the_wanted_owner_stands_by_first_and_then_takes_over() {
    let nodes = [node(1, ""), node(2, ""), node(3, "")];
    let wanted = |standby, redundant| WriterFacts { wanted_owner: Some(3), redundant, ..on(1, Some(standby)) };
    assert_eq!(place(&nodes, wanted(2, true)), (Some(1), Some(3)));
    assert_eq!(place(&nodes, wanted(3, false)), (Some(1), Some(3)));
    assert_eq!(place(&nodes, wanted(3, true)), (Some(3), Some(1)));
}

#[test]
fn a_stopped_writer_is_given_up() {
    assert_eq!(place(&[node(1, ""), node(2, "")], WriterFacts { running: false, ..on(1, Some(2)) }), (None, None));
}

#[test]
fn an_owner_of_an_older_configuration_changes_places_with_its_redundant_standby() {
    let nodes = [node(1, ""), node(2, ""), node(3, "")];
    let outdated = WriterFacts { outdated: true, ..on(1, Some(2)) };
    assert_eq!(place(&nodes, outdated.clone()), (Some(1), Some(2)), "not while a move would lose messages");
    let redundant = WriterFacts { redundant: true, ..outdated };
    assert_eq!(place(&nodes, redundant.clone()), (Some(2), Some(1)));
    let leaving = [node(1, ""), NodeFacts { draining: true, ..node(2, "") }, node(3, "")];
    assert_eq!(place(&leaving, redundant), (Some(1), Some(3)), "not to a node that is being emptied");
}
