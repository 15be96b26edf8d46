//! How the two lines of a connector compare, as the admin API shows it. Pure: judged from what the owner last reported.

use tonic::Status;
use twinfeed_proto::admin::{
    CompareConnectorResponse, ComparedLine, SamplePair, Subscription, compare_connector_response::State,
};

use super::{
    condition::{Condition, Scene},
    convert,
    status::{self, Subject},
};
use crate::model::{
    connector::{Redundancy, TargetState},
    report::{Lines, WriterReport},
};

/// Most feeds are matched after a second or two.
const MATCHING_MS_MAX: u64 = 30_000;

/// What a comparison shows of a connector.
pub(super) fn compared(scene: &Scene, name: &str) -> Result<CompareConnectorResponse, Status> {
    let connector = scene.state.connectors().get(name).ok_or_else(|| status::not_found(Subject::connector(name)))?;
    let condition = Condition::of(scene, connector);
    if connector.target != TargetState::Running {
        let text = format!("{name} does not run, so nothing is compared; run it with: wsctl connector resume {name}");
        return Err(status::precondition("NOT_RUNNING", text));
    }
    if condition.redundancy == Redundancy::Single {
        let text = format!("{name} has one line only (twinfeed.redundancy=single): there is nothing to compare");
        return Err(status::precondition("SINGLE_LINE", text));
    }
    let subscriptions = convert::subscriptions(scene, &condition);
    let nothing = WriterReport::default();
    Ok(response(condition.owner.unwrap_or(&nothing), subscriptions))
}

fn response(owner: &WriterReport, subscriptions: Vec<Subscription>) -> CompareConnectorResponse {
    let lines = owner.lines;
    let of_each = [(lines.own_behind_ms, lines.own_alone), (lines.standby_behind_ms, lines.standby_alone)];
    let (state, summary) = judged(owner, &subscriptions);
    let comparison = owner.comparison.as_deref().filter(|_| matches!(state, State::Unmatched | State::Differ));
    CompareConnectorResponse {
        state: state.into(),
        summary,
        unmatched_ms: lines.unmatched_ms,
        skew_ms: lines.skew_ms,
        messages: lines.of,
        pointers: comparison.map(|found| found.pointers.clone()).unwrap_or_default(),
        samples: comparison.map(|found| found.pairs.iter().cloned().map(pair).collect()).unwrap_or_default(),
        advice: match (comparison, state) {
            (Some(found), _) => found.advice.clone(),
            (None, State::Unmatched | State::Differ) => {
                "no messages to show yet: they are taken as they come; ask again in a while".to_owned()
            }
            (None, _) => String::new(),
        },
        lines: subscriptions
            .into_iter()
            .zip(of_each)
            .map(|(subscription, (behind_ms, alone))| ComparedLine {
                subscription: Some(subscription),
                behind_ms,
                alone,
            })
            .collect(),
    }
}

fn pair((primary, secondary): (String, String)) -> SamplePair {
    SamplePair { primary, secondary }
}

fn judged(owner: &WriterReport, subscriptions: &[Subscription]) -> (State, String) {
    let lines = owner.lines;
    let down = subscriptions.iter().find(|line| !line.connected);
    let (of, seconds) = (lines.of, |ms: u64| ms.div_ceil(1_000));
    match (down, owner.standby) {
        (Some(line), _) => {
            return (State::Down, format!("the {} line at {} is not connected", line.role, line.node));
        }
        _ if subscriptions.len() < 2 => return (State::Down, "no node has the secondary line".to_owned()),
        (None, None) => return (State::Down, "the owner has no word of the secondary line".to_owned()),
        (None, Some(_)) => {}
    }
    let behind = |whose: &str, of_whom: &str, ms: u64| {
        let text = format!("the {whose} line has lacked for {} s what the {of_whom} delivers", seconds(ms));
        (State::Behind, text)
    };
    match lines {
        Lines { idle: true, .. } => {
            (State::Idle, "both lines are connected and have delivered nothing yet: nothing to compare".to_owned())
        }
        Lines { unmatched_ms, .. } if unmatched_ms >= MATCHING_MS_MAX => (
            State::Unmatched,
            format!("the two lines could not be matched for {} s: the stream is at risk", seconds(unmatched_ms)),
        ),
        Lines { unmatched_ms, .. } if unmatched_ms > 0 || !owner.aligned => {
            let since = if unmatched_ms > 0 { format!(" for {} s", seconds(unmatched_ms)) } else { String::new() };
            (State::Matching, format!("the two lines are being matched{since}"))
        }
        Lines { own_behind_ms, .. } if own_behind_ms > 0 => behind("primary", "secondary", own_behind_ms),
        Lines { standby_behind_ms, .. } if standby_behind_ms > 0 => behind("secondary", "primary", standby_behind_ms),
        Lines { own_alone, standby_alone, .. } if own_alone + standby_alone > 0 => (
            State::Differ,
            format!(
                "of {of} messages of the last minute the primary line alone has {own_alone}, the secondary line alone \
                 {standby_alone}"
            ),
        ),
        Lines { of: 0, .. } => {
            (State::Agree, "the two lines are matched; the last minute brought no message".to_owned())
        }
        _ => (State::Agree, format!("both lines have delivered all {of} messages of the last minute")),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::report::Comparison;

    fn line(role: &str, connected: bool) -> Subscription {
        Subscription { role: role.into(), node: format!("n-{role}"), connected, ..Subscription::default() }
    }

    fn shown(lines: Lines, change: impl Fn(&mut WriterReport)) -> CompareConnectorResponse {
        let comparison = Comparison {
            differs: true,
            pointers: vec!["/connection".into()],
            pairs: vec![("p".into(), "s".into())],
            advice: "ask the feed".into(),
        };
        let mut owner = WriterReport {
            aligned: lines.unmatched_ms == 0,
            standby: Some(2),
            lines,
            comparison: Some(Arc::new(comparison)),
            ..WriterReport::default()
        };
        change(&mut owner);
        response(&owner, vec![line("primary", true), line("secondary", true)])
    }

    #[test]
    fn the_state_says_how_the_lines_compare_and_only_differences_have_samples() {
        let nothing = Lines::default;
        for (lines, state, has_samples) in [
            (nothing(), State::Agree, false),
            (Lines { idle: true, ..nothing() }, State::Idle, false),
            (Lines { unmatched_ms: 29_000, ..nothing() }, State::Matching, false),
            (Lines { unmatched_ms: 30_000, ..nothing() }, State::Unmatched, true),
            (Lines { own_alone: 1, of: 100, ..nothing() }, State::Differ, true),
            (Lines { standby_alone: 1, of: 100, ..nothing() }, State::Differ, true),
            (Lines { standby_alone: 9, standby_behind_ms: 1, of: 100, ..nothing() }, State::Behind, false),
            (Lines { own_behind_ms: 1, ..nothing() }, State::Behind, false),
        ] {
            let shown = shown(lines, |_| {});
            assert_eq!(shown.state(), state, "{lines:?}");
            assert!(!shown.summary.is_empty());
            assert_eq!(!shown.samples.is_empty(), has_samples, "{lines:?}");
            assert_eq!(!shown.pointers.is_empty(), has_samples);
            assert_eq!(!shown.advice.is_empty(), has_samples);
        }
        assert_eq!(shown(nothing(), |owner| owner.aligned = false).state(), State::Matching);
        assert_eq!(shown(nothing(), |owner| owner.standby = None).state(), State::Down);
        let unsampled = shown(Lines { unmatched_ms: 40_000, ..nothing() }, |owner| owner.comparison = None);
        assert!(unsampled.advice.contains("ask again"), "{unsampled:?}");
    }

    #[test]
    fn a_line_that_is_down_is_named() {
        let down = response(&WriterReport::default(), vec![line("primary", true), line("secondary", false)]);
        assert_eq!(
            (down.state(), down.summary.as_str()),
            (State::Down, "the secondary line at n-secondary is not connected")
        );
        let alone = response(&WriterReport::default(), vec![line("primary", true)]);
        assert_eq!((alone.state(), alone.lines.len()), (State::Down, 1));
    }
}
