//! The tables and the orders of `armed`; what a signal does is seen from outside, in chaos-tests.

use super::*;

fn armed(orders: &[(&str, &str)]) -> (tempfile::TempDir, Faults) {
    let directory = tempfile::tempdir().unwrap();
    for (point, action) in orders {
        fs::write(directory.path().join(point), action).unwrap();
    }
    let faults = Faults::new(Some(directory.path().to_owned()), None).unwrap();
    (directory, faults)
}

#[test]
fn an_armed_point_is_met_once_and_leaves_its_proof() {
    let (directory, faults) = armed(&[("opening.after_init", "pause\n")]);
    assert!(faults.take(Point::OpeningBeforeInit).is_none(), "another point is not armed");
    let hit = faults.take(Point::OpeningAfterInit).unwrap();
    assert_eq!((hit.action, hit.stands()), (Action::Pause, true));
    let proof = fs::read_to_string(directory.path().join("opening.after_init.hit")).unwrap();
    assert_eq!(proof.trim(), std::process::id().to_string());
    assert!(faults.take(Point::OpeningAfterInit).is_none(), "an order is for once");
    fs::remove_file(directory.path().join("opening.after_init.hit")).unwrap();
    assert!(!hit.stands(), "removing the proof lets the point go on");
}

#[test]
fn an_order_nobody_understands_is_not_carried_out() {
    let (_directory, faults) = armed(&[("owner.after_produce", "explode")]);
    assert!(faults.take(Point::OwnerAfterProduce).is_none());
}

#[test]
fn every_point_and_every_bug_has_a_name_of_its_own() {
    let unique = |mut names: Vec<&str>| {
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        names.len() == all
    };
    assert!(unique(POINTS.iter().map(|(_, name)| *name).collect()));
    assert!(unique(BUGS.iter().map(|(_, name)| *name).collect()));
    // The last variants: a new one behind them that is not in its table shows here.
    assert_eq!((POINTS.len(), BUGS.len()), (Point::OpeningAfterTail as usize + 1, Bug::SelfPromotion as usize + 1));
    assert!(POINTS.iter().zip(0..).all(|((point, _), n)| *point as usize == n));
    assert!(BUGS.iter().zip(0..).all(|((bug, _), n)| *bug as usize == n));
}

#[test]
fn an_unknown_bug_is_refused_with_the_known_ones() {
    let error = Faults::new(None, Some("no-fence")).unwrap_err().to_string();
    assert!(error.contains("`no-fence`") && error.contains("no-fencing, check-before-init"), "{error}");
    assert_eq!(Faults::new(None, Some("dedup-off")).unwrap().bug, Some(Bug::DedupOff));
}

#[test]
fn the_directory_lists_the_points_and_must_exist() {
    let (directory, _faults) = armed(&[]);
    let listed = fs::read_to_string(directory.path().join("points")).unwrap();
    assert!(listed.lines().eq(POINTS.iter().map(|(_, name)| *name)));
    let missing = Faults::new(Some(directory.path().join("nowhere")), None);
    assert!(matches!(missing, Err(Error::Directory { .. })));
}
