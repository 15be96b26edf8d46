//! From role to role, for one stream: what of the former phase is kept and what is dropped. Nothing of a role outlives it, except
//! the frames that the next one needs. The writer decides what becomes of producer and relay.

use twinfeed_dedup::Retention;

use super::Stream;
use crate::{
    Epoch,
    entropy::Entropy,
    payload::Payload,
    phase::{Opening, Phase},
    port::{Assigned, Now, Offsets, StreamPlan, TailFrom},
    report::Role,
    standby::Standby,
};

impl Stream {
    /// Returns why the own connection is to be made anew, if it is.
    pub(crate) fn assume(&mut self, by_writer: Assigned, entropy: &mut Entropy, now: Now) -> Option<String> {
        let mut reconnect = None;
        let assigned = by_writer.since(self.settings.since);
        let phase = std::mem::replace(&mut self.phase, Phase::Deposed);
        self.phase = match (phase, assigned) {
            (Phase::Standing(standby), Assigned::Owner { epoch }) => {
                let redundant = standby.retention.is_redundant();
                self.account.takeover_started(epoch, redundant, standby.reason(now.ms()), now);
                let lacking = standby.lacking();
                let Standby { mut retention, acked, heard_at_ms: heard_ms, .. } = *standby;
                retention.owner_gone();
                // What was acked before the owner knew where a line stands is in the topic, and among its frames.
                let tail_from = match acked {
                    Some(acked) if !retention.has_unplaced() => TailFrom::Offsets(acked),
                    acked => TailFrom::Recent(acked.unwrap_or_default()),
                };
                if lacking.is_some() && self.settings.behind_ms_max > 0 {
                    reconnect = Some("it lacks what its twin delivered, and its twin is gone".to_owned());
                }
                let opening = Opening::new(epoch, retention, (tail_from, redundant));
                Phase::Opening(Opening { heard_ms, lacking, ..opening })
            }
            (Phase::Standing(mut standby), Assigned::Standby { epoch }) => {
                if standby.epoch != epoch {
                    let renewed = self.numbering.renew(entropy);
                    standby.new_owner(epoch, renewed, entropy.name());
                }
                Phase::Standing(standby)
            }
            (Phase::Opening(opening), Assigned::Owner { epoch }) => Phase::Opening(Opening { epoch, ..opening }),
            (Phase::Opening(opening), Assigned::Standby { epoch }) => {
                let mut retention = *opening.retention;
                retention.new_owner();
                if let Some(id) = self.numbering.renew(entropy) {
                    retention.subscribed(id);
                }
                self.stand_by(epoch, retention, entropy)
            }
            (Phase::Owning(owner), Assigned::Owner { epoch }) if owner.epoch == epoch => Phase::Owning(owner),
            (Phase::Owning(_) | Phase::Deposed, Assigned::Owner { epoch }) => {
                let mut retention = self.fresh_retention(entropy);
                // Nobody else delivers what is dropped from here on.
                retention.owner_gone();
                // A connection from before this role may bring what others have written meanwhile: a node that was frozen
                // finds seconds of it in its socket.
                let is_older = retention.subscription().is_some();
                let tail_from = if is_older { TailFrom::Recent(Offsets::new()) } else { TailFrom::End };
                Phase::Opening(Opening::new(epoch, retention, (tail_from, false)))
            }
            (Phase::Owning(_) | Phase::Deposed, Assigned::Standby { epoch }) => {
                let retention = self.fresh_retention(entropy);
                self.stand_by(epoch, retention, entropy)
            }
        };
        self.account.role(match by_writer {
            Assigned::Owner { epoch } => (Role::Owner, epoch),
            Assigned::Standby { epoch } => (Role::Standby, epoch),
        });
        reconnect
    }

    fn fresh_retention(&mut self, entropy: &mut Entropy) -> Retention<Payload> {
        let mut retention = Retention::new(self.settings.merge.clone());
        if let Some(id) = self.numbering.renew(entropy) {
            retention.subscribed(id);
        }
        retention
    }

    fn stand_by(&self, epoch: Epoch, retention: Retention<Payload>, entropy: &mut Entropy) -> Phase {
        let incarnation = entropy.name();
        Phase::Standing(Box::new(Standby::new(epoch, retention, self.numbering.live(), incarnation)))
    }

    /// The assignment has moved: nothing of this role may be written any more. The frames are not needed either, as
    /// the new owner retained its own copies.
    pub(crate) fn depose(&mut self) {
        self.phase = Phase::Deposed;
    }

    /// What an opening has to find out for this stream; `None` where there is nothing to open.
    pub(crate) fn plan(&self) -> Option<StreamPlan> {
        let (tail_from, redundant) = match &self.phase {
            Phase::Opening(opening) => (opening.tail_from.clone(), opening.redundant),
            // It holds everything itself.
            Phase::Owning(owner) => (TailFrom::Offsets(owner.offsets.as_ref().clone()), true),
            Phase::Standing(_) | Phase::Deposed => return None,
        };
        Some(StreamPlan { stream: self.settings.stream, tail_from, redundant })
    }
}
