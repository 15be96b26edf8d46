//! What an owner claims at the first start of a stream, when its own line is slower than its standby's but began before it.

use std::collections::BTreeMap;

use bytes::Bytes;
use twinfeed_dedup::ToStandby;
use twinfeed_writer::{
    Assigned, Epoch, InTopic, Input, Message, Now, Output, Writer,
    frame::{FeedEvent, Frame, FrameKind},
    relay::{OwnerMessage, StandbyMessage},
};

use crate::usual;

const EARLIER: u64 = 10;
const BOTH: u64 = 200;

fn frames(numbers: std::ops::Range<u64>) -> Vec<Frame> {
    let frame = |n| Frame { kind: FrameKind::Text, payload: Bytes::from(format!("message {n}")), received_at_ns: 1 };
    numbers.map(frame).collect()
}

struct Rig {
    writer: Writer,
    at_ms: u64,
    outputs: Vec<Output>,
}

impl Rig {
    fn new() -> Self {
        Self { writer: Writer::new([usual::settings()], 1), at_ms: 1_000, outputs: Vec::new() }
    }

    fn give(&mut self, input: Input) {
        self.at_ms += 1;
        let now = Now { us: self.at_ms * 1_000, wall_ns: self.at_ms * 1_000_000 };
        self.outputs.extend(self.writer.step(input, now));
    }

    /// Writes until nothing is left; how many records.
    fn commits(&mut self) -> usize {
        let mut records = 0;
        while self.writer.cut_at_us().is_some() {
            self.at_ms += 20;
            self.give(Input::Cut);
            let written = self.outputs.drain(..).filter_map(|output| match output {
                Output::Write(batch) => Some(batch.iter().map(|records| records.len()).sum::<usize>()),
                _ => None,
            });
            records += written.sum::<usize>();
            self.give(usual::written(1));
        }
        records
    }

    /// What the standby is told last of whether it could take over.
    fn says_redundant(&mut self) -> Option<bool> {
        let mut says = None;
        while let Some(message) = self.writer.next_message() {
            if let Message::ToStandby(_, OwnerMessage::Merge { message: ToStandby::Ack(ack), .. }) = message {
                says = Some(ack.redundant);
            }
        }
        says
    }
}

#[test]
fn what_only_the_owners_earlier_line_had_is_in_the_topic_before_a_standby_counts_as_redundant() {
    let mut rig = Rig::new();
    rig.give(Input::Assume(Assigned::Owner { epoch: Epoch(1) }));
    let (tail, offsets) = (Vec::new(), BTreeMap::new());
    rig.give(usual::opened(InTopic { tail, offsets, last_received_at_ms: None, payload_bytes_max: 1 << 20 }));
    usual::standby_connected(2, 9).into_iter().for_each(|input| rig.give(input));
    rig.give(usual::from_standby(StandbyMessage::Subscription(Some(7))));
    let of_both = frames(EARLIER..BOTH);
    rig.give(usual::from_standby(StandbyMessage::Frames { subscription: 7, first_index: 1, frames: of_both }));
    assert_eq!(rig.commits(), (BOTH - EARLIER) as usize);
    rig.give(usual::fed(FeedEvent::Opened { subscription: 1, connect_ms: 1 }));
    rig.give(usual::fed(FeedEvent::Frames { subscription: 1, frames: frames(0..1) }));
    rig.give(usual::look());
    assert_eq!(rig.says_redundant(), Some(false), "nobody knows yet what else the owner's line brings");
    rig.give(usual::fed(FeedEvent::Frames { subscription: 1, frames: frames(1..BOTH) }));
    rig.give(usual::look());
    assert_ne!(rig.says_redundant(), Some(true), "the owner alone has the first messages");
    assert_eq!(rig.commits(), EARLIER as usize);
    rig.give(usual::look());
    assert_eq!(rig.says_redundant(), Some(true));
}

/// Kafka hangs from the beginning, and the buffer is small.
#[test]
fn an_owner_that_had_to_drop_messages_before_its_producer_opened_tells_it_and_goes_on_with_its_line() {
    let mut rig = Rig::new();
    rig.give(Input::Assume(Assigned::Owner { epoch: Epoch(1) }));
    rig.give(usual::fed(FeedEvent::Opened { subscription: 1, connect_ms: 1 }));
    let large = |n: u64| Frame {
        kind: FrameKind::Text,
        payload: Bytes::from(format!("{n:0>10000}")),
        received_at_ns: (1_000 + n) * 1_000_000,
    };
    rig.give(usual::fed(FeedEvent::Frames { subscription: 1, frames: (0..300).map(large).collect() }));
    rig.give(usual::look());
    let (tail, offsets) = (Vec::new(), BTreeMap::new());
    rig.give(usual::opened(InTopic { tail, offsets, last_received_at_ms: None, payload_bytes_max: 1 << 20 }));
    rig.give(usual::look());
    let gaps: Vec<String> = rig
        .outputs
        .iter()
        .filter_map(|output| match output {
            Output::Event(event) if event.kind == "gap" => event.attributes.get("dropped").cloned(),
            _ => None,
        })
        .collect();
    let kept = rig.commits();
    assert!((50..150).contains(&kept), "{kept} of 300 fit a mebibyte");
    assert_eq!(gaps, [(300 - kept).to_string()]);
    rig.give(usual::fed(FeedEvent::Frames { subscription: 1, frames: frames(0..20) }));
    assert_eq!(rig.commits(), 20);
}
