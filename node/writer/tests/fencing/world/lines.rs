//! What connects: each node to the feeds, and a standby to its owner.

use super::World;
use crate::fencing::net::{Actor, Event, Input, StreamNo};
use crate::fencing::register::Assignment;

/// Share of the attempts to connect that are the last, where lines give up at all.
const REFUSED_RATE: f64 = 0.05;

impl World {
    pub(super) fn connect(&mut self, actor: Actor, number: StreamNo) {
        let socket = self.net.prng.next() | 1;
        let first_us = self.net.now_us;
        let is_refused = self.plan.gives_up && self.net.prng.chance(REFUSED_RATE) && self.has_other_line(actor, number);
        let Some(writer) = self.nodes[actor.node].writer_of(actor) else { return };
        if !writer.has_line(number) || writer.socket(number).is_some() || writer.has_given_up(number) {
            return;
        }
        if is_refused {
            self.net.say(|| format!("{actor}: stream {number} is refused for good"));
            return writer.refused_for_good(number, &mut self.net);
        }
        writer.connected(number, socket, &mut self.net);
        let stream = &mut self.streams[number];
        stream.covered_from_us = stream.covered_from_us.min(first_us);
        let position = stream.feed.partition_point(|message| message.sent_us < first_us);
        self.plan_frame((actor, number), socket, position);
    }

    /// Another node reads the same feed. What nobody reads cannot be delivered, nor its absence be told.
    fn has_other_line(&mut self, actor: Actor, stream: StreamNo) -> bool {
        let now_us = self.net.now_us;
        let others = self.nodes.iter_mut().enumerate().filter(|(node, _)| *node != actor.node);
        others
            .filter(|(_, node)| node.up && node.frozen_until_us <= now_us)
            .any(|(_, node)| node.writer(actor.writer).is_some_and(|writer| writer.socket(stream).is_some()))
    }

    /// Frames of one connection arrive in order, unless the run reorders them.
    fn plan_frame(&mut self, (actor, number): (Actor, StreamNo), socket: u64, position: usize) {
        let stream = &self.streams[number];
        let Some(message) = stream.feed.get(position) else { return };
        let jitter_us = self.net.prng.exponential_ms(1.0);
        let at_us = (message.sent_us + stream.skews_us[actor.node] + jitter_us).max(self.net.now_us);
        self.net.at(at_us, Event::To(actor, Input::Frame { stream: number, socket, position }));
    }

    pub(super) fn frame(&mut self, (actor, number): (Actor, StreamNo), socket: u64, position: usize) {
        let is_late = self.plan.reorder_ms > 0.0 && self.net.prng.chance(0.2);
        let Some(writer) = self.nodes[actor.node].writer_of(actor) else { return };
        if writer.socket(number) != Some(socket) {
            return;
        }
        if !writer.reads(number) {
            let again = Input::Frame { stream: number, socket, position };
            return self.net.after_ms((1.0, 2.0), Event::To(actor, again));
        }
        // What a zombie reads nobody delivers.
        let Assignment { owner, standby, .. } = self.register.read(actor.writer);
        let is_assigned = owner == actor.node || standby == Some(actor.node);
        let stream = &mut self.streams[number];
        stream.is_read_to_end |= is_assigned && position + 1 == stream.feed.len();
        if is_late {
            let late_ms = (0.0, self.plan.reorder_ms);
            self.net.after_ms(late_ms, Event::To(actor, Input::LateFrame { stream: number, socket, position }));
        } else {
            writer.frame(number, self.streams[number].payloads[position].clone(), &mut self.net);
        }
        self.plan_frame((actor, number), socket, position + 1);
    }

    /// A standby dials the owner it knows; refused, it tries again.
    pub(super) fn dial(&mut self, actor: Actor) {
        let Some(seen) = self.nodes[actor.node].members[actor.writer].seen else { return };
        let Some(epoch) = self.nodes[actor.node].writer_of(actor).and_then(|writer| writer.dials()) else { return };
        let is_reachable = self.frozen_until(seen.owner).is_none();
        let owner = &mut self.nodes[seen.owner].members[actor.writer];
        let is_expected = is_reachable && owner.registered_standby() == Some(actor.node);
        let accepts = owner.writer().filter(|writer| is_expected && writer.welcomes_standby(epoch));
        let Some(owner) = accepts.map(|writer| writer.actor) else {
            return self.net.after_ms((10.0, 40.0), Event::To(actor, Input::Dial));
        };
        let session = self.net.open_session(owner, actor);
        if let Some(writer) = self.nodes[actor.node].writer_of(actor) {
            writer.owner_connected(session, &mut self.net);
        }
    }
}
