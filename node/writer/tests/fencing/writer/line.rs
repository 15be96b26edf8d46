//! The writer's own line: its connection, what its session has read off it and the writer has not taken yet, and its end for good.
//!
//! What a session tells keeps its order, whatever waits: `node/src/feed/session.rs` and the feed's arm of `pipeline/actor.rs`.

use bytes::Bytes;
use twinfeed_writer::Sight;
use twinfeed_writer::frame::{EndKind, FeedEvent, Frame, FrameKind};

use super::{Bug, Writer};
use crate::fencing::inbox::{Inbox, Pace};
use crate::fencing::net::{Event, Input, Net};

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

    pub(super) fn sight(&self) -> Sight {
        Sight { waiting: self.inbox.len() as u64, ..Sight::default() }
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

    pub(super) fn has_ended(&self) -> bool {
        self.is_known_ended
    }
}

impl Writer {
    pub(crate) fn socket(&self) -> Option<u64> {
        self.line.socket
    }

    pub(crate) fn has_given_up(&self) -> bool {
        self.line.has_given_up
    }

    /// Whether the session reads the next frame off its socket now.
    pub(crate) fn reads(&self) -> bool {
        let has_room = self.line.pace.is_none_or(|pace| self.line.inbox.has_room(&pace));
        has_room || self.bug == Bug::FullInboxDrops
    }

    pub(crate) fn connected(&mut self, socket: u64, net: &mut Net) {
        self.line.socket = Some(socket);
        self.fed(FeedEvent::Opened { subscription: socket, connect_ms: 1 }, net);
    }

    /// The connection is lost; another attempt follows.
    pub(crate) fn disconnected(&mut self, net: &mut Net) {
        if self.lose_connection(net) {
            net.after_ms((10.0, 120.0), Event::To(self.actor, Input::Connect));
        }
    }

    /// The connection is lost and no other is made.
    pub(crate) fn end_line(&mut self, net: &mut Net) {
        if self.lose_connection(net) {
            self.refused_for_good(net);
        }
    }

    /// The last attempts to connect fail.
    pub(crate) fn refused_for_good(&mut self, net: &mut Net) {
        self.line.has_given_up = true;
        let reason = "connection refused".to_owned();
        let (kind, attempt, retry_in_ms) = (EndKind::Connect, 1, 50);
        self.fed(FeedEvent::ConnectFailed { kind, reason, attempt, retry_in_ms }, net);
        net.after_ms((0.0, 100.0), Event::To(self.actor, Input::GiveUp));
    }

    pub(super) fn give_up(&mut self, net: &mut Net) {
        if !self.is_draining {
            self.fed(FeedEvent::GaveUp { reason: "its attempts are used up".to_owned() }, net);
        }
    }

    fn lose_connection(&mut self, net: &mut Net) -> bool {
        let Some(subscription) = self.line.socket.take() else { return false };
        let reason = "the server closed the connection".to_owned();
        self.fed(FeedEvent::Closed { subscription, kind: EndKind::Closed, reason }, net);
        true
    }

    pub(crate) fn frame(&mut self, payload: Bytes, net: &mut Net) {
        let Some(subscription) = self.line.socket else { return };
        if self.bug == Bug::FullInboxDrops && self.line.pace.is_some_and(|pace| !self.line.inbox.has_room(&pace)) {
            return;
        }
        let frames = vec![Frame { kind: FrameKind::Text, payload, received_at_ns: net.now_us * 1_000 }];
        self.fed(FeedEvent::Frames { subscription, frames }, net);
    }

    /// The session tells something.
    fn fed(&mut self, event: FeedEvent, net: &mut Net) {
        self.line.is_reported &= matches!(event, FeedEvent::Frames { .. });
        let Some(pace) = self.line.pace else { return self.take(event, net) };
        self.line.inbox.push(event);
        if !self.line.is_taking {
            self.line.is_taking = true;
            net.at(net.now_us + pace.every_us, Event::To(self.actor, Input::TakeFeed));
        }
    }

    pub(super) fn take_feed(&mut self, net: &mut Net) {
        let Some(pace) = self.line.pace else { return };
        for event in self.line.inbox.take(pace.events_max) {
            self.take(event, net);
        }
        self.line.is_taking = !self.line.inbox.is_empty();
        if self.line.is_taking {
            net.at(net.now_us + pace.every_us, Event::To(self.actor, Input::TakeFeed));
        }
    }

    fn take(&mut self, event: FeedEvent, net: &mut Net) {
        self.line.is_known_ended |= matches!(event, FeedEvent::GaveUp { .. });
        self.step(twinfeed_writer::Input::Fed(event), net);
    }
}
