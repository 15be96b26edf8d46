//! The words in which a merge's notices are told, and when two texts say the same.

use twinfeed_dedup::{Notice, Side, SubscriptionId};

/// Error texts carry durations and counts, which differ with every attempt.
pub(crate) fn same_but_for_figures(a: &str, b: &str) -> bool {
    let without =
        |text: &str| text.split(|c: char| c.is_ascii_digit()).filter(|s| !s.is_empty()).collect::<Vec<_>>().join("#");
    without(a) == without(b)
}

/// Whom a notice speaks of.
pub(crate) fn subscription(notice: &Notice) -> Option<SubscriptionId> {
    match notice {
        Notice::Aligned { subscription, .. }
        | Notice::AlignedByFiat { subscription, .. }
        | Notice::AlignmentLost { subscription }
        | Notice::Behind { subscription, .. }
        | Notice::CaughtUp { subscription, .. }
        | Notice::Unproven { subscription, .. }
        | Notice::FeedsDiffer { subscription, .. }
        | Notice::FeedsAgree { subscription, .. } => Some(*subscription),
        _ => None,
    }
}

/// An event's kind and text; `wall` turns the merge's times into milliseconds since 1970.
pub(crate) fn describe(notice: &Notice, wall: impl Fn(u64) -> u64) -> (&'static str, String) {
    match notice {
        Notice::Aligned { subscription, after_frames } => (
            "aligned",
            format!("subscription {:016x} matched position by position after {after_frames} frames", subscription.0),
        ),
        Notice::AlignedByFiat { subscription, last_before_ms: None, .. } => {
            ("subscription.accepted", format!("subscription {:016x} is the first of this owner", subscription.0))
        }
        Notice::AlignedByFiat { subscription, last_before_ms: Some(before), first_after_ms } => {
            let (before, after) = (wall(*before), wall(*first_after_ms));
            let (from_ms, to_ms) = (before.min(after), before.max(after));
            (
                "gap",
                format!(
                    "subscription {:016x} has nothing to be matched with: messages between {from_ms} and {to_ms} (ms \
                     since 1970) may be missing, a few around them doubled",
                    subscription.0,
                ),
            )
        }
        Notice::AlignmentLost { subscription } => {
            ("alignment.lost", format!("subscription {:016x} fell too far behind; it is aligned anew", subscription.0))
        }
        Notice::FeedsDiffer { subscription, unmatched, messages } => (
            "feeds.differ",
            format!(
                "subscription {:016x} lacks {unmatched} of the last {messages} messages: do both URLs carry the same \
                 stream, without conflation?",
                subscription.0
            ),
        ),
        Notice::Behind { subscription, side, since_ms, lacks } => (
            "line.behind",
            format!(
                "subscription {:016x} {} lacks {lacks} messages that its twin has delivered since {} (ms since 1970), though its \
                 connection lives",
                subscription.0,
                whose(*side),
                wall(*since_ms)
            ),
        ),
        Notice::CaughtUp { subscription, side, lasted_ms } => (
            "line.caught_up",
            format!(
                "subscription {:016x} {} delivers again what its twin has, after {lasted_ms} ms",
                subscription.0,
                whose(*side)
            ),
        ),
        Notice::Unproven { subscription, side, from_ms, to_ms } => {
            ("gap", unproven(*subscription, *side, (wall(*from_ms), wall(*to_ms))))
        }
        Notice::FeedsAgree { subscription, lasted_ms } => (
            "feeds.agree",
            format!(
                "subscription {:016x} lacks nothing any more of what its twin delivers, after {lasted_ms} ms",
                subscription.0
            ),
        ),
        other => ("merge.notice", format!("{other:?}")),
    }
}

fn unproven(subscription: SubscriptionId, side: Side, (from_ms, to_ms): (u64, u64)) -> String {
    format!(
        "subscription {:016x} {} lacks messages, and nothing else was there between {from_ms} and {to_ms} (ms since 1970): what it \
         lacked then may be missing",
        subscription.0,
        whose(side)
    )
}

fn whose(side: Side) -> &'static str {
    match side {
        Side::Own => "of the owner",
        Side::Standby => "of the standby",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_that_differ_in_figures_only_are_the_same() {
        assert!(same_but_for_figures("no answer within 9999 ms", "no answer within 10001 ms"));
        assert!(!same_but_for_figures("no answer within 9999 ms", "topic t1 is gone"));
        assert!(!same_but_for_figures("2 of 3 failed", "2 of 3 timed out"));
    }
}
