//! Histories that must be accepted and histories that must not.

use super::super::{Call, Found, Operation, Outcome, Refusal};
use super::{History, Violation};

const CREATE: fn(u64) -> Call = |value| Call::Create { value };
const UPDATE: fn(u64) -> Call = |value| Call::Update { value, expected: None };
const DELETE: Call = Call::Delete { expected: None };

fn read(value: u64) -> Outcome {
    Outcome::Read(Some(Found { value, etag: format!("etag {value}") }))
}

fn operation((invoked_ns, returned_ns): (u64, u64), call: Call, outcome: Outcome) -> Operation {
    Operation { connector: "c".to_owned(), client: 0, call, outcome, invoked_ns, returned_ns }
}

fn history(operations: Vec<((u64, u64), Call, Outcome)>) -> History {
    History { operations: operations.into_iter().map(|(when, call, outcome)| operation(when, call, outcome)).collect() }
}

#[track_caller]
fn assert_accepted(operations: Vec<((u64, u64), Call, Outcome)>) {
    assert_eq!(history(operations).check(), Ok(()));
}

#[track_caller]
fn assert_rejected(operations: Vec<((u64, u64), Call, Outcome)>) {
    let verdict = history(operations).check();
    assert!(matches!(verdict, Err(Violation::NotLinearizable { .. })), "{verdict:?}");
}

#[test]
fn one_after_the_other_is_accepted() {
    assert_accepted(vec![
        ((0, 1), Call::Get, Outcome::Read(None)),
        ((2, 3), CREATE(1), Outcome::Done),
        ((4, 5), CREATE(2), Outcome::Refused(Refusal::Exists)),
        ((6, 7), Call::Update { value: 3, expected: Some(1) }, Outcome::Done),
        ((8, 9), Call::Update { value: 4, expected: Some(1) }, Outcome::Refused(Refusal::Changed)),
        ((10, 11), Call::Get, read(3)),
        ((12, 13), Call::Delete { expected: Some(1) }, Outcome::Refused(Refusal::Changed)),
        ((14, 15), DELETE, Outcome::Done),
        ((16, 17), DELETE, Outcome::Refused(Refusal::Missing)),
    ]);
}

#[test]
fn overlapping_calls_may_take_effect_in_either_order() {
    assert_accepted(vec![
        ((0, 10), CREATE(1), Outcome::Done),
        ((1, 3), Call::Get, Outcome::Read(None)),
        ((4, 6), Call::Get, read(1)),
    ]);
    assert_rejected(vec![
        ((0, 10), CREATE(1), Outcome::Done),
        ((1, 3), Call::Get, read(1)),
        ((4, 6), Call::Get, Outcome::Read(None)),
    ]);
}

#[test]
fn a_stale_read_is_rejected() {
    assert_rejected(vec![
        ((0, 1), CREATE(1), Outcome::Done),
        ((2, 3), UPDATE(2), Outcome::Done),
        ((4, 5), Call::Get, read(1)),
    ]);
}

#[test]
fn a_lost_update_is_rejected() {
    // Both were sent with the etag of the same content, and both were accepted.
    assert_rejected(vec![
        ((0, 1), CREATE(1), Outcome::Done),
        ((2, 5), Call::Update { value: 2, expected: Some(1) }, Outcome::Done),
        ((3, 6), Call::Update { value: 3, expected: Some(1) }, Outcome::Done),
    ]);
}

#[test]
fn a_double_create_is_rejected() {
    assert_rejected(vec![((0, 5), CREATE(1), Outcome::Done), ((1, 6), CREATE(2), Outcome::Done)]);
}

#[test]
fn an_acknowledged_write_that_is_gone_is_rejected() {
    assert_rejected(vec![((0, 1), CREATE(1), Outcome::Done), ((2, 3), Call::Get, Outcome::Read(None))]);
}

/// It may take effect long after its deadline, or never; but not before its call, and not twice.
#[test]
fn an_unknown_outcome_may_take_effect_later_or_never() {
    let create = ((0, 1), CREATE(1), Outcome::Unknown);
    assert_accepted(vec![create.clone(), ((2, 3), Call::Get, Outcome::Read(None)), ((4, 5), Call::Get, read(1))]);
    assert_accepted(vec![create.clone(), ((2, 3), CREATE(2), Outcome::Done), ((4, 5), Call::Get, read(2))]);
    assert_rejected(vec![((0, 1), Call::Get, read(1)), ((2, 3), CREATE(1), Outcome::Unknown)]);
    assert_rejected(vec![
        create,
        ((2, 3), Call::Get, read(1)),
        ((4, 5), DELETE, Outcome::Done),
        ((6, 7), Call::Get, read(1)),
    ]);
}

#[test]
fn an_etag_stands_for_one_content() {
    let found = |value| Outcome::Read(Some(Found { value, etag: "same".to_owned() }));
    let verdict = history(vec![
        ((0, 1), CREATE(1), Outcome::Done),
        ((2, 3), Call::Get, found(1)),
        ((4, 5), UPDATE(2), Outcome::Done),
        ((6, 7), Call::Get, found(2)),
    ])
    .check();
    assert!(matches!(verdict, Err(Violation::AmbiguousEtag { first: 1, second: 2, .. })), "{verdict:?}");
}

/// Connectors do not constrain each other, and one that is wrong is enough.
#[test]
fn each_connector_is_judged_alone() {
    let mut mixed = history(vec![((0, 1), CREATE(1), Outcome::Done), ((6, 7), Call::Get, read(1))]);
    let other = |when, call, outcome| Operation { connector: "d".to_owned(), ..operation(when, call, outcome) };
    mixed.operations.push(other((2, 3), Call::Get, Outcome::Read(None)));
    assert_eq!(mixed.check(), Ok(()));
    mixed.operations.push(other((4, 5), DELETE, Outcome::Done));
    let verdict = mixed.check();
    assert!(matches!(&verdict, Err(Violation::NotLinearizable { connector, .. }) if connector == "d"), "{verdict:?}");
}

/// Eight clients that overlap all the time, and every tenth outcome unknown: the memory keeps the search small.
#[test]
fn long_histories_are_decided() {
    let mut operations = Vec::new();
    let mut state = None;
    for n in 0..2_000_u64 {
        let (call, outcome, next) = match (n % 4, state) {
            (0, None) => (CREATE(n), Outcome::Done, Some(n)),
            (0, Some(_)) => (CREATE(n), Outcome::Refused(Refusal::Exists), state),
            (1, Some(_)) => (UPDATE(n), Outcome::Done, Some(n)),
            (3, Some(_)) if n % 20 == 3 => (DELETE, Outcome::Done, None),
            (_, now) => (Call::Get, now.map_or(Outcome::Read(None), read), state),
        };
        state = next;
        let outcome = if n % 10 == 9 { Outcome::Unknown } else { outcome };
        operations.push(((n * 10, n * 10 + 75), call, outcome));
    }
    assert_accepted(operations.clone());
    operations.push(((30_000, 30_001), Call::Get, read(5)));
    assert_rejected(operations);
}
