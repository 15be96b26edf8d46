//! The writer's own line of one stream: its connection, what its session has read off it and the writer has not taken yet, and
//! its end for good.
//!
//! What a session tells keeps its order, whatever waits: `node/src/feed/session.rs` and the feed's arm of `pipeline/actor.rs`.

use bytes::Bytes;
use twinfeed_writer::frame::{EndKind, FeedEvent, Frame, FrameKind};
use twinfeed_writer::{LineSight, StreamId};

use super::{Bug, Writer, identity};
use crate::fencing::inbox::{Inbox, Pace};
use crate::fencing::net::{Event, Input, Net, StreamNo};

pub(crate) struct Line {
    socket: Option<u64>,
    /// Its session has ended for good.
    has_given_up: bool,
    /// The writer has been told so.
    is_known_ended: bool,
    /// What the writer says of itself is about the present connection.
    is_reported: bool,
    pace: Option<Pace>,
    inbox: Inbox,
    is_taking: bool,
}

impl Line {
    pub(super) fn new(pace: Option<Pace>) -> Self {
        let inbox = Inbox::default();
        let (has_given_up, is_known_ended, is_reported) = (false, false, false);
        Self { socket: None, has_given_up, is_known_ended, is_reported, pace, inbox, is_taking: false }
    }

    pub(super) fn stop(&mut self) {
        self.socket = None;
        self.inbox.clear();
    }

    pub(super) fn sight(&self) -> LineSight {
        LineSight { waiting: self.inbox.len() as u64, ..LineSight::default() }
    }

    /// It is connected, and the writer knows that.
    pub(super) fn is_known(&self) -> bool {
        self.socket.is_some() && self.inbox.holds_frames_only()
    }

    pub(super) fn is_reported(&self) -> bool {
        self.is_known() && self.is_reported
    }

    /// The writer has looked, and reports what it saw.
    pub(super) fn looked(&mut self) {
        self.is_reported = self.is_known();
    }

    fn has_room(&self) -> bool {
        self.pace.is_none_or(|pace| self.inbox.has_room(&pace))
    }

    pub(super) fn has_ended(&self) -> bool {
        self.is_known_ended
    }
}

impl Writer {
    /// The stream is there, and not leaving.
    pub(crate) fn has_line(&self, stream: StreamNo) -> bool {
        let since = self.joined.get(&stream);
        since.is_some_and(|since| self.wanted.contains(&(stream, *since)))
    }

    pub(crate) fn socket(&self, stream: StreamNo) -> Option<u64> {
        self.lines.get(&stream)?.socket
    }

    pub(crate) fn has_given_up(&self, stream: StreamNo) -> bool {
        self.lines.get(&stream).is_some_and(|line| line.has_given_up)
    }

    /// Whether the session reads the next frame off its socket now.
    pub(crate) fn reads(&self, stream: StreamNo) -> bool {
        self.lines.get(&stream).is_some_and(Line::has_room) || self.bug == Bug::FullInboxDrops
    }

    pub(crate) fn connected(&mut self, stream: StreamNo, socket: u64, net: &mut Net) {
        let Some(line) = self.line(stream) else { return };
        line.socket = Some(socket);
        self.fed(stream, FeedEvent::Opened { subscription: socket, connect_ms: 1 }, net);
    }

    /// The connection is lost; another attempt follows.
    pub(crate) fn disconnected(&mut self, stream: StreamNo, net: &mut Net) {
        if self.lose_connection(stream, net) {
            net.after_ms((10.0, 120.0), Event::To(self.actor, Input::Connect { stream }));
        }
    }

    /// The connection is lost and no other is made.
    pub(crate) fn end_line(&mut self, stream: StreamNo, net: &mut Net) {
        if self.lose_connection(stream, net) {
            self.refused_for_good(stream, net);
        }
    }

    /// The last attempts to connect fail.
    pub(crate) fn refused_for_good(&mut self, stream: StreamNo, net: &mut Net) {
        let Some(line) = self.line(stream) else { return };
        line.has_given_up = true;
        let reason = "connection refused".to_owned();
        let (kind, attempt, retry_in_ms) = (EndKind::Connect, 1, 50);
        self.fed(stream, FeedEvent::ConnectFailed { kind, reason, attempt, retry_in_ms }, net);
        net.after_ms((0.0, 100.0), Event::To(self.actor, Input::GiveUp { stream }));
    }

    pub(super) fn give_up(&mut self, stream: StreamNo, net: &mut Net) {
        if !self.is_draining && self.has_given_up(stream) {
            self.fed(stream, FeedEvent::GaveUp { reason: "its attempts are used up".to_owned() }, net);
        }
    }

    fn lose_connection(&mut self, stream: StreamNo, net: &mut Net) -> bool {
        let Some(subscription) = self.line(stream).and_then(|line| line.socket.take()) else { return false };
        let reason = "the server closed the connection".to_owned();
        self.fed(stream, FeedEvent::Closed { subscription, kind: EndKind::Closed, reason }, net);
        true
    }

    pub(crate) fn frame(&mut self, stream: StreamNo, payload: Bytes, net: &mut Net) {
        let Some(subscription) = self.socket(stream) else { return };
        if self.bug == Bug::FullInboxDrops && !self.lines.get(&stream).is_some_and(Line::has_room) {
            return;
        }
        let frames = vec![Frame { kind: FrameKind::Text, payload, received_at_ns: net.now_us * 1_000 }];
        self.fed(stream, FeedEvent::Frames { subscription, frames }, net);
    }

    /// The session tells something.
    fn fed(&mut self, stream: StreamNo, event: FeedEvent, net: &mut Net) {
        let Some(line) = self.line(stream) else { return };
        line.is_reported &= matches!(event, FeedEvent::Frames { .. });
        let Some(pace) = line.pace else { return self.take(stream, event, net) };
        line.inbox.push(event);
        if !line.is_taking {
            line.is_taking = true;
            net.at(net.now_us + pace.every_us, Event::To(self.actor, Input::TakeFeed { stream }));
        }
    }

    pub(super) fn take_feed(&mut self, stream: StreamNo, net: &mut Net) {
        let Some(line) = self.line(stream) else { return };
        let Some(pace) = line.pace else { return };
        for event in line.inbox.take(pace.events_max) {
            self.take(stream, event, net);
        }
        let Some(line) = self.line(stream) else { return };
        line.is_taking = !line.inbox.is_empty();
        if line.is_taking {
            net.at(net.now_us + pace.every_us, Event::To(self.actor, Input::TakeFeed { stream }));
        }
    }

    fn take(&mut self, stream: StreamNo, event: FeedEvent, net: &mut Net) {
        if let Some(line) = self.line(stream) {
            line.is_known_ended |= matches!(event, FeedEvent::GaveUp { .. });
        }
        self.step(twinfeed_writer::Input::Fed { stream: StreamId(identity(stream)), event }, net);
    }

    fn line(&mut self, stream: StreamNo) -> Option<&mut Line> {
        self.lines.get_mut(&stream)
    }
}
