//! Streams that come to a running writer, and go.
//!
//! One that comes to an owner needs no new producer: whoever wrote it before has let go of it, or is fenced. What its topic holds is
//! found out by the producer that is open, and until then the stream retains, as in a takeover.

use super::{Producer, Stage, Writer};
use crate::{
    StreamId,
    port::{Assigned, Now, OpenError, Opened, Output},
    settings::Settings,
    stream::Stream,
};

/// Before it is tried again to find out what a topic holds.
const FIND_AGAIN_US: u64 = 250_000;

impl Writer {
    pub(super) fn join(&mut self, settings: Settings, now: Now) {
        let id = settings.stream;
        self.streams.entry(id).or_insert_with(|| Stream::new(settings));
        self.look_at_intervals();
        let assigned = match self.stage {
            Stage::Deposed => return,
            Stage::Standing(epoch) => Assigned::Standby { epoch },
            Stage::Opening(epoch) | Stage::Owning(epoch) => Assigned::Owner { epoch },
        };
        let has_owner = self.has_owner;
        self.with(id, now, |stream, entropy| {
            stream.assume(assigned, entropy, now);
            if has_owner {
                stream.owner_connected();
            }
        });
        self.find();
    }

    pub(super) fn leave(&mut self, id: StreamId, at_once: bool, now: Now) {
        if at_once {
            self.remove(id);
        } else {
            self.with(id, now, |stream, _| stream.leave(now));
        }
    }

    /// Nothing of the stream is under way, or nobody waits for it.
    pub(super) fn remove(&mut self, id: StreamId) {
        if self.streams.remove(&id).is_some() {
            self.ready.remove(&id);
            self.look_at_intervals();
            self.outputs.push(Output::Left(id));
        }
    }

    fn look_at_intervals(&mut self) {
        self.commit_interval_us = self.streams.values().map(Stream::commit_interval_us).min().unwrap_or(0);
    }

    /// Asks what the topics hold of streams that nobody has looked at since they came.
    pub(super) fn find(&mut self) {
        if self.is_finding || self.producer == Producer::None || !matches!(self.stage, Stage::Owning(_)) {
            return;
        }
        let unknown = self.streams.values().filter(|stream| stream.is_opening());
        let plans: Vec<_> = unknown.filter_map(Stream::plan).collect();
        self.find_at_us = None;
        if !plans.is_empty() {
            self.is_finding = true;
            self.outputs.push(Output::Find(plans));
        }
    }

    pub(super) fn found(&mut self, result: Result<Opened, OpenError>, now: Now) {
        if !std::mem::take(&mut self.is_finding) {
            return;
        }
        match result {
            Ok(found) => {
                // One that has left and come again meanwhile begins with nothing, as the one before it did; and nothing of any of
                // them can be in flight yet.
                self.take_up(found, now);
                self.find();
            }
            Err(error) => {
                let ids: Vec<StreamId> = self.streams.values().filter(|s| s.is_opening()).map(Stream::id).collect();
                for id in ids {
                    self.with(id, now, |stream, _| match &error {
                        OpenError::Kafka(failure) => stream.account.cannot_write(failure, now),
                        OpenError::Unconfirmed(text) => stream.account.trouble(text, now),
                        OpenError::NotOwner => {}
                    });
                }
                self.find_at_us = Some(now.us + FIND_AGAIN_US);
            }
        }
    }
}
