//! The faults: when one may fall, whom it hits, and what is done about it by somebody who sees it.

use super::World;
use crate::fencing::net::{Ambush, Event, NodeId, Session, StreamNo, WriterNo};
use crate::fencing::node::Node;
use crate::fencing::plan::{Blow, Fault};
use crate::fencing::register::Assignment;

/// No fault falls so shortly before the feeds' end: a gap is noticed, and reported, with the first frame after it.
const QUIET_US: u64 = 200_000;
/// How long an operator takes.
const RELIEF_MS: (f64, f64) = (50.0, 250.0);

impl World {
    /// Owners and standbys do their work, and each standby could take over without a loss.
    fn is_whole(&mut self) -> bool {
        let is_quiet = self.net.ambush.is_none()
            && self.forgets_for_us.is_none()
            && self.net.kafka_answers_from_us <= self.net.now_us;
        is_quiet && (0..self.plan.writers.len()).all(|writer| self.is_writer_whole(writer))
    }

    fn is_writer_whole(&mut self, writer: WriterNo) -> bool {
        let now = self.register.read(writer);
        let Some(standby) = now.standby else { return false };
        let now_us = self.net.now_us;
        let is_ready = |node: &Node| {
            node.up && !node.suspected && node.frozen_until_us <= now_us && node.members[writer].seen == Some(now)
        };
        is_ready(&self.nodes[now.owner])
            && is_ready(&self.nodes[standby])
            && self.nodes[now.owner].writer(writer).is_some_and(|writer| writer.owns(now.epoch))
            && self.is_redundant(writer)
    }

    fn is_redundant(&mut self, writer: WriterNo) -> bool {
        let now = self.register.read(writer);
        let standby = now.standby.and_then(|standby| self.nodes[standby].writer(writer));
        standby.is_some_and(|writer| writer.stands_redundant(now.epoch))
    }

    pub(super) fn next_fault(&mut self) {
        if self.faults_left == 0 || self.net.now_us + QUIET_US > self.feeds_end_us() {
            return;
        }
        let may_fall = if self.plan.rough && self.faults > 0 {
            self.net.prng.chance(0.3)
        } else {
            // Before the first alignment the standby alone may have the feed's first messages.
            self.is_whole()
        };
        if !may_fall {
            return self.net.after_ms((5.0, 15.0), Event::NextFault);
        }
        self.faults_left -= 1;
        self.faults += 1;
        let fault = self.plan.draw_fault(&mut self.net.prng);
        self.net.say(|| format!("fault: {fault:?}"));
        self.inflict(fault);
        self.net.after_ms((20.0, 300.0), Event::NextFault);
    }

    /// The fault is meant for one stream; what befalls its writer, a node or the network, it shares with the others.
    fn inflict(&mut self, fault: Fault) {
        let stream = self.net.prng.below(self.streams.len());
        let writer = self.plan.writer_of(stream);
        let Assignment { owner, standby, .. } = self.register.read(writer);
        match fault {
            Fault::StrikeOwner(blow) => self.strike(owner, blow),
            Fault::StrikeStandby(blow) => standby.into_iter().for_each(|standby| self.strike(standby, blow)),
            Fault::Promote => self.promote(writer),
            Fault::ReplaceStandby => self.replace_standby(writer),
            Fault::FlapOwner => self.flap(stream, owner),
            Fault::FlapStandby => standby.into_iter().for_each(|standby| self.flap(stream, standby)),
            Fault::GiveUpOwner => self.end_line(stream, owner),
            Fault::GiveUpStandby => standby.into_iter().for_each(|standby| self.end_line(stream, standby)),
            Fault::BreakRelay => {
                let sessions: Vec<u64> = self.net.sessions.keys().copied().collect();
                sessions.into_iter().for_each(|session| self.net.end_session(session));
            }
            Fault::ForgetStandby => self.forget_standby((writer, stream), owner),
            Fault::StallKafka { lasts_us } => self.net.kafka_answers_from_us = self.net.now_us + lasts_us,
            Fault::ForgetMarker { lasts_us, blow } => {
                self.forgets_for_us = Some(lasts_us);
                self.net.ambush = blow.map(|(at, blow)| Ambush { whom: Some((owner, writer)), at, blow });
            }
            Fault::Ambush(at, blow) => self.net.ambush = Some(Ambush { whom: Some((owner, writer)), at, blow }),
            Fault::AmbushOpening(at, blow) => {
                let whom = standby.map(|standby| (standby, writer));
                self.net.ambush = Some(Ambush { whom, at, blow });
                self.promote(writer);
            }
        }
    }

    /// A stream comes to its writer, or leaves it: an operator's wish, which waits for a whole cluster, or does not.
    pub(super) fn turn(&mut self, stream: StreamNo) {
        if !self.plan.rough && !self.is_whole() {
            return self.net.after_ms((5.0, 15.0), Event::Turn(stream));
        }
        if self.net.now_us + QUIET_US < self.feeds_end_us() {
            let writer = self.plan.writer_of(stream);
            let assignment = self.register.turn(writer, stream);
            self.announce(writer, assignment);
        }
    }

    fn promote(&mut self, writer: WriterNo) {
        let Assignment { owner, standby, .. } = self.register.read(writer);
        if let Some(promoted) = standby.filter(|standby| self.works(*standby)) {
            let standby = self.pick_standby(promoted, promoted);
            self.assign(writer, promoted, standby.or(Some(owner).filter(|owner| self.works(*owner))));
        }
    }

    fn replace_standby(&mut self, writer: WriterNo) {
        let Assignment { owner, standby, .. } = self.register.read(writer);
        let other = self.pick_standby(owner, standby.unwrap_or(owner));
        self.assign(writer, owner, other);
    }

    fn forget_standby(&mut self, (writer, stream): (WriterNo, StreamNo), owner: NodeId) {
        if self.frozen_until(owner).is_none()
            && let Some(writer) = self.nodes[owner].writer(writer)
        {
            writer.forget_standby(stream, &mut self.net);
        }
    }

    fn flap(&mut self, stream: StreamNo, node: NodeId) {
        let number = self.plan.writer_of(stream);
        let Self { nodes, net, .. } = self;
        if nodes[node].frozen_until_us <= net.now_us
            && let Some(writer) = nodes[node].writer(number).filter(|writer| writer.socket(stream).is_some())
        {
            writer.disconnected(stream, net);
        }
    }

    fn end_line(&mut self, stream: StreamNo, node: NodeId) {
        let number = self.plan.writer_of(stream);
        let Self { nodes, net, .. } = self;
        if nodes[node].frozen_until_us <= net.now_us
            && let Some(writer) = nodes[node].writer(number).filter(|writer| writer.socket(stream).is_some())
        {
            writer.end_line(stream, net);
            net.after_ms(RELIEF_MS, Event::Relieve(stream));
        }
    }

    /// An operator who sees the failure: the node whose line has ended is replaced, as soon as nothing can be lost by it.
    pub(super) fn relieve(&mut self, stream: StreamNo) {
        let writer = self.plan.writer_of(stream);
        let Assignment { owner, standby, .. } = self.register.read(writer);
        let mut has_ended =
            |node: NodeId| self.nodes[node].writer(writer).is_some_and(|writer| writer.has_given_up(stream));
        let (owners, standbys) = (has_ended(owner), standby.is_some_and(&mut has_ended));
        if standbys {
            self.replace_standby(writer);
        } else if owners && self.is_redundant(writer) {
            self.hand_over(writer, owner);
        } else if owners && self.net.now_us < self.feeds_end_us() {
            self.net.after_ms(RELIEF_MS, Event::Relieve(stream));
        }
    }

    fn hand_over(&mut self, writer: WriterNo, from: NodeId) {
        let standby = self.register.read(writer).standby;
        if let Some(promoted) = standby.filter(|standby| self.works(*standby)) {
            let standby = self.pick_standby(promoted, from);
            self.assign(writer, promoted, standby);
        }
    }

    pub(super) fn strike(&mut self, node: NodeId, blow: Blow) {
        // What waits for a thaw keeps its order only if the thaw is not put off.
        if !self.nodes[node].up || (blow != Blow::Crash && self.frozen_until(node).is_some()) {
            return;
        }
        self.net.say(|| format!("node {node}: {blow:?}"));
        match blow {
            Blow::Crash => {
                self.nodes[node].crash();
                let ends = |session: &Session| session.owner.node == node || session.standby.node == node;
                let sessions = self.net.sessions.iter().filter(|(_, session)| ends(session));
                let broken: Vec<u64> = sessions.map(|(number, _)| *number).collect();
                // What its kernel has sent still arrives, up to a point.
                broken.into_iter().for_each(|session| self.net.after_ms((0.0, 3.0), Event::EndSession(session)));
                self.net.after_ms((30.0, 800.0), Event::Restart(node));
            }
            Blow::Pause { lasts_us, noticed } => {
                let thaws_us = self.net.now_us + lasts_us;
                self.nodes[node].frozen_until_us = thaws_us;
                if noticed {
                    self.nodes[node].suspected = true;
                    self.net.at(thaws_us + 20_000, Event::Recognise(node));
                }
            }
        }
    }

    pub(super) fn restart(&mut self, node: NodeId) {
        self.nodes[node].restart(self.register.index());
        for writer in 0..self.plan.writers.len() {
            let now = self.register.read(writer);
            let streams = self.register.streams(writer);
            self.net.after_ms((1.0, 20.0), Event::Apply(node, writer, now, streams));
        }
    }
}
