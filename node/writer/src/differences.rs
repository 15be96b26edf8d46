//! Watches what the two lines of an owner deliver, for as long as they are not matched or one of them has messages alone, so that
//! an operator can be shown what differs. Nothing that is written rests on it.
//!
//! Frames pass by here before the merge takes them. While the lines agree none is kept; else some hundred KiB at most.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use twinfeed_dedup::{Fingerprint, Frame, Merge, MergeStatus, Share, Side};

use crate::{
    comparison::{Chosen, Comparison, FEW_MAX, MANY_MAX, MESSAGE_BYTES_MAX, compare},
    payload::Payload,
};

/// Joining lasts a second or two on most feeds; sooner there is nothing to explain.
const STRANGE_MS_MIN: u64 = 5_000;
/// The other line may be late by so much, and is given the time.
const LATE_MS_MAX: u64 = 2_000;
/// A slow feed is compared with what there is by then.
const PATIENCE_MS: u64 = 10_000;
/// Between two comparisons.
const COMPARED_EVERY_MS: u64 = 30_000;
/// Lines that could not be matched for so long, or of which one has so much alone for so long, are told of. What one alone has
/// counts for a minute, so a line that was silent once, for less than another, is not among them.
const UNMATCHED_MS_MIN: u64 = 30_000;
const ALONE_PERCENT_MIN: u64 = 5;
const ALONE_MS_MIN: u64 = 120_000;
/// Between two events about the same.
const TOLD_EVERY_MS: u64 = 600_000;
/// Messages of one line that may turn out to be its own, and bytes of what is kept in one list.
const CANDIDATES_MAX: usize = 64;
const KEPT_BYTES_MAX: usize = 64 * 1024;
/// By then the merge has said whether a message was alone.
const CANDIDATE_MS_MAX: u64 = 15_000;
const ALONE_MAX: usize = 16;

/// What is known of the differences of two lines.
#[derive(Debug, Default)]
pub(crate) struct Differences {
    state: State,
    compared_at_ms: Option<u64>,
    comparison: Option<Arc<Comparison>>,
    much_alone_since_ms: Option<u64>,
    told_at_ms: Option<u64>,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Agreeing,
    /// Too short a time for a question.
    Strange { since_ms: u64 },
    /// Some messages of the line that the other should be matched to.
    Unmatched { reference: Side, recent: Recent },
    /// By side: what one line alone has, or may have.
    Differing(Box<[Lonely; 2]>),
}

/// Messages in a row, until there are enough.
#[derive(Debug, Default)]
struct Recent {
    payloads: Vec<Bytes>,
    /// When the first and the last were read, nanoseconds since 1970.
    read_ns: (u64, u64),
    first_ms: u64,
    last_ms: u64,
}

#[derive(Debug, Default)]
struct Lonely {
    candidates: Vec<Candidate>,
    candidate_bytes: usize,
    alone: VecDeque<Bytes>,
    alone_bytes: usize,
}

#[derive(Debug)]
struct Candidate {
    fingerprint: Fingerprint,
    taken_ms: u64,
    payload: Bytes,
}

impl Differences {
    /// A frame that the merge is about to take in.
    #[inline]
    pub(crate) fn take_in(&mut self, side: Side, frame: &Frame<Payload>, now_ms: u64) {
        match &mut self.state {
            State::Agreeing | State::Strange { .. } => {}
            State::Unmatched { reference, recent } => {
                if side == *reference {
                    recent.take_in(&frame.payload, now_ms);
                }
            }
            State::Differing(lonely) => {
                if !lonely[side.other() as usize].has_met(frame.fingerprint) {
                    lonely[side as usize].take_in(frame, now_ms);
                }
            }
        }
    }

    /// Some twenty times a second: looks whether the lines differ, and compares what was kept when it is time.
    pub(crate) fn look(&mut self, merge: &Merge<Payload>, now_ms: u64) {
        let status = merge.status();
        self.settle(&status, now_ms);
        let compared = match &mut self.state {
            State::Agreeing | State::Strange { .. } => return,
            State::Unmatched { reference, recent } => {
                let is_due = is_over(self.compared_at_ms, COMPARED_EVERY_MS, now_ms);
                if !is_due || !recent.is_ready(now_ms) {
                    return;
                }
                let others = nearest(merge, reference.other(), recent.read_ns);
                let mut lines = [recent.payloads.as_slice(), others.as_slice()];
                if *reference == Side::Standby {
                    lines.swap(0, 1);
                }
                let compared = (!others.is_empty()).then(|| compare(lines[0], lines[1], Chosen::Newest));
                *recent = Recent::default();
                compared
            }
            State::Differing(lonely) => {
                for side in Side::BOTH {
                    let found = merge.alone(side);
                    found.for_each(|alone| lonely[side as usize].is_alone(alone.fingerprint));
                    lonely[side as usize].age(now_ms);
                }
                if !is_over(self.compared_at_ms, COMPARED_EVERY_MS, now_ms) {
                    return;
                }
                let [own, standby] = lonely.each_mut().map(|lonely| &*lonely.alone.make_contiguous());
                (!own.is_empty() || !standby.is_empty()).then(|| compare(own, standby, Chosen::Alone))
            }
        };
        if let Some(compared) = compared {
            self.compared_at_ms = Some(now_ms);
            if self.comparison.as_deref() != Some(&compared) {
                self.comparison = Some(Arc::new(compared));
            }
        }
    }

    /// What differs, if something does and it has been looked at.
    pub(crate) fn comparison(&self) -> Option<&Arc<Comparison>> {
        self.comparison.as_ref()
    }

    /// What an operator should hear of now, if it has lasted.
    pub(crate) fn news(&mut self, unmatched_ms: u64, now_ms: u64) -> Option<Arc<Comparison>> {
        let comparison = self.comparison.as_ref().filter(|comparison| comparison.differs)?;
        let lasts = unmatched_ms >= UNMATCHED_MS_MIN
            || self.much_alone_since_ms.is_some_and(|since_ms| now_ms.saturating_sub(since_ms) >= ALONE_MS_MIN);
        if !lasts || !is_over(self.told_at_ms, TOLD_EVERY_MS, now_ms) {
            return None;
        }
        self.told_at_ms = Some(now_ms);
        Some(Arc::clone(comparison))
    }

    fn settle(&mut self, status: &MergeStatus, now_ms: u64) {
        let is_joining = |since_ms: Option<u64>, frames: u64| since_ms.is_some() && frames > 0;
        let own_joins = is_joining(status.own_joining_since_ms, status.own_frames);
        let standby_joins = is_joining(status.standby_joining_since_ms, status.standby_frames);
        let alone = [status.own_alone, status.standby_alone];
        let much = |share: Share| share.messages > 0 && share.messages * 100 >= share.of * ALONE_PERCENT_MIN;
        if alone.into_iter().any(much) {
            self.much_alone_since_ms.get_or_insert(now_ms);
        } else {
            self.much_alone_since_ms = None;
        }
        if !own_joins && !standby_joins && alone.iter().all(|share| share.messages == 0) {
            // When it was last told stays: lines that differ every other minute are one story.
            let told_at_ms = self.told_at_ms;
            *self = Self { told_at_ms, ..Self::default() };
            return;
        }
        let since_ms = match self.state {
            State::Agreeing => now_ms,
            State::Strange { since_ms } => since_ms,
            State::Unmatched { .. } | State::Differing(_) => 0,
        };
        if now_ms.saturating_sub(since_ms) < STRANGE_MS_MIN {
            self.state = State::Strange { since_ms };
            return;
        }
        // Where both join, either is as good as the other.
        let reference = if standby_joins { Side::Own } else { Side::Standby };
        match &self.state {
            State::Unmatched { reference: known, .. } if (own_joins || standby_joins) && *known == reference => {}
            State::Differing(_) if !own_joins && !standby_joins => {}
            _ => {
                let is_unmatched = own_joins || standby_joins;
                let recent = Recent::default();
                self.state = if is_unmatched {
                    State::Unmatched { reference, recent }
                } else {
                    State::Differing(Box::default())
                };
                (self.compared_at_ms, self.comparison) = (None, None);
            }
        }
    }
}

impl Recent {
    fn take_in(&mut self, payload: &Payload, now_ms: u64) {
        if self.payloads.len() >= FEW_MAX {
            return;
        }
        if self.payloads.is_empty() {
            (self.first_ms, self.read_ns.0) = (now_ms, payload.received_at_ns);
        }
        (self.last_ms, self.read_ns.1) = (now_ms, payload.received_at_ns);
        self.payloads.push(kept(&payload.bytes));
    }

    fn is_ready(&self, now_ms: u64) -> bool {
        let is_full = self.payloads.len() >= FEW_MAX && now_ms.saturating_sub(self.last_ms) >= LATE_MS_MAX;
        is_full || !self.payloads.is_empty() && now_ms.saturating_sub(self.first_ms) >= PATIENCE_MS
    }
}

impl Lonely {
    /// A full list takes nothing: what leaves it makes room, so that it is a sample of some seconds, however quick the feed.
    fn take_in(&mut self, frame: &Frame<Payload>, now_ms: u64) {
        let bytes = frame.payload.bytes.len().min(MESSAGE_BYTES_MAX);
        if self.candidates.len() < CANDIDATES_MAX && self.candidate_bytes + bytes <= KEPT_BYTES_MAX {
            let (fingerprint, payload) = (frame.fingerprint, kept(&frame.payload.bytes));
            self.candidates.push(Candidate { fingerprint, taken_ms: now_ms, payload });
            self.candidate_bytes += bytes;
        }
    }

    /// The twin has delivered it: whether it was known here.
    fn has_met(&mut self, fingerprint: Fingerprint) -> bool {
        self.take(fingerprint).is_some()
    }

    fn take(&mut self, fingerprint: Fingerprint) -> Option<Bytes> {
        let place = self.candidates.iter().position(|candidate| candidate.fingerprint == fingerprint)?;
        let payload = self.candidates.swap_remove(place).payload;
        self.candidate_bytes -= payload.len();
        Some(payload)
    }

    /// The merge says so.
    fn is_alone(&mut self, fingerprint: Fingerprint) {
        let Some(payload) = self.take(fingerprint) else { return };
        self.alone_bytes += payload.len();
        self.alone.push_back(payload);
        while self.alone.len() > ALONE_MAX || self.alone_bytes > KEPT_BYTES_MAX {
            self.alone_bytes -= self.alone.pop_front().map_or(0, |payload| payload.len());
        }
    }

    fn age(&mut self, now_ms: u64) {
        self.candidates.retain(|candidate| now_ms.saturating_sub(candidate.taken_ms) < CANDIDATE_MS_MAX);
        self.candidate_bytes = self.candidates.iter().map(|candidate| candidate.payload.len()).sum();
    }
}

/// A copy: the original is a part of what was read from a socket at once, which would stay as a whole.
fn kept(payload: &Bytes) -> Bytes {
    Bytes::copy_from_slice(&payload[..payload.len().min(MESSAGE_BYTES_MAX)])
}

/// The frames of a side that is joining that were read at about that time, oldest first.
fn nearest(merge: &Merge<Payload>, side: Side, (from_ns, to_ns): (u64, u64)) -> Vec<Bytes> {
    let middle_ns = from_ns / 2 + to_ns / 2;
    let mut frames: Vec<_> = merge.samples(side, usize::MAX).map(|(_, payload)| payload).collect();
    let first = frames.partition_point(|payload| payload.received_at_ns < middle_ns);
    let start = first.saturating_sub(MANY_MAX / 2).min(frames.len().saturating_sub(MANY_MAX));
    let mut around = frames.split_off(start);
    around.truncate(MANY_MAX);
    around.into_iter().map(|payload| payload.bytes.clone()).collect()
}

fn is_over(since_ms: Option<u64>, lasts_ms: u64, now_ms: u64) -> bool {
    since_ms.is_none_or(|since_ms| now_ms.saturating_sub(since_ms) >= lasts_ms)
}

#[cfg(test)]
mod tests {
    use twinfeed_dedup::{Options, SubscriptionId};

    use super::*;
    use crate::{
        frame::{self, FrameKind},
        payload::numbered,
    };

    const OWN: SubscriptionId = SubscriptionId(1);
    const STANDBY: SubscriptionId = SubscriptionId(2);

    struct Scene {
        merge: Merge<Payload>,
        differences: Differences,
        indices: [u64; 2],
        now_ms: u64,
        told: Vec<(u64, Arc<Comparison>)>,
    }

    impl Scene {
        fn new() -> Self {
            let mut merge = Merge::new(Options::default(), 1);
            merge.own_subscription(Some(OWN), 0);
            merge.standby_joined();
            merge.standby_subscription(Some(STANDBY), 0);
            Self { merge, differences: Differences::default(), indices: [0; 2], now_ms: 0, told: Vec::new() }
        }

        fn deliver(&mut self, side: Side, text: &str) {
            self.indices[side as usize] += 1;
            let subscription = if side == Side::Own { OWN } else { STANDBY };
            let (payload, received_at_ns) = (Bytes::from(text.to_owned()), self.now_ms * 1_000_000);
            let frame = frame::Frame { kind: FrameKind::Text, payload, received_at_ns };
            let frame = numbered(subscription, self.indices[side as usize], frame);
            self.differences.take_in(side, &frame, self.now_ms);
            self.merge.frame(frame, self.now_ms);
        }

        /// A message each 50 ms, and what each line makes of it, the standby's 200 ms late.
        fn run(&mut self, seconds: u64, says: impl Fn(Side, u64) -> Vec<String>) {
            for _ in 0..seconds * 20 {
                self.now_ms += 50;
                let n = self.now_ms / 50;
                says(Side::Own, n).iter().for_each(|text| self.deliver(Side::Own, text));
                says(Side::Standby, n.saturating_sub(4)).iter().for_each(|text| self.deliver(Side::Standby, text));
                if self.merge.cut(self.now_ms, 1_000, 1_000_000).is_some() {
                    self.merge.committed();
                }
                Side::BOTH.iter().for_each(|side| self.merge.caught_up(*side, self.now_ms));
                self.differences.look(&self.merge, self.now_ms);
                let joining_since_ms = self.merge.status().standby_joining_since_ms;
                let unmatched_ms = joining_since_ms.map_or(0, |since_ms| self.now_ms - since_ms);
                self.told.extend(self.differences.news(unmatched_ms, self.now_ms).map(|news| (self.now_ms, news)));
            }
        }

        fn is_empty(&self) -> bool {
            matches!(self.differences.state, State::Agreeing) && self.differences.comparison.is_none()
        }
    }

    fn trade(n: u64) -> String {
        format!(r#"{{"type":"trade","seq":{n},"price":{}}}"#, 100 + n % 13)
    }

    #[test]
    fn lines_that_are_never_matched_are_compared_and_told_of_every_ten_minutes() {
        let mut scene = Scene::new();
        let numbered = |side: Side, n: u64| vec![format!(r#"{{"connection":{},"seq":{n}}}"#, side as u64)];
        scene.run(29, numbered);
        let comparison = scene.differences.comparison().expect("compared before anybody is told").clone();
        assert_eq!((comparison.differs, comparison.pointers.as_slice()), (true, &["/connection".to_owned()][..]));
        assert!(scene.told.is_empty(), "a slow join is no news");
        scene.run(600, numbered);
        assert_eq!(scene.told.len(), 1);
        scene.run(60, numbered);
        let at_s: Vec<u64> = scene.told.iter().map(|(at_ms, _)| at_ms / 1_000).collect();
        assert_eq!(at_s, [30, 630]);
        assert_eq!(scene.told[0].1.pointers, ["/connection"]);
    }

    #[test]
    fn what_each_line_alone_has_is_found_among_what_both_have() {
        let mut scene = Scene::new();
        let beats = |side: Side, n: u64| {
            let mut texts = vec![trade(n)];
            let beats = n > 400 && n.is_multiple_of(10);
            texts.extend(beats.then(|| format!(r#"{{"type":"beat","who":{},"n":{n}}}"#, side as u64)));
            texts
        };
        scene.run(70, beats);
        assert!(scene.merge.status().standby_aligned);
        let comparison = scene.differences.comparison().expect("a tenth of the messages is alone");
        assert!(comparison.pairs.iter().all(|(own, standby)| own.contains("beat") && standby.contains("beat")));
        assert_eq!(comparison.pointers, ["/who"], "{comparison:?}");
        scene.run(60, beats);
        assert!(scene.told.is_empty(), "not yet for two minutes: {:?}", scene.told);
        scene.run(60, beats);
        assert_eq!(scene.told.len(), 1);
    }

    #[test]
    fn a_line_that_leaves_messages_out_is_shown_one_sided_and_a_small_share_is_no_news() {
        let mut scene = Scene::new();
        scene.run(150, |side, n| (side == Side::Own || !n.is_multiple_of(50)).then(|| trade(n)).into_iter().collect());
        let comparison = scene.differences.comparison().expect("2 % are alone");
        assert!(!comparison.pairs.is_empty());
        assert!(comparison.pairs.iter().all(|(own, standby)| !own.is_empty() && standby.is_empty()), "{comparison:?}");
        assert!(scene.told.is_empty());
    }

    #[test]
    fn a_line_that_was_silent_once_is_no_news() {
        let mut scene = Scene::new();
        scene.run(20, |_, n| vec![trade(n)]);
        scene.run(45, |side, n| if side == Side::Own { vec![trade(n)] } else { Vec::new() });
        scene.run(180, |_, n| vec![trade(n)]);
        assert!(scene.told.is_empty() && scene.is_empty(), "{:?}", scene.told);
    }

    #[test]
    fn nothing_is_kept_of_lines_that_agree() {
        let mut scene = Scene::new();
        scene.run(30, |_, n| vec![trade(n)]);
        assert!(scene.merge.status().standby_aligned && scene.is_empty());
        scene.run(30, |side, n| if side == Side::Own { vec![trade(n), format!("own {n}")] } else { vec![trade(n)] });
        assert!(!scene.is_empty());
        scene.run(90, |_, n| vec![trade(n)]);
        assert!(scene.is_empty(), "{:?}", scene.differences);
    }

    #[test]
    fn what_is_kept_has_a_bound() {
        let mut scene = Scene::new();
        let long = "x".repeat(40_000);
        scene.run(40, |side, n| {
            let own = (0..20).map(|i| format!("{} {n} {i} {long}", side as u64));
            if n < 200 { vec![trade(n)] } else { own.chain([trade(n)]).collect() }
        });
        match &scene.differences.state {
            State::Differing(lonely) => {
                for side in lonely.iter() {
                    assert!(side.candidate_bytes <= KEPT_BYTES_MAX && side.alone_bytes <= KEPT_BYTES_MAX);
                    assert!(side.candidates.len() <= CANDIDATES_MAX && side.alone.len() <= ALONE_MAX);
                    assert_eq!(side.alone_bytes, side.alone.iter().map(Bytes::len).sum::<usize>());
                }
            }
            other => panic!("{other:?}"),
        }
    }
}
