//! Streams that come to a writer while it runs, and go, beside one that has nothing to do with it.

use std::collections::BTreeMap;

use bytes::Bytes;
use twinfeed_writer::{
    Assigned, Committed, Epoch, InTopic, Input, Message, Now, Opened, Output, Settings, StreamId, Writer,
    frame::{FeedEvent, Frame, FrameKind},
    record::OutRecord,
    relay::{OwnerMessage, StandbyMessage},
};

use crate::usual;

const COMER: StreamId = StreamId(2);

struct House {
    writer: Writer,
    at_ms: u64,
    outputs: Vec<Output>,
}

impl House {
    /// An owner of one stream at epoch 5, with a standby.
    fn new() -> Self {
        let mut house = Self { writer: Writer::new([usual::settings()], 1), at_ms: 1_000, outputs: Vec::new() };
        house.give(Input::Assume(Assigned::Owner { epoch: Epoch(5) }));
        house.give(usual::opened(nothing()));
        usual::standby_connected(2, 9).into_iter().for_each(|input| house.give(input));
        house.outputs.clear();
        house
    }

    fn give(&mut self, input: Input) {
        self.at_ms += 1;
        let now = Now { us: self.at_ms * 1_000, wall_ns: self.at_ms * 1_000_000 };
        self.outputs.extend(self.writer.step(input, now));
    }

    fn comes(&mut self, since: u64) {
        let settings = Settings { stream: COMER, since: Epoch(since), ..usual::settings() };
        self.give(Input::Join(Box::new(settings)));
    }

    fn frames(&mut self, stream: StreamId, count: u64) {
        let frame =
            |n| Frame { kind: FrameKind::Text, payload: Bytes::from(format!("{stream:?} {n}")), received_at_ns: 1 };
        self.give(Input::Fed { stream, event: FeedEvent::Opened { subscription: stream.0, connect_ms: 1 } });
        let frames = (0..count).map(frame).collect();
        self.give(Input::Fed { stream, event: FeedEvent::Frames { subscription: stream.0, frames } });
    }

    fn cut(&mut self) {
        self.at_ms += 20;
        self.give(Input::Cut);
    }

    fn written(&mut self) {
        let next_offsets = vec![(usual::STREAM, vec![(0, 1)]), (COMER, vec![(0, 1)])];
        self.give(Input::Written(Ok(Committed {
            next_offsets,
            timestamp_ms_max: 1,
            took_us: 1,
            settled_us: 0,
            breather_us: 0,
            recycle: false,
        })));
    }

    /// The records of the batch that was cut last.
    fn batch(&self) -> Vec<OutRecord> {
        let batch = self.outputs.iter().rev().find_map(|output| match output {
            Output::Write(batch) => Some(batch),
            _ => None,
        });
        batch.into_iter().flatten().flat_map(|records| records.iter().cloned()).collect()
    }

    fn asked(&self, is_it: impl Fn(&Output) -> bool) -> usize {
        self.outputs.iter().filter(|output| is_it(output)).count()
    }

    fn left(&self) -> usize {
        self.asked(|output| matches!(output, Output::Left(COMER)))
    }
}

fn nothing() -> InTopic {
    InTopic { tail: Vec::new(), offsets: BTreeMap::new(), last_received_at_ms: None, payload_bytes_max: 1 << 20 }
}

fn found() -> Input {
    Input::Found(Ok(Opened { streams: vec![(COMER, nothing())] }))
}

#[test]
fn one_that_comes_is_written_under_its_own_epoch_by_the_producer_that_is_open() {
    let mut house = House::new();
    house.comes(8);
    house.frames(usual::STREAM, 3);
    house.frames(COMER, 2);
    house.cut();
    assert!(house.batch().iter().all(|record| record.stream == usual::STREAM.0), "nobody has looked at its topic");
    house.written();
    house.give(found());
    house.cut();
    let epochs: Vec<(u64, u64, u64)> = house.batch().iter().map(|r| (r.stream, r.epoch, r.sequence)).collect();
    assert_eq!(epochs, [(COMER.0, 8, 1), (COMER.0, 8, 2)]);
    assert_eq!(house.asked(|output| matches!(output, Output::Open(_))), 0, "the others' producer goes on");
    assert_eq!(house.asked(|output| matches!(output, Output::EndRelay)), 0);
}

#[test]
fn one_that_comes_while_the_producer_opens_is_looked_for_afterwards() {
    let mut house = House { writer: Writer::new([usual::settings()], 1), at_ms: 1_000, outputs: Vec::new() };
    house.give(Input::Assume(Assigned::Owner { epoch: Epoch(5) }));
    house.comes(8);
    assert_eq!(house.asked(|output| matches!(output, Output::Find(_))), 0, "there is nobody to find it");
    house.give(usual::opened(nothing()));
    assert_eq!(house.asked(|output| matches!(output, Output::Find(plans) if plans[0].stream == COMER)), 1);
}

#[test]
fn a_topic_that_cannot_be_looked_at_is_looked_at_again() {
    let mut house = House::new();
    house.comes(8);
    let failure = twinfeed_writer::Failure { text: "no leader".to_owned(), remedy: twinfeed_writer::Remedy::Wait };
    house.give(Input::Found(Err(twinfeed_writer::OpenError::Kafka(failure))));
    house.give(usual::look());
    let asked = |house: &House| house.asked(|output| matches!(output, Output::Find(_)));
    assert_eq!(asked(&house), 1, "not at once");
    house.at_ms += 300;
    house.give(usual::look());
    assert_eq!(asked(&house), 2);
    assert_eq!(house.writer.report(COMER).and_then(|report| report.trouble.as_deref()), Some("no leader"));
    assert_eq!(house.writer.report(usual::STREAM).and_then(|report| report.trouble.as_deref()), None);
}

#[test]
fn one_that_leaves_is_committed_first_and_takes_nothing_in_any_more() {
    let mut house = House::new();
    house.comes(8);
    house.give(found());
    let hello = StandbyMessage::Hello { incarnation: 77 };
    house.give(Input::FromStandby { stream: COMER, message: hello });
    house.frames(COMER, 2);
    house.cut();
    house.give(Input::Leave { stream: COMER, at_once: false });
    assert_eq!(house.left(), 0, "two records are under way");
    house.frames(COMER, 5);
    let frame = Frame { kind: FrameKind::Text, payload: Bytes::from("of the standby"), received_at_ns: 1 };
    let message = StandbyMessage::Frames { subscription: 7, first_index: 1, frames: vec![frame] };
    house.give(Input::FromStandby { stream: COMER, message: StandbyMessage::Subscription(Some(7)) });
    house.give(Input::FromStandby { stream: COMER, message });
    house.written();
    assert_eq!((house.left(), house.writer.cut_at_us()), (1, None));
    assert!(house.writer.report(COMER).is_none());
    assert_eq!(house.asked(|output| matches!(output, Output::EndRelay | Output::Close)), 0, "{:?}", house.outputs);
}

#[test]
fn one_that_leaves_at_once_is_waited_for_by_nobody() {
    let mut house = House::new();
    house.comes(8);
    house.give(found());
    house.frames(COMER, 2);
    house.cut();
    house.give(Input::Leave { stream: COMER, at_once: true });
    assert_eq!(house.left(), 1);
    house.frames(usual::STREAM, 1);
    house.written();
    house.cut();
    assert_eq!(house.batch().len(), 1);
}

/// Another of its name has come, and its standby does not know of it yet.
#[test]
fn what_a_standby_says_to_one_that_left_makes_it_greet_and_disturbs_no_other() {
    let mut house = House::new();
    house.comes(8);
    house.give(found());
    while house.writer.next_message().is_some() {}
    let message = StandbyMessage::Frames { subscription: 7, first_index: 90, frames: Vec::new() };
    house.give(Input::FromStandby { stream: COMER, message });
    let said: Vec<Message> = std::iter::from_fn(|| house.writer.next_message()).collect();
    assert!(said.iter().any(|said| matches!(said, Message::ToStandby(COMER, OwnerMessage::Greet))), "{said:?}");
    assert_eq!(house.asked(|output| matches!(output, Output::EndRelay | Output::Close)), 0, "{:?}", house.outputs);
}
