//! An owner whose two lines are never matched, as each puts a number of its connection into every message: the report and one
//! event say where they differ.

use std::collections::BTreeMap;

use bytes::Bytes;
use twinfeed_writer::{
    Assigned, Epoch, InTopic, Input, Now, Output, Settings, Writer,
    event::Event,
    frame::{FeedEvent, Frame, FrameKind},
    relay::StandbyMessage,
    report::WriterReport,
};

use crate::usual;

const OWN: u64 = 1;
const STANDBY: u64 = 2;

struct Scene {
    writer: Writer,
    now_ms: u64,
    events: Vec<Event>,
}

impl Scene {
    fn now(&self) -> Now {
        Now { us: self.now_ms * 1_000, wall_ns: (1_700_000_000_000 + self.now_ms) * 1_000_000 }
    }

    /// An owner beside whom a standby relays its line; Kafka takes everything at once.
    fn new() -> Self {
        let settings = Settings {
            connector: "btc".into(),
            behind_ms_max: 0,
            buffer_bytes_max: 64 * 1024 * 1024,
            ..usual::settings()
        };
        let mut scene = Self { writer: Writer::new([settings], 7), now_ms: 1_000, events: Vec::new() };
        scene.put(Input::Assume(Assigned::Owner { epoch: Epoch(1) }));
        scene.put(usual::fed(FeedEvent::Opened { subscription: OWN, connect_ms: 1 }));
        usual::standby_connected(2, 9).into_iter().for_each(|input| scene.put(input));
        scene.put(usual::from_standby(StandbyMessage::Subscription(Some(STANDBY))));
        scene
    }

    fn put(&mut self, input: Input) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            for output in self.writer.step(input, self.now()) {
                match output {
                    Output::Open(_) => inputs.push(usual::opened(InTopic {
                        tail: Vec::new(),
                        offsets: BTreeMap::new(),
                        last_received_at_ms: None,
                        payload_bytes_max: 1_000_000,
                    })),
                    Output::Write(_) => inputs.push(usual::written(1)),
                    Output::Event(event) => self.events.push(event),
                    _ => {}
                }
            }
        }
    }

    fn report(&self) -> &WriterReport {
        self.writer.report(usual::STREAM).expect("a stream")
    }

    fn frames(&self, text: String) -> Vec<Frame> {
        vec![Frame { kind: FrameKind::Text, payload: Bytes::from(text), received_at_ns: self.now().wall_ns }]
    }

    /// Twenty messages a second on each line.
    fn run(&mut self, seconds: u64, says: impl Fn(u64, u64) -> String) {
        for _ in 0..seconds * 20 {
            self.now_ms += 50;
            let n = (self.now_ms - 1_000) / 50;
            let frames = self.frames(says(OWN, n));
            self.put(usual::fed(FeedEvent::Frames { subscription: OWN, frames }));
            let frames = self.frames(says(STANDBY, n));
            self.put(usual::from_standby(StandbyMessage::Frames { subscription: STANDBY, first_index: n, frames }));
            self.put(Input::Cut);
            self.put(usual::look());
        }
    }

    fn told(&self) -> Vec<&Event> {
        self.events.iter().filter(|event| event.kind == "lines.differ_at").collect()
    }
}

#[test]
fn lines_that_never_match_are_explained_without_their_messages_in_the_event() {
    let mut scene = Scene::new();
    let numbered = |connection: u64, n: u64| format!(r#"{{"connection":{connection},"seq":"sequence-{n}"}}"#);
    scene.run(29, numbered);
    assert!(scene.told().is_empty(), "not before the bound");
    scene.run(10, numbered);
    let [event] = scene.told()[..] else { panic!("{:?}", scene.events) };
    assert_eq!(event.attributes, BTreeMap::from([("pointers".to_owned(), "/connection".to_owned())]));
    assert!(
        event.message.contains("/connection") && event.message.contains("wsctl connector compare btc"),
        "{event:?}"
    );
    assert!(!event.message.contains("sequence-"), "messages are not for logs: {event:?}");
    let comparison = scene.report().comparison.clone();
    let comparison = comparison.as_deref().filter(|found| found.differs);
    assert!(comparison.is_some_and(|found| !found.pairs.is_empty() && found.pointers == ["/connection"]));

    scene.put(Input::Assume(Assigned::Standby { epoch: Epoch(2) }));
    assert_eq!(scene.report().comparison, None, "a standby does not compare");
}

#[test]
fn lines_that_agree_have_nothing_to_explain() {
    let mut scene = Scene::new();
    scene.run(40, |_, n| format!(r#"{{"seq":{n}}}"#));
    assert!(scene.report().aligned, "{:?}", scene.report());
    assert_eq!((scene.told(), &scene.report().comparison), (Vec::new(), &None));
}
