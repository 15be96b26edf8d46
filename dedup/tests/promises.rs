//! What a merge and a retention promise one by one, as short stories; the simulation tells the long ones.

use proptest::prelude::*;
use twinfeed_dedup::{
    Ack, Fingerprint, Frame, FrameKind, Ignored, Merge, Notice, Observed, Options, Record, RecordId, Resolved,
    Retention, Side, SnapshotError, SubscriptionId, TailRecord, ToStandby,
};

const OWN: SubscriptionId = SubscriptionId(71);
const STANDBY: SubscriptionId = SubscriptionId(13);
const LATER: SubscriptionId = SubscriptionId(42);

fn fingerprint(payload: &str) -> Fingerprint {
    Fingerprint::of(FrameKind::Text, payload.as_bytes())
}

fn frame(subscription: SubscriptionId, index: u64, payload: &str) -> Frame<String> {
    Frame { subscription, index, fingerprint: fingerprint(payload), bytes: payload.len(), payload: payload.to_owned() }
}

fn tail_record(id: RecordId, payload: &str, (subscription, index): (SubscriptionId, u64)) -> TailRecord {
    TailRecord { id, fingerprint: fingerprint(payload), subscription, index, acknowledged: false }
}

/// The numbered payloads `m<from>` to `m<until - 1>` with indices from `index` on.
fn deliver(
    merge: &mut Merge<String>,
    subscription: SubscriptionId,
    index: u64,
    numbers: std::ops::Range<u64>,
    now_ms: u64,
) {
    for (index, number) in (index..).zip(numbers) {
        merge.frame(frame(subscription, index, &format!("m{number}")), now_ms);
    }
}

fn cut(merge: &mut Merge<String>, now_ms: u64) -> Vec<Record<String>> {
    merge.cut(now_ms, 1_000_000, usize::MAX).unwrap_or_default()
}

fn acks(merge: &mut Merge<String>) -> Vec<Ack> {
    let acks = merge.take_messages().into_iter().filter_map(|message| match message {
        ToStandby::Ack(ack) => Some(ack),
        ToStandby::Surplus { .. } => None,
    });
    acks.collect()
}

/// A merge whose two subscriptions have delivered `m0..m100`, all of it committed and acknowledged.
fn redundant_merge() -> Merge<String> {
    let mut merge = Merge::new(Options::default(), 7);
    merge.own_subscription(Some(OWN), 0);
    merge.standby_joined();
    merge.standby_subscription(Some(STANDBY), 0);
    deliver(&mut merge, OWN, 1, 0..100, 10);
    deliver(&mut merge, STANDBY, 1, 0..100, 20);
    assert_eq!(cut(&mut merge, 30).len(), 100);
    merge.committed();
    assert!(merge.status().redundant, "{:?}", merge.status());
    merge.take_messages();
    merge.take_notices();
    merge
}

#[test]
fn repeats_of_one_subscription_are_messages() {
    let mut merge = Merge::new(Options::default(), 1);
    merge.own_subscription(Some(OWN), 0);
    for index in 1..=3 {
        assert_eq!(merge.frame(frame(OWN, index, "same"), 0), Observed::Fresh);
    }
    let ids: Vec<RecordId> = cut(&mut merge, 0).iter().map(|record| record.id).collect();
    assert_eq!(ids, [1, 2, 3].map(|sequence| RecordId { epoch: 1, sequence }));
}

#[test]
fn one_batch_is_in_flight_and_limits_hold() {
    let mut merge = Merge::new(Options::default(), 1);
    merge.own_subscription(Some(OWN), 0);
    deliver(&mut merge, OWN, 1, 0..10, 0);
    assert_eq!(merge.cut(0, 4, usize::MAX).map(|batch| batch.len()), Some(4));
    assert_eq!(merge.cut(0, 4, usize::MAX), None, "one is in flight");
    merge.committed();
    assert_eq!(merge.cut(0, 9, 5).map(|batch| batch.len()), Some(2), "two bytes each");
    merge.committed();
    assert_eq!(merge.cut(0, 9, 1).map(|batch| batch.len()), Some(1), "at least one");
}

#[test]
fn a_newcomer_is_redundant_only_after_a_commit() {
    let mut merge = Merge::new(Options::default(), 1);
    merge.own_subscription(Some(OWN), 0);
    merge.standby_joined();
    merge.standby_subscription(Some(STANDBY), 0);
    deliver(&mut merge, OWN, 1, 0..100, 10);
    deliver(&mut merge, STANDBY, 1, 50..130, 20);
    assert!(!merge.status().standby_aligned, "50 clean cuts are not enough");
    deliver(&mut merge, OWN, 101, 100..130, 30);
    deliver(&mut merge, STANDBY, 81, 130..150, 30);
    let status = merge.status();
    assert!(status.standby_aligned && !status.redundant && status.at_risk, "{status:?}");
    cut(&mut merge, 40);
    merge.committed();
    assert!(merge.status().redundant && !merge.status().at_risk);
    let last = acks(&mut merge).pop().expect("a commit is acknowledged");
    assert!(last.aligned && last.redundant && last.subscription == STANDBY);
    assert_eq!(last.resolved.len(), 100, "every frame of the standby, individually");
}

#[test]
fn a_quiet_feed_becomes_redundant_without_a_commit() {
    let mut merge = Merge::new(Options::default(), 1);
    merge.own_subscription(Some(OWN), 0);
    deliver(&mut merge, OWN, 1, 0..20, 0);
    cut(&mut merge, 0);
    merge.committed();
    merge.standby_joined();
    merge.standby_subscription(Some(STANDBY), 0);
    for number in 10..20 {
        merge.frame(frame(STANDBY, number - 9, &format!("m{number}")), number * 200);
    }
    assert!(merge.status().standby_aligned, "ten equal frames over two seconds are believed");
    merge.idle_cut(4_000);
    let told = acks(&mut merge);
    assert_eq!(told.len(), 1);
    assert!(told[0].redundant && told[0].resolved.len() == 10);
    merge.idle_cut(4_010);
    assert_eq!(acks(&mut merge), [], "no news, no ack");
}

#[test]
fn ten_equal_frames_at_once_are_not_believed() {
    let mut merge = Merge::new(Options::default(), 1);
    merge.own_subscription(Some(OWN), 0);
    deliver(&mut merge, OWN, 1, 0..20, 0);
    merge.standby_joined();
    merge.standby_subscription(Some(STANDBY), 0);
    deliver(&mut merge, STANDBY, 1, 10..20, 5);
    assert!(!merge.status().standby_aligned);
}

/// What a new owner knows to be in the topic without having delivered it.
fn surplus(retention: Retention<String>) -> usize {
    Merge::take_over(Options::default(), 8, retention, [], 1_000).status().entries
}

#[test]
fn unseen_records_reach_the_standby_and_leave_its_surplus_again() {
    for (delivered_too, left) in [(0, 3), (2, 1)] {
        let mut merge = redundant_merge();
        let mut retention: Retention<String> = Retention::new(Options::default());
        retention.subscribed(STANDBY);
        deliver(&mut merge, OWN, 101, 100..103, 40);
        cut(&mut merge, 50);
        merge.committed();
        deliver(&mut merge, STANDBY, 101, 100..100 + delivered_too, 60);
        merge.idle_cut(70);
        for message in merge.take_messages() {
            retention.receive(message).expect("an ack has no bytes");
        }
        assert!(retention.is_redundant());
        assert_eq!(surplus(retention), left);
    }
}

#[test]
fn frames_before_and_beyond_the_next_index_are_not_taken_in() {
    let mut merge = redundant_merge();
    assert_eq!(merge.next_index(STANDBY), Some(101));
    assert_eq!(merge.frame(frame(STANDBY, 100, "m99"), 40), Observed::Ignored(Ignored::AlreadyReceived));
    assert_eq!(merge.frame(frame(STANDBY, 102, "m101"), 40), Observed::Ignored(Ignored::Hole));
    assert_eq!(merge.frame(frame(LATER, 1, "m101"), 40), Observed::Ignored(Ignored::UnknownSubscription));
    merge.standby_subscription(Some(LATER), 50);
    assert_eq!(merge.frame(frame(STANDBY, 101, "m100"), 60), Observed::Ignored(Ignored::Superseded));
    assert_eq!((merge.next_index(STANDBY), merge.next_index(LATER)), (Some(101), Some(1)));
    assert_eq!(merge.standby_next_indices().collect::<Vec<_>>(), [(STANDBY, 101), (LATER, 1)]);
}

#[test]
fn a_lone_subscription_that_reconnects_is_accepted_by_fiat() {
    let mut merge = Merge::new(Options::default(), 1);
    merge.own_subscription(Some(OWN), 0);
    deliver(&mut merge, OWN, 1, 0..100, 1_000);
    merge.own_subscription(None, 1_100);
    merge.own_subscription(Some(LATER), 1_200);
    deliver(&mut merge, LATER, 1, 150..160, 1_300);
    assert_eq!(cut(&mut merge, 1_400).len(), 100, "it waits for a match");
    merge.committed();
    assert_eq!(cut(&mut merge, 1_600).len(), 10, "and is written in the end");
    let fiat = Notice::AlignedByFiat { subscription: LATER, last_before_ms: Some(1_000), first_after_ms: 1_300 };
    assert_eq!(merge.take_notices(), [fiat]);
}

#[test]
fn a_gap_has_its_beginning_however_long_it_was() {
    let mut merge = Merge::new(Options::default(), 1);
    merge.own_subscription(Some(OWN), 0);
    deliver(&mut merge, OWN, 1, 0..5, 1_000);
    cut(&mut merge, 1_010);
    merge.committed();
    merge.own_subscription(None, 1_100);
    merge.own_subscription(Some(LATER), 3_600_000);
    deliver(&mut merge, LATER, 1, 5..9, 3_600_500);
    let fiat = Notice::AlignedByFiat { subscription: LATER, last_before_ms: Some(1_000), first_after_ms: 3_600_500 };
    merge.idle_cut(3_601_000);
    assert_eq!(merge.take_notices(), [fiat]);
    assert_eq!(cut(&mut merge, 3_601_000).len(), 4);
}

#[test]
fn a_lone_subscription_that_reconnects_with_a_backlog_is_matched() {
    let mut merge = Merge::new(Options::default(), 1);
    merge.own_subscription(Some(OWN), 0);
    deliver(&mut merge, OWN, 1, 0..100, 1_000);
    merge.own_subscription(None, 1_100);
    merge.own_subscription(Some(LATER), 1_200);
    deliver(&mut merge, LATER, 1, 95..110, 1_300);
    assert_eq!(cut(&mut merge, 1_700).len(), 110);
    assert_eq!(merge.take_notices(), [Notice::Aligned { subscription: LATER, after_frames: 15 }]);
}

/// Nothing to vote with: the standby never aligns, and the owner's messages flow all the same.
#[test]
fn a_feed_without_unique_payloads_flows_and_stays_at_risk() {
    let mut merge = Merge::new(Options::default(), 1);
    merge.own_subscription(Some(OWN), 0);
    merge.standby_joined();
    merge.standby_subscription(Some(STANDBY), 0);
    let mut written = 0;
    for index in 1..=20_000 {
        merge.frame(frame(OWN, index, "heartbeat"), index);
        merge.frame(frame(STANDBY, index, "heartbeat"), index);
        if index % 100 == 0 {
            written += cut(&mut merge, index).len();
            merge.committed();
        }
    }
    let status = merge.status();
    assert_eq!(written, 20_000);
    assert!(status.at_risk && !status.standby_aligned, "{status:?}");
    assert_eq!(status.joining_frames, Options::default().joining_frames_max, "the buffer is bounded");
    let resolved: usize = acks(&mut merge).iter().map(|ack| ack.resolved.len()).sum();
    assert_eq!(resolved, 20_000 - status.joining_frames, "what left the buffer need not be retained");
}

/// The owner's connection comes back, never aligns, and then the standby's ends: the owner's goes on.
#[test]
fn an_unaligned_own_subscription_takes_over_when_the_reference_ends() {
    let mut merge = redundant_merge();
    merge.own_subscription(None, 50);
    merge.own_subscription(Some(LATER), 60);
    deliver(&mut merge, LATER, 1, 100..110, 100);
    assert_eq!(cut(&mut merge, 150).len(), 0);
    merge.standby_subscription(None, 200);
    assert_eq!(cut(&mut merge, 600).len(), 10);
    assert!(merge.status().own_aligned);
}

#[test]
fn a_silent_reference_does_not_hold_a_delivering_newcomer_for_ever() {
    let mut merge = redundant_merge();
    merge.own_subscription(None, 50);
    merge.own_subscription(Some(LATER), 60);
    for index in 1..=60 {
        merge.frame(frame(LATER, index, &format!("m{}", index + 99)), 100 + index * 50);
    }
    assert!(merge.status().own_aligned);
    assert_eq!(cut(&mut merge, 4_000).len(), 60);
}

/// A backlog after a stalled relay arrives at once: that is no reason to give up on a quiet owner.
#[test]
fn a_backlog_does_not_make_the_reference_silent() {
    let mut merge = redundant_merge();
    merge.standby_subscription(Some(LATER), 50);
    deliver(&mut merge, OWN, 101, 100..110, 1_000);
    deliver(&mut merge, LATER, 1, 100..110, 60_000);
    merge.idle_cut(61_000);
    assert!(!merge.status().standby_aligned);
    assert_eq!(merge.take_notices(), []);
}

#[test]
fn a_standby_that_lags_beyond_the_window_aligns_anew() {
    let options = Options { entries_max: 1_024, ring_frames_max: 512, ..Options::default() };
    let mut merge = Merge::new(options, 1);
    merge.own_subscription(Some(OWN), 0);
    merge.standby_joined();
    merge.standby_subscription(Some(STANDBY), 0);
    deliver(&mut merge, OWN, 1, 0..100, 0);
    deliver(&mut merge, STANDBY, 1, 0..100, 0);
    assert!(merge.status().standby_aligned);
    deliver(&mut merge, OWN, 101, 100..3_000, 10);
    assert!(merge.take_notices().contains(&Notice::AlignmentLost { subscription: STANDBY }));
    deliver(&mut merge, STANDBY, 101, 100..3_000, 20);
    assert!(merge.status().standby_aligned, "the backlog has aligned it again");
    assert_eq!(cut(&mut merge, 30).len(), 3_000, "and repeated nothing");
}

#[test]
fn a_subscription_that_ended_does_not_hold_the_window() {
    let mut merge = redundant_merge();
    merge.standby_subscription(None, 50);
    for number in 100..40_000 {
        merge.frame(frame(OWN, number + 1, &format!("m{number}")), number * 10);
        if number % 100 == 0 {
            cut(&mut merge, number * 10);
            merge.committed();
        }
    }
    assert!(merge.status().entries < 2_000, "{:?}", merge.status());
    merge.own_subscription(None, 400_000);
    merge.own_subscription(Some(LATER), 400_010);
    for number in 39_990..80_000 {
        merge.frame(frame(LATER, number - 39_989, &format!("m{number}")), number * 10 + 1_000);
        if number % 100 == 0 {
            cut(&mut merge, number * 10 + 1_000);
            merge.committed();
        }
    }
    assert!(merge.status().entries < 2_000, "{:?}", merge.status());
}

#[test]
fn feeds_that_differ_are_reported_and_united() {
    let mut merge = redundant_merge();
    for number in 0..5_000_u64 {
        let now_ms = 100 + number * 10;
        merge.frame(frame(OWN, number + 101, &format!("n{number}")), now_ms);
        let theirs = if number % 10 == 0 { format!("conflated {number}") } else { format!("n{number}") };
        merge.frame(frame(STANDBY, number + 101, &theirs), now_ms);
        if number % 50 == 0 {
            cut(&mut merge, now_ms);
            merge.committed();
        }
    }
    let reports: Vec<SubscriptionId> = merge
        .take_notices()
        .into_iter()
        .filter_map(|notice| match notice {
            Notice::FeedsDiffer { subscription, .. } => Some(subscription),
            _ => None,
        })
        .collect();
    assert_eq!(reports, [OWN, STANDBY]);
    assert!(merge.status().entries < 4_000, "unmatched entries leave: {:?}", merge.status());
}

#[test]
fn takeover_writes_what_the_topic_lacks_and_nothing_else() {
    let mut retention = Retention::new(Options::default());
    retention.subscribed(STANDBY);
    let ack = Ack { subscription: STANDBY, unseen: Vec::new(), resolved: Vec::new(), aligned: true, redundant: true };
    retention.receive(ToStandby::Ack(ack)).expect("an ack has no bytes");
    for (index, payload) in (1..).zip(["a", "b", "a", "c", "d"]) {
        retention.frame(frame(STANDBY, index, payload));
    }
    let record = |sequence| RecordId { epoch: 3, sequence };
    let tail = [
        tail_record(record(1), "a", (OWN, 9)),
        tail_record(record(2), "c", (STANDBY, 4)),
        tail_record(record(3), "d", (OWN, 10)),
        tail_record(record(4), "e", (OWN, 11)),
    ];
    let mut merge = Merge::take_over(Options::default(), 4, retention, tail, 0);
    let written: Vec<String> = cut(&mut merge, 0).into_iter().map(|record| record.payload).collect();
    assert_eq!(written, ["b", "a"]);
    assert_eq!(merge.frame(frame(STANDBY, 6, "e"), 10), Observed::Duplicate, "live: the surplus is waiting for it");
    assert_eq!(merge.frame(frame(STANDBY, 7, "e"), 10), Observed::Fresh);
}

/// An owner that is cut off from its peers goes on writing until it is fenced: what its last ack says is long past, and the
/// new standby has connected meanwhile.
#[test]
fn a_newcomer_finds_what_a_cut_off_owner_wrote_after_its_last_ack() {
    let mut retention = Retention::new(Options::default());
    retention.subscribed(STANDBY);
    (1..=2_000).for_each(|index| retention.frame(frame(STANDBY, index, &format!("m{index}"))));
    let resolved = (1..=50).map(|index| Resolved { subscription: STANDBY, index, record: RecordId::UNKNOWN }).collect();
    let ack = Ack { subscription: STANDBY, unseen: Vec::new(), resolved, aligned: true, redundant: true };
    retention.receive(ToStandby::Ack(ack)).expect("an ack has no bytes");
    let tail = (51..=2_000).map(|n| tail_record(RecordId { epoch: 3, sequence: n }, &format!("m{n}"), (OWN, n)));
    let mut merge = Merge::take_over(Options::default(), 4, retention, tail, 0);
    assert_eq!(cut(&mut merge, 0).len(), 0, "the topic has everything");
    merge.standby_joined();
    merge.standby_subscription(Some(LATER), 10);
    let mut written = Vec::new();
    // What it got while the takeover was under way comes at once, what follows comes from both.
    for n in 501..=2_100 {
        merge.frame(frame(LATER, n - 500, &format!("m{n}")), 20);
        if n > 2_000 {
            merge.frame(frame(STANDBY, n, &format!("m{n}")), 20);
        }
        written.extend(cut(&mut merge, 20).into_iter().map(|record| record.payload));
        merge.committed();
    }
    assert!(merge.status().standby_aligned, "{:?}", merge.status());
    let expected: Vec<String> = (2_001..=2_100).map(|n| format!("m{n}")).collect();
    assert_eq!(written, expected);
}

/// A standby whose owner died before it had aligned it knows nothing of its place in the feed: repeats must not be taken
/// for those that the topic has had long before.
#[test]
fn a_standby_that_was_never_aligned_finds_its_place_in_the_tail() {
    // Every third message is a repeat.
    let payload = |n: u64| if n.is_multiple_of(3) { format!("r{}", n % 4) } else { format!("m{n}") };
    for (first, expected_from) in [(901, 1_001), (1_001, 1_001), (1_011, 1_011)] {
        let mut retention = Retention::new(Options::default());
        // What an earlier line of it had not seen is no matter of this one.
        retention.subscribed(LATER);
        let unseen = vec![(RecordId { epoch: 2, sequence: 9 }, fingerprint("r1"))];
        let ack = Ack { subscription: LATER, unseen, resolved: Vec::new(), aligned: true, redundant: true };
        retention.receive(ToStandby::Ack(ack)).expect("an ack has no bytes");
        retention.subscribed(STANDBY);
        for n in first..=1_100 {
            retention.frame(frame(STANDBY, n + 1 - first, &payload(n)));
        }
        assert!(retention.has_unplaced());
        let tail = (1..=1_000).map(|n| tail_record(RecordId { epoch: 3, sequence: n }, &payload(n), (OWN, n)));
        let mut merge = Merge::take_over(Options::default(), 4, retention, tail, 0);
        let written: Vec<String> = cut(&mut merge, 0).into_iter().map(|record| record.payload).collect();
        let expected: Vec<String> = (expected_from..=1_100).map(payload).collect();
        assert_eq!(written, expected, "frames from {first} on");
    }
}

/// Frames that begin after the tail, and say again once what it holds: nothing of them is old.
#[test]
fn a_standby_without_an_overlap_loses_no_repeat() {
    for lacks in [0, 1] {
        let mut retention = Retention::new(Options::default());
        retention.subscribed(STANDBY);
        let said = |n: u64| if n.is_multiple_of(3) { format!("m{}", n - 900 - lacks) } else { format!("m{n}") };
        for n in 1_101..=1_400 {
            retention.frame(frame(STANDBY, n - 1_100, &said(n)));
        }
        let tail = (1..=1_000).map(|n| tail_record(RecordId { epoch: 3, sequence: n }, &format!("m{n}"), (OWN, n)));
        let mut merge = Merge::take_over(Options::default(), 4, retention, tail, 0);
        let written: Vec<String> = cut(&mut merge, 0).into_iter().map(|record| record.payload).collect();
        let expected: Vec<String> = (1_101..=1_400).map(said).collect();
        assert_eq!(written, expected);
        assert_eq!(merge.frame(frame(STANDBY, 301, "m999"), 10), Observed::Fresh);
    }
}

/// The line without a place leaves a channel out, and much is said twice.
#[test]
fn a_standby_that_lacks_a_channel_finds_its_place_in_the_tail() {
    let payload = |n: u64| if n.is_multiple_of(4) { format!("m{}", n / 2) } else { format!("m{n}") };
    let is_lacked = |n: u64| n.is_multiple_of(3);
    let mut retention = Retention::new(Options::default());
    retention.subscribed(STANDBY);
    for (index, n) in (1..).zip((701..=1_100).filter(|n| !is_lacked(*n))) {
        retention.frame(frame(STANDBY, index, &payload(n)));
    }
    let tail = (1..=1_000).map(|n| tail_record(RecordId { epoch: 3, sequence: n }, &payload(n), (OWN, n)));
    let mut merge = Merge::take_over(Options::default(), 4, retention, tail, 0);
    let written: Vec<String> = cut(&mut merge, 0).into_iter().map(|record| record.payload).collect();
    let expected: Vec<String> = (1_001..=1_100).filter(|n| !is_lacked(*n)).map(payload).collect();
    assert_eq!(written, expected);
}

/// While a batch is long under way, the owner's line comes: it may have begun before the standby's, and have what nobody else has.
#[test]
fn a_standby_hears_at_once_that_it_is_redundant_no_more() {
    let mut merge = Merge::new(Options::default(), 7);
    merge.standby_joined();
    merge.standby_subscription(Some(STANDBY), 0);
    deliver(&mut merge, STANDBY, 1, 0..10, 10);
    assert_eq!(cut(&mut merge, 20).len(), 10);
    merge.committed();
    assert_eq!(acks(&mut merge).last().map(|ack| ack.redundant), Some(true));
    deliver(&mut merge, STANDBY, 11, 10..20, 30);
    assert_eq!(cut(&mut merge, 40).len(), 10);
    merge.own_subscription(Some(OWN), 50);
    merge.caught_up(Side::Own, 200);
    assert_eq!(acks(&mut merge).last().map(|ack| ack.redundant), Some(false));
    merge.caught_up(Side::Own, 400);
    assert!(acks(&mut merge).is_empty(), "it knows");
}

/// Acks of an owner that has forgotten a standby's lines say nothing of the frames that are left of them.
#[test]
fn what_a_forgotten_standby_holds_has_no_place() {
    let mut retention = Retention::new(Options::default());
    retention.subscribed(STANDBY);
    let ack = Ack { subscription: STANDBY, unseen: Vec::new(), resolved: Vec::new(), aligned: true, redundant: true };
    retention.receive(ToStandby::Ack(ack)).expect("an ack has no bytes");
    retention.frame(frame(STANDBY, 1, "x"));
    assert!(!retention.has_unplaced());
    retention.forgotten();
    assert!(retention.has_unplaced());
}

/// The last connection had its place, the present one not yet: what was acknowledged is new to the frames of the one, and may be
/// among those of the other.
#[test]
fn a_line_with_a_place_and_one_without_are_matched_each_with_its_own_part_of_the_tail() {
    let mut retention = Retention::new(Options::default());
    retention.subscribed(LATER);
    let ack = |resolved| Ack { subscription: LATER, unseen: Vec::new(), resolved, aligned: true, redundant: true };
    retention.receive(ToStandby::Ack(ack(Vec::new()))).expect("an ack has no bytes");
    // A heartbeat that the topic has had before, and one message that only this line brought.
    retention.frame(frame(LATER, 1, "heartbeat"));
    retention.frame(frame(LATER, 2, "alone"));
    retention.subscribed(STANDBY);
    for n in 1..=200 {
        retention.frame(frame(STANDBY, n, &format!("m{n}")));
    }
    retention.frame(frame(STANDBY, 201, "heartbeat"));
    let first = ["heartbeat".to_owned()].into_iter().chain((1..=150).map(|n| format!("m{n}")));
    let tail = (1..).zip(first).map(|(n, payload)| TailRecord {
        acknowledged: n <= 140,
        ..tail_record(RecordId { epoch: 3, sequence: n }, &payload, (OWN, n))
    });
    let mut merge = Merge::take_over(Options::default(), 4, retention, tail, 0);
    let written: Vec<String> = cut(&mut merge, 0).into_iter().map(|record| record.payload).collect();
    let expected: Vec<String> = ["heartbeat".to_owned(), "alone".to_owned()]
        .into_iter()
        .chain((151..=200).map(|n| format!("m{n}")))
        .chain(["heartbeat".to_owned()])
        .collect();
    assert_eq!(written, expected);
}

#[test]
fn a_retention_gives_up_the_oldest_and_continues_a_relay_anywhere() {
    let mut retention = Retention::new(Options::default());
    retention.subscribed(STANDBY);
    (1..=5).for_each(|index| retention.frame(frame(STANDBY, index, "x")));
    let from: Vec<u64> = retention.retained_from(STANDBY, 4).map(|frame| frame.index).collect();
    assert_eq!(from, [4, 5]);
    assert_eq!(retention.drop_oldest().map(|dropped| (dropped.frame.index, dropped.is_gap)), Some((1, false)));
    let resolved = vec![Resolved { subscription: STANDBY, index: 3, record: RecordId::UNKNOWN }];
    let ack = Ack { subscription: LATER, unseen: Vec::new(), resolved, aligned: true, redundant: true };
    retention.receive(ToStandby::Ack(ack)).expect("an ack has no bytes");
    let left: Vec<u64> = retention.retained().map(|frame| frame.index).collect();
    assert_eq!(left, [2, 4, 5]);
    assert!(!retention.is_redundant(), "the ack speaks of another subscription");
}

#[test]
fn a_damaged_snapshot_changes_nothing() {
    let mut retention: Retention<String> = Retention::new(Options::default());
    retention.subscribed(STANDBY);
    let message = ToStandby::Surplus { subscription: STANDBY, snapshot: b"TFSP but not really a snapshot".to_vec() };
    assert!(matches!(retention.receive(message), Err(SnapshotError::Version { .. })));
    assert_eq!(surplus(retention), 0);
}

/// The window in ten lines: the count of a payload in the topic is the largest count of any subscription.
fn naive(frames: &[(bool, u8)]) -> Vec<u8> {
    let (mut written, mut seen) = (Vec::new(), [[0; 256]; 2]);
    for (is_standby, payload) in frames {
        let count = &mut seen[usize::from(*is_standby)][usize::from(*payload)];
        *count += 1;
        if *count > written.iter().filter(|written| *written == payload).count() {
            written.push(*payload);
        }
    }
    written
}

proptest! {
    /// Aligned subscriptions in any order, with any repeats, give what the naive window gives.
    #[test]
    fn the_window_is_the_naive_window(frames in prop::collection::vec((any::<bool>(), 0_u8..6), 0..400), commits in 1_usize..40) {
        let mut merge = redundant_merge();
        let (mut indices, mut written) = ([100_u64; 2], Vec::new());
        for (number, (is_standby, payload)) in frames.iter().enumerate() {
            indices[usize::from(*is_standby)] += 1;
            let subscription = if *is_standby { STANDBY } else { OWN };
            merge.frame(frame(subscription, indices[usize::from(*is_standby)], &format!("hot{payload}")), 100);
            if number % commits == 0 {
                written.extend(cut(&mut merge, 100));
                merge.committed();
            }
        }
        written.extend(cut(&mut merge, 100));
        merge.committed();
        merge.idle_cut(100);
        let payloads: Vec<u8> = written.iter().map(|record| record.payload.as_bytes()[3] - b'0').collect();
        prop_assert_eq!(payloads, naive(&frames));
        // Everything the standby delivered is resolved, once each.
        let mut resolved: Vec<u64> = acks(&mut merge).iter().flat_map(|ack| &ack.resolved).map(|frame| frame.index).collect();
        resolved.sort_unstable();
        prop_assert_eq!(resolved, (101..=indices[1]).collect::<Vec<u64>>());
    }
}

// --- bytes -----------------------------------------------------------------------------------------------------------------------

fn heavy(subscription: SubscriptionId, index: u64, payload: &str, bytes: usize) -> Frame<String> {
    Frame { bytes, ..frame(subscription, index, payload) }
}

/// A standby whose copies differ never aligns: its buffer has a limit of its own, and no record goes for it.
#[test]
fn a_newcomer_that_never_aligns_costs_no_record() {
    const FRAME_BYTES: usize = 40_000;
    let mut merge = Merge::new(Options::default(), 1);
    merge.own_subscription(Some(OWN), 0);
    merge.standby_joined();
    merge.standby_subscription(Some(STANDBY), 0);
    let (mut written, mut resolved) = (0, 0);
    for index in 1..=10_000 {
        merge.frame(heavy(OWN, index, &format!("own {index}"), FRAME_BYTES), index);
        merge.frame(heavy(STANDBY, index, &format!("standby {index}"), FRAME_BYTES), index);
        let held = merge.bytes();
        assert!(held.joining <= Options::default().joining_bytes_max, "{held:?}");
        assert_eq!(held.ready, merge.status().ready_records * FRAME_BYTES);
        if index % 50 == 0 {
            written += cut(&mut merge, index).len();
            assert_eq!(merge.bytes().in_flight, 50 * FRAME_BYTES);
            assert_eq!(merge.bytes().ready, 0);
            merge.committed();
            resolved += acks(&mut merge).iter().map(|ack| ack.resolved.len()).sum::<usize>();
        }
    }
    assert_eq!(written, 10_000);
    let joining = merge.status().joining_frames;
    assert_eq!(joining * FRAME_BYTES, merge.bytes().joining);
    assert_eq!(resolved, 10_000 - joining, "what left the buffer is resolved: the standby need not keep it");
}

#[test]
fn one_frame_is_always_allowed() {
    let options = Options { joining_bytes_max: 65_536, ..Options::default() };
    let mut merge = Merge::new(options, 1);
    merge.own_subscription(Some(OWN), 0);
    merge.standby_joined();
    merge.standby_subscription(Some(STANDBY), 0);
    deliver(&mut merge, OWN, 1, 0..5, 0);
    for index in 1..=3 {
        merge.frame(heavy(STANDBY, index, "large", 1_000_000), 0);
        assert_eq!((merge.status().joining_frames, merge.bytes().joining), (1, 1_000_000));
    }
    merge.frame(heavy(STANDBY, 4, "small", 10), 0);
    assert_eq!((merge.status().joining_frames, merge.bytes().joining), (1, 10));
}

/// Nothing else delivers: the buffer's frames are all there is, and none may go.
#[test]
fn a_full_buffer_without_a_reference_is_accepted_and_not_evicted() {
    let options = Options { joining_bytes_max: 65_536, ..Options::default() };
    let mut merge = Merge::new(options, 1);
    merge.own_subscription(Some(OWN), 0);
    deliver(&mut merge, OWN, 1, 0..10, 0);
    merge.own_subscription(None, 10);
    merge.own_subscription(Some(LATER), 20);
    for index in 1..=100 {
        merge.frame(heavy(LATER, index, &format!("after {index}"), 10_000), 30);
    }
    assert_eq!(cut(&mut merge, 40).len(), 110);
    assert!(matches!(merge.take_notices()[..], [Notice::AlignedByFiat { .. }]));
}

#[test]
fn sums_of_bytes_are_exact() {
    let mut merge = Merge::new(Options::default(), 1);
    merge.own_subscription(Some(OWN), 0);
    for index in 1..=10 {
        merge.frame(heavy(OWN, index, &format!("m{index}"), index as usize), 0);
    }
    assert_eq!(merge.bytes().ready, 55);
    assert_eq!(merge.drop_oldest().map(|record| record.bytes), Some(1));
    assert_eq!(merge.drop_oldest().map(|record| record.bytes), Some(2));
    assert_eq!(merge.cut(0, 2, usize::MAX).map(|batch| batch.len()), Some(2));
    let held = merge.bytes();
    assert_eq!((held.ready, held.in_flight, held.joining, held.total()), (45, 7, 0, 52));
    merge.committed();
    assert_eq!(merge.bytes().total(), 45);

    let mut retention = Retention::new(Options::default());
    retention.subscribed(STANDBY);
    (1..=5).for_each(|index| retention.frame(heavy(STANDBY, index, "x", 100)));
    assert_eq!(retention.bytes(), 500);
    let resolved = vec![Resolved { subscription: STANDBY, index: 3, record: RecordId::UNKNOWN }];
    let ack = Ack { subscription: STANDBY, unseen: Vec::new(), resolved, aligned: false, redundant: false };
    retention.receive(ToStandby::Ack(ack.clone())).expect("an ack has no bytes");
    retention.receive(ToStandby::Ack(ack)).expect("an ack has no bytes");
    assert_eq!(retention.bytes(), 400);
    retention.drop_oldest();
    retention.subscribed(LATER);
    retention.forget_except(|_| false);
    assert_eq!((retention.bytes(), retention.retained_frames()), (0, 0));
}

/// What its owner does not count on is no gap; what it does count on is one, and ends redundancy until it is resolved.
#[test]
fn a_full_retention_says_which_drop_is_a_gap() {
    let ack = |resolved: &[u64], redundant| {
        let resolved =
            resolved.iter().map(|&index| Resolved { subscription: STANDBY, index, record: RecordId::UNKNOWN });
        let (unseen, resolved) = (Vec::new(), resolved.collect());
        ToStandby::Ack(Ack { subscription: STANDBY, unseen, resolved, aligned: redundant, redundant })
    };
    let is_gap = |retention: &mut Retention<String>| retention.drop_oldest().map(|dropped| dropped.is_gap);
    let mut retention = Retention::new(Options::default());
    retention.subscribed(STANDBY);
    (1..=9).for_each(|index| retention.frame(frame(STANDBY, index, "x")));
    assert_eq!(is_gap(&mut retention), Some(false), "the owner's own line has it");
    retention.receive(ack(&[2], true)).expect("an ack has no bytes");
    assert!(retention.is_redundant());
    assert_eq!(is_gap(&mut retention), Some(true), "3: the owner counts on it");
    assert!(!retention.is_redundant(), "whatever the owner says");
    retention.receive(ack(&[4], true)).expect("an ack has no bytes");
    assert!(!retention.is_redundant());
    retention.receive(ack(&[3], true)).expect("an ack has no bytes");
    assert!(retention.is_redundant(), "its content is in the topic after all");
    // A reconnect: what the earlier subscription delivered is counted on, what the new one delivers is not yet.
    retention.subscribed(LATER);
    retention.frame(frame(LATER, 1, "x"));
    assert_eq!(
        (0..6).map(|_| is_gap(&mut retention)).collect::<Vec<_>>(),
        [true, true, true, true, true, false].map(Some)
    );
    retention.frame(frame(LATER, 2, "x"));
    retention.owner_gone();
    assert_eq!(is_gap(&mut retention), Some(true), "nobody else has it now");
}

// --- windows that are too small -----------------------------------------------------------------------------------------------------

/// The standby lags beyond the window, and then the owner's line is down: the backlog repeats nothing, however slowly it comes.
#[test]
fn a_lone_laggard_beyond_the_window_repeats_nothing() {
    let options = Options { entries_max: 1_024, ring_frames_max: 512, ..Options::default() };
    let mut merge = Merge::new(options, 1);
    merge.own_subscription(Some(OWN), 0);
    merge.standby_joined();
    merge.standby_subscription(Some(STANDBY), 0);
    deliver(&mut merge, OWN, 1, 0..100, 0);
    deliver(&mut merge, STANDBY, 1, 0..100, 0);
    assert!(merge.status().standby_aligned);
    deliver(&mut merge, OWN, 101, 100..1_100, 10);
    merge.own_subscription(None, 20);
    // The relay was slow: what it held comes in pieces, over a second.
    let mut written = cut(&mut merge, 30).len();
    merge.committed();
    for (index, number) in (101..).zip(100..2_000) {
        let now_ms = 40 + number;
        merge.frame(frame(STANDBY, index, &format!("m{number}")), now_ms);
    }
    merge.caught_up(Side::Standby, 3_000);
    written += cut(&mut merge, 15_000).len();
    assert_eq!(written, 2_000, "{:?}", merge.take_notices());
}

#[test]
fn a_window_that_is_full_before_its_span_says_so() {
    let options = Options { entries_max: 1_024, ..Options::default() };
    let mut merge = Merge::new(options, 1);
    merge.own_subscription(Some(OWN), 0);
    for number in 0..3_000 {
        merge.frame(frame(OWN, number + 1, &format!("m{number}")), number);
    }
    let held_ms = merge.status().span_cut_to_ms.expect("1,024 entries are one second of ten");
    assert!((1_000..1_100).contains(&held_ms), "{held_ms}");
    merge.idle_cut(70_000);
    assert_eq!(merge.status().span_cut_to_ms, None);
}

/// First frames that are older than the last one of what they could not be matched with: the bounds hold both.
#[test]
fn a_gap_never_ends_before_it_begins() {
    let mut merge = redundant_merge();
    merge.own_subscription(None, 50);
    merge.own_subscription(Some(LATER), 60);
    deliver(&mut merge, LATER, 1, 500..510, 428);
    deliver(&mut merge, STANDBY, 101, 100..110, 482);
    merge.standby_subscription(None, 490);
    merge.idle_cut(2_000);
    let fiat = Notice::AlignedByFiat { subscription: LATER, last_before_ms: Some(428), first_after_ms: 482 };
    assert_eq!(merge.take_notices(), [fiat]);
}

/// The line of the new owner is silent from before the takeover, and nobody knew: the gap begins with the last message that
/// somebody has.
#[test]
fn a_gap_after_a_takeover_begins_with_what_was_delivered_last() {
    let mut retention = Retention::new(Options::default());
    retention.subscribed(STANDBY);
    let mut merge = Merge::take_over(Options::default(), 4, retention, [], 10_000);
    merge.delivered_until(Some(9_400), Some(9_000));
    merge.standby_joined();
    merge.standby_subscription(Some(LATER), 10_500);
    deliver(&mut merge, LATER, 1, 1..100, 10_600);
    for at_ms in (10_700..14_000).step_by(100) {
        Side::BOTH.into_iter().for_each(|side| merge.caught_up(side, at_ms));
    }
    deliver(&mut merge, LATER, 100, 100..200, 14_000);
    merge.idle_cut(14_500);
    let fiat = Notice::AlignedByFiat { subscription: LATER, last_before_ms: Some(9_400), first_after_ms: 10_600 };
    assert_eq!(merge.take_notices(), [fiat]);
    while let Some(_batch) = merge.cut(14_500, 1_000, usize::MAX) {
        merge.committed();
    }
    let status = merge.status();
    assert!(status.own_aligned && status.redundant && status.at_risk, "{status:?}");
    merge.frame(frame(STANDBY, 1, "m150"), 14_600);
    assert!(merge.status().at_risk, "it speaks, but how late it usually is one copy does not say");
    deliver(&mut merge, STANDBY, 2, 151..180, 14_700);
    deliver(&mut merge, STANDBY, 31, 180..200, 15_800);
    assert!(merge.status().at_risk, "these may be repeats of what it lacked");
    for (index, at_ms) in [(200, 15_800), (230, 16_900)] {
        deliver(&mut merge, LATER, index, index..index + 30, at_ms);
        deliver(&mut merge, STANDBY, index - 149, index..index + 30, at_ms + 50);
    }
    assert!(!merge.status().at_risk, "it would be missed by now");
}

/// Both lines are up and idle; then the first message comes and the owner dies, with or without having written it.
#[test]
fn the_first_message_after_an_idle_time_is_safe() {
    for written in [false, true] {
        let mut retention = Retention::new(Options::default());
        retention.subscribed(STANDBY);
        retention.frame(frame(STANDBY, 1, "first"));
        let id = RecordId { epoch: 3, sequence: 1 };
        let tail = written.then_some(tail_record(id, "first", (OWN, 1)));
        let mut merge = Merge::take_over(Options::default(), 4, retention, tail, 0);
        assert_eq!(cut(&mut merge, 0).len(), usize::from(!written));
    }
}
