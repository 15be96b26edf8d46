//! A producer that opens, or does not; and when the next one is tried.

use super::{Producer, Stage, Writer};
use crate::{
    StreamId,
    port::{Now, OpenError, Opened, Remedy},
};

impl Writer {
    pub(super) fn opened(&mut self, result: Result<Opened, OpenError>, now: Now) {
        match result {
            Ok(opened) => self.go_live(opened, now),
            Err(OpenError::NotOwner) => self.depose(now),
            Err(OpenError::Kafka(failure)) => {
                self.all(now, |stream, _| stream.account.cannot_write(&failure, now));
                // At once again would be for ever: nothing was lost, so nothing has to be made definite.
                let is_operators = failure.remedy == Remedy::Operator;
                self.lost(if is_operators { Remedy::Operator } else { Remedy::Wait }, now);
            }
            Err(OpenError::Unconfirmed(text)) => {
                self.all(now, |stream, _| stream.account.trouble(&text, now));
                self.lost(Remedy::Wait, now);
            }
        }
    }

    fn go_live(&mut self, opened: Opened, now: Now) {
        let (Stage::Opening(epoch) | Stage::Owning(epoch)) = self.stage else { return self.close() };
        self.stage = Stage::Owning(epoch);
        self.producer = Producer::Idle;
        self.next_cut_us = now.us;
        // A transaction is whole or absent, so these are all that were in it.
        let unwritten = self.take_up(opened, now);
        self.write(unwritten, now);
        self.find();
    }

    /// The streams go on from what their topics hold. Returns those whose batch in flight is to be written again.
    pub(super) fn take_up(&mut self, opened: Opened, now: Now) -> Vec<StreamId> {
        let (mut unwritten, meets) = (Vec::new(), self.standby.is_some());
        for (id, found) in opened.streams {
            self.with(id, now, |stream, _| {
                if stream.opened(found, now) {
                    unwritten.push(id);
                }
                if meets {
                    stream.ask_who();
                }
            });
        }
        unwritten
    }

    /// A producer is lost: the next one is opened at once, or after a pause that grows while they are lost again and again.
    pub(super) fn lost(&mut self, remedy: Remedy, now: Now) {
        let due_ms = self.pace.lost(remedy, now.ms(), self.entropy.unit());
        if due_ms <= now.ms() {
            self.reopen();
        } else {
            self.reopen_at_us = Some(due_ms * 1_000);
        }
    }

    pub(super) fn reopen(&mut self) {
        self.reopen_at_us = None;
        if self.is_draining {
            return;
        }
        if let Stage::Opening(epoch) | Stage::Owning(epoch) = self.stage {
            self.open(epoch, false, true);
        }
    }
}
