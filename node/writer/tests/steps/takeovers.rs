//! What a takeover tells of the messages that may be missing: from when, and until a line delivers that may be trusted.

use std::collections::BTreeMap;

use bytes::Bytes;
use twinfeed_dedup::{Ack, SubscriptionId, ToStandby};
use twinfeed_writer::{
    Assigned, Epoch, Failure, InTopic, Input, Now, OpenError, Output, Remedy, TailFrom, Writer,
    frame::{EndKind, FeedEvent, Frame, FrameKind},
    relay::{OwnerMessage, StandbyMessage},
    report::WriterReport,
};

use crate::usual;

const LINE: u64 = 7;

/// A standby that is about to take over, and all that it asked for.
struct Rig {
    writer: Writer,
    at_ms: u64,
    outputs: Vec<Output>,
}

impl Rig {
    fn new() -> Self {
        let mut rig = Self { writer: Writer::new([usual::settings()], 1), at_ms: 1_000, outputs: Vec::new() };
        rig.give(Input::Assume(Assigned::Standby { epoch: Epoch(1) }));
        rig.give(usual::fed(FeedEvent::Opened { subscription: LINE, connect_ms: 1 }));
        rig.give(Input::OwnerConnected);
        rig.give(usual::from_owner(OwnerMessage::Welcome { next: Vec::new() }));
        rig
    }

    fn give(&mut self, input: Input) {
        let now = Now { us: self.at_ms * 1_000, wall_ns: self.at_ms * 1_000_000 };
        self.outputs.extend(self.writer.step(input, now));
    }

    fn at(&mut self, at_ms: u64) -> &mut Self {
        self.at_ms = at_ms;
        self
    }

    fn frame(&mut self, subscription: u64) {
        let received_at_ns = self.at_ms * 1_000_000;
        let payload = Bytes::from(format!("{subscription} at {}", self.at_ms));
        let frames = vec![Frame { kind: FrameKind::Text, payload, received_at_ns }];
        self.give(usual::fed(FeedEvent::Frames { subscription, frames }));
    }

    fn closed(&mut self, subscription: u64) {
        self.give(usual::fed(FeedEvent::Closed { subscription, kind: EndKind::Closed, reason: String::new() }));
    }

    fn connected(&mut self, subscription: u64) {
        self.give(usual::fed(FeedEvent::Opened { subscription, connect_ms: 1 }));
    }

    /// The owner says that all is well with this standby's line: a takeover loses nothing.
    fn promised(&mut self) {
        self.acked(true);
    }

    /// The owner has written, and has found this standby's line in the feed or not.
    fn acked(&mut self, aligned: bool) {
        let id = self.announced();
        let (unseen, resolved) = (Vec::new(), Vec::new());
        let ack = Ack { subscription: id, unseen, resolved, aligned, redundant: aligned };
        let message = OwnerMessage::Merge { number: 1, committed: vec![(0, 5)], message: ToStandby::Ack(ack) };
        self.give(usual::from_owner(message));
    }

    fn behind(&mut self, behind_ms: u64) {
        let SubscriptionId(subscription) = self.announced();
        let asked_at_ms = self.at_ms;
        self.give(usual::from_owner(OwnerMessage::Question { asked_at_ms, subscription, behind_ms }));
    }

    /// The id by which owner and standby speak of the live line.
    fn announced(&mut self) -> SubscriptionId {
        while let Some(message) = self.writer.next_message() {
            if let twinfeed_writer::Message::ToOwner(_, StandbyMessage::Subscription(Some(id))) = message {
                return SubscriptionId(id);
            }
        }
        panic!("the line was not announced");
    }

    fn takes_over(&mut self) {
        self.give(Input::Assume(Assigned::Owner { epoch: Epoch(2) }));
    }

    /// The last message in the topic was read at `last_ms`; 0 when nobody has asked.
    fn opened(&mut self, last_ms: u64) {
        let (tail, offsets, payload_bytes_max) = (Vec::new(), BTreeMap::new(), 1 << 20);
        let last_received_at_ms = Some(last_ms).filter(|last_ms| *last_ms > 0);
        self.give(usual::opened(InTopic { tail, offsets, last_received_at_ms, payload_bytes_max }));
        self.give(usual::look());
    }

    fn gaps(&self) -> Vec<(u64, u64)> {
        let gaps = self.outputs.iter().filter_map(|output| match output {
            Output::Event(event) if event.kind == "gap" => Some(event),
            _ => None,
        });
        let bound = |event: &twinfeed_writer::event::Event, name| event.attributes[name].parse().expect("a number");
        gaps.map(|gap| (bound(gap, "from_ms"), bound(gap, "to_ms"))).collect()
    }

    /// From where the topic is read.
    fn tail_from(&self) -> &TailFrom {
        let plan = self.outputs.iter().rev().find_map(|output| match output {
            Output::Open(plan) => Some(plan),
            _ => None,
        });
        &plan.expect("a producer is opened").streams[0].tail_from
    }

    fn report(&self) -> &WriterReport {
        self.writer.report(usual::STREAM).expect("a stream")
    }

    fn renewals(&self) -> usize {
        self.outputs.iter().filter(|output| matches!(output, Output::Reconnect { .. })).count()
    }
}

#[test]
fn a_redundant_takeover_tells_no_gap() {
    let mut rig = Rig::new();
    rig.promised();
    rig.at(2_000).frame(LINE);
    rig.takes_over();
    rig.at(2_100).opened(2_000);
    rig.at(9_000).frame(LINE);
    assert_eq!((rig.gaps(), rig.renewals()), (vec![], 0));
}

/// What an owner has written before it knew where a standby's line stands may be among that one's frames.
#[test]
fn what_was_acked_before_the_line_had_its_place_is_read_again() {
    let acked = BTreeMap::from([(0, 5)]);
    for (aligned, expected) in [(true, TailFrom::Offsets(acked.clone())), (false, TailFrom::Recent(acked))] {
        let mut rig = Rig::new();
        rig.at(2_000).frame(LINE);
        rig.acked(aligned);
        rig.takes_over();
        assert_eq!(rig.tail_from(), &expected, "aligned: {aligned}");
    }
}

/// A node that was frozen finds in its socket what others have written meanwhile.
#[test]
fn an_owner_that_begins_anew_with_an_older_line_reads_what_was_written() {
    let mut rig = Rig::new();
    rig.takes_over();
    rig.at(2_000).opened(1_000);
    rig.give(Input::Assume(Assigned::Owner { epoch: Epoch(5) }));
    assert_eq!(rig.tail_from(), &TailFrom::Recent(BTreeMap::new()));
    rig.closed(LINE);
    rig.give(Input::Assume(Assigned::Owner { epoch: Epoch(7) }));
    assert_eq!(rig.tail_from(), &TailFrom::Recent(BTreeMap::new()), "it is not open yet, and holds the same");
    let mut fresh = Rig { writer: Writer::new([usual::settings()], 1), at_ms: 1_000, outputs: Vec::new() };
    fresh.give(Input::Assume(Assigned::Owner { epoch: Epoch(1) }));
    assert_eq!(fresh.tail_from(), &TailFrom::End, "a first start has nothing to read");
}

#[test]
fn a_line_that_delivers_ends_the_gap_with_its_first_message() {
    let mut rig = Rig::new();
    rig.at(3_000).frame(LINE);
    rig.takes_over();
    rig.at(3_100).opened(2_000);
    rig.at(9_000).frame(LINE);
    assert_eq!(rig.gaps(), [(2_000, 3_000)]);
}

#[test]
fn what_overlaps_without_a_match_is_part_of_the_gap() {
    let mut rig = Rig::new();
    rig.at(1_500).frame(LINE);
    rig.takes_over();
    rig.at(3_100).opened(2_000);
    assert_eq!(rig.gaps(), [(1_500, 2_000)]);
}

#[test]
fn while_no_line_delivers_the_gap_goes_on() {
    let mut rig = Rig::new();
    rig.takes_over();
    rig.at(3_000).opened(2_000);
    assert_eq!(rig.gaps(), [(2_000, 3_000)], "known at once");
    rig.at(8_000).frame(LINE);
    rig.at(9_000).frame(LINE);
    assert_eq!(rig.gaps(), [(2_000, 3_000), (3_000, 8_000)]);
}

#[test]
fn a_line_that_was_down_before_the_owner_died_ends_the_gap_when_it_is_back() {
    let mut rig = Rig::new();
    rig.at(1_500).frame(LINE);
    rig.closed(LINE);
    rig.at(2_500).takes_over();
    rig.at(3_000).opened(2_400);
    rig.at(7_000).connected(8);
    rig.at(8_000).frame(8);
    assert_eq!(rig.gaps(), [(1_500, 3_000), (3_000, 8_000)]);
}

#[test]
fn a_line_lost_during_a_redundant_takeover_leaves_a_gap() {
    let mut rig = Rig::new();
    rig.promised();
    rig.at(2_000).frame(LINE);
    rig.takes_over();
    rig.at(2_100).closed(LINE);
    rig.at(3_000).opened(2_000);
    rig.at(4_000).connected(8);
    rig.at(5_000).frame(8);
    assert_eq!(rig.gaps(), [(2_100, 3_000), (3_000, 5_000)]);
}

#[test]
fn a_line_that_was_behind_is_connected_anew_and_what_it_still_says_ends_no_gap() {
    let mut rig = Rig::new();
    rig.behind(3_000);
    rig.at(2_000).frame(LINE);
    assert_eq!(rig.renewals(), 0, "its time has not come");
    rig.takes_over();
    assert_eq!(rig.renewals(), 1);
    rig.at(3_000).opened(2_000);
    rig.at(4_000).frame(LINE);
    assert_eq!(rig.gaps(), [(2_000, 3_000)]);
    rig.closed(LINE);
    rig.at(5_000).connected(8);
    rig.at(6_000).frame(8);
    assert_eq!(rig.gaps(), [(2_000, 3_000), (3_000, 6_000)]);
}

/// Nobody could know yet that the line was silent: the owner said that all was well, and died.
#[test]
fn the_gap_of_a_line_that_was_silent_unnoticed_begins_before_the_takeover() {
    let mut rig = Rig::new();
    rig.promised();
    rig.at(5_000).frame(LINE);
    let question = OwnerMessage::Question { asked_at_ms: 1, subscription: 0, behind_ms: 0 };
    rig.at(6_500).give(usual::from_owner(question));
    rig.at(7_000).takes_over();
    rig.at(7_100).opened(0);
    rig.at(7_200);
    usual::standby_connected(3, 5).into_iter().for_each(|input| rig.give(input));
    rig.give(usual::from_standby(StandbyMessage::Subscription(Some(9))));
    for n in 0..60 {
        let received_at_ns = rig.at(7_600 + n * 100).at_ms * 1_000_000;
        let payload = Bytes::from(format!("of the new standby {n}"));
        let frames = vec![Frame { kind: FrameKind::Text, payload, received_at_ns }];
        rig.give(usual::from_standby(StandbyMessage::Frames { subscription: 9, first_index: n + 1, frames }));
        rig.give(usual::look());
    }
    // Heard half a second before the takeover, so all but the last second of the former owner's is in the topic.
    assert_eq!(rig.gaps(), [(5_500, 7_600)]);
}

#[test]
fn only_a_refusal_of_kafka_counts_as_fenced() {
    let mut rig = Rig::new();
    rig.promised();
    rig.takes_over();
    rig.at(2_000).opened(1_900);
    rig.frame(LINE);
    rig.at(3_000).give(Input::Cut);
    assert!(rig.outputs.iter().any(|output| matches!(output, Output::Write(_))));
    rig.give(Input::Written(Err(Failure { text: "a newer producer".to_owned(), remedy: Remedy::Fenced })));
    assert_eq!(rig.report().tally.fenced, 1);
    rig.give(Input::Opened(Err(OpenError::NotOwner)));
    assert_eq!(rig.report().tally.fenced, 1, "the assignment has moved: Kafka has refused nothing");
}
