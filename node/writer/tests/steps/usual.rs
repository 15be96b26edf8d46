//! What the tests of one stream take for usual.

use twinfeed_dedup::Options;
use twinfeed_writer::{
    Committed, Epoch, InTopic, Input, LineSight, NodeId, Opened, Settings, Sight, StreamId,
    frame::FeedEvent,
    relay::{OwnerMessage, StandbyMessage},
};

pub(crate) const STREAM: StreamId = StreamId(1);

/// Two lines, one partition, a commit every ten milliseconds.
pub(crate) fn settings() -> Settings {
    Settings {
        connector: "c".to_owned(),
        topic: "t".to_owned(),
        feeds: 2,
        stream: STREAM,
        since: Epoch(0),
        node: "n1".to_owned(),
        revision: 1,
        merge: Options::default(),
        commit_interval_us: 10_000,
        behind_ms_max: 5_000,
        buffer_bytes_max: 1 << 20,
    }
}

pub(crate) fn fed(event: FeedEvent) -> Input {
    Input::Fed { stream: STREAM, event }
}

pub(crate) fn from_standby(message: StandbyMessage) -> Input {
    Input::FromStandby { stream: STREAM, message }
}

pub(crate) fn from_owner(message: OwnerMessage) -> Input {
    Input::FromOwner { stream: STREAM, message }
}

/// A session begins, and the standby says who it is.
pub(crate) fn standby_connected(node: NodeId, incarnation: u64) -> [Input; 2] {
    [Input::StandbyConnected { node }, from_standby(StandbyMessage::Hello { incarnation })]
}

pub(crate) fn look() -> Input {
    Input::Look(Sight { kafka_connected: false, lines: vec![(STREAM, LineSight::default())] })
}

pub(crate) fn opened(found: InTopic) -> Input {
    Input::Opened(Ok(Opened { streams: vec![(STREAM, found)] }))
}

/// Kafka took the batch.
pub(crate) fn written(timestamp_ms_max: i64) -> Input {
    Input::Written(Ok(Committed {
        next_offsets: vec![(STREAM, vec![(0, 1)])],
        timestamp_ms_max,
        took_us: 1,
        settled_us: 0,
        breather_us: 0,
        recycle: false,
    }))
}
