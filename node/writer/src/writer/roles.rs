//! From stage to stage: what becomes of producer and relay, and what its streams are told.

use super::{Stage, Writer};
use crate::{
    Epoch, StreamId,
    port::{Assigned, Now, Output, Plan},
};

impl Writer {
    pub(super) fn assume(&mut self, assigned: Assigned, now: Now) {
        let was = self.stage;
        let next = match assigned {
            Assigned::Owner { epoch } if was == Stage::Owning(epoch) => was,
            Assigned::Owner { epoch } => Stage::Opening(epoch),
            Assigned::Standby { epoch } => Stage::Standing(epoch),
        };
        match (was, next) {
            _ if was == next => {}
            (Stage::Standing(_), _) => self.let_go_of_relay(),
            // The one under way is replaced.
            (Stage::Opening(_), Stage::Opening(_)) => {}
            _ => self.close(),
        }
        self.stage = next;
        let ids: Vec<StreamId> = self.streams.keys().copied().collect();
        for id in ids {
            let mut reconnect = None;
            self.with(id, now, |stream, entropy| reconnect = stream.assume(assigned, entropy, now));
            self.reconnect(id, reconnect);
        }
        match next {
            _ if was == next => {}
            Stage::Opening(epoch) => self.open(epoch, matches!(was, Stage::Standing(_)), false),
            Stage::Standing(_) if !matches!(was, Stage::Standing(_)) => self.outputs.push(Output::WarmUp),
            _ => {}
        }
    }

    /// `warm`: by the clients that wait for it. `ask_first`: a zombie that wakes up would otherwise fence the rightful owner.
    pub(super) fn open(&mut self, epoch: Epoch, warm: bool, ask_first: bool) {
        let streams = self.streams.values().filter_map(crate::stream::Stream::plan).collect();
        self.outputs.push(Output::Open(Plan { epoch, streams, warm, ask_first }));
    }

    fn let_go_of_relay(&mut self) {
        (self.standby, self.has_owner) = (None, false);
        self.outputs.push(Output::EndRelay);
    }

    /// Lets go of relay, producer and pending work. Whatever they still had in the air is fenced by the next owner's init.
    pub(super) fn close(&mut self) {
        self.in_flight.clear();
        self.reopen_at_us = None;
        self.pace.begin_anew();
        self.close_producer();
        self.let_go_of_relay();
    }

    /// The assignment has moved: nothing of this role may be written any more. The worker tells the next role.
    pub(super) fn depose(&mut self, now: Now) {
        let epoch = match self.stage {
            Stage::Opening(epoch) | Stage::Owning(epoch) | Stage::Standing(epoch) => epoch,
            Stage::Deposed => return,
        };
        self.close();
        self.stage = Stage::Deposed;
        self.all(now, |stream, _| {
            stream.account.fenced(epoch, now);
            stream.depose();
        });
    }
}
