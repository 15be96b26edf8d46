//! From role to role: what of the former phase is kept and what is dropped. Nothing of a role outlives it, except the frames that
//! the next one needs.

use twinfeed_dedup::Retention;

use super::{Producer, Writer};
use crate::{
    Epoch,
    payload::Payload,
    phase::{Opening, Phase},
    port::{Assigned, Now, Offsets, Output, Plan, TailFrom},
    report::Role,
    standby::Standby,
};

impl Writer {
    pub(super) fn assume(&mut self, assigned: Assigned, now: Now) {
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
                self.outputs.push(Output::EndRelay);
                if lacking.is_some() && self.settings.behind_ms_max > 0 {
                    let reason = "it lacks what its twin delivered, and its twin is gone".to_owned();
                    self.outputs.push(Output::Reconnect { reason });
                }
                let opening = self.begin_opening(epoch, retention, (tail_from, redundant), true);
                Phase::Opening(Opening { heard_ms, lacking, ..opening })
            }
            (Phase::Standing(mut standby), Assigned::Standby { epoch }) => {
                if standby.epoch != epoch {
                    self.outputs.push(Output::EndRelay);
                    let renewed = self.numbering.renew(&mut self.entropy);
                    standby.new_owner(epoch, renewed, self.entropy.name());
                }
                Phase::Standing(standby)
            }
            (Phase::Opening(opening), Assigned::Owner { epoch }) if opening.epoch == epoch => Phase::Opening(opening),
            (Phase::Opening(opening), Assigned::Owner { epoch }) => {
                let Opening { retention, tail_from, redundant, lost_at_ms, heard_ms, lacking, .. } = opening;
                let opening = self.begin_opening(epoch, *retention, (tail_from, redundant), false);
                Phase::Opening(Opening { lost_at_ms, heard_ms, lacking, ..opening })
            }
            (Phase::Opening(opening), Assigned::Standby { epoch }) => {
                self.close();
                let mut retention = *opening.retention;
                retention.new_owner();
                if let Some(id) = self.numbering.renew(&mut self.entropy) {
                    retention.subscribed(id);
                }
                self.stand_by(epoch, retention)
            }
            (Phase::Owning(owner), Assigned::Owner { epoch }) if owner.epoch == epoch => Phase::Owning(owner),
            (Phase::Owning(_) | Phase::Deposed, Assigned::Owner { epoch }) => {
                self.close();
                let mut retention = self.fresh_retention();
                // Nobody else delivers what is dropped from here on.
                retention.owner_gone();
                // A connection from before this role may bring what others have written meanwhile: a node that was frozen
                // finds seconds of it in its socket.
                let is_older = retention.subscription().is_some();
                let tail_from = if is_older { TailFrom::Recent(Offsets::new()) } else { TailFrom::End };
                Phase::Opening(self.begin_opening(epoch, retention, (tail_from, false), false))
            }
            (Phase::Owning(_) | Phase::Deposed, Assigned::Standby { epoch }) => {
                self.close();
                let retention = self.fresh_retention();
                self.stand_by(epoch, retention)
            }
        };
        self.account.role(match assigned {
            Assigned::Owner { epoch } => (Role::Owner, epoch),
            Assigned::Standby { epoch } => (Role::Standby, epoch),
        });
    }

    fn fresh_retention(&mut self) -> Retention<Payload> {
        let mut retention = Retention::new(self.settings.merge.clone());
        if let Some(id) = self.numbering.renew(&mut self.entropy) {
            retention.subscribed(id);
        }
        retention
    }

    fn stand_by(&mut self, epoch: Epoch, retention: Retention<Payload>) -> Phase {
        self.outputs.push(Output::WarmUp);
        let incarnation = self.entropy.name();
        Phase::Standing(Box::new(Standby::new(epoch, retention, self.numbering.live(), incarnation)))
    }

    fn begin_opening(
        &mut self,
        epoch: Epoch,
        retention: Retention<Payload>,
        (tail_from, redundant): (TailFrom, bool),
        warm: bool,
    ) -> Opening {
        let plan = Plan { epoch, tail_from: tail_from.clone(), redundant, warm, ask_first: false };
        self.outputs.push(Output::Open(plan));
        self.is_opening = true;
        let retention = Box::new(retention);
        Opening { epoch, retention, tail_from, redundant, lost_at_ms: None, heard_ms: None, lacking: None }
    }

    /// Lets go of relay, producer and pending work. Whatever they still had in the air is fenced by the next owner's init.
    pub(super) fn close(&mut self) {
        self.producer = Producer::None;
        self.is_opening = false;
        self.reopen_at_us = None;
        self.pace.begin_anew();
        self.outputs.extend([Output::Close, Output::EndRelay]);
    }

    /// The assignment has moved: nothing of this role may be written any more. The frames are not needed either, as
    /// the new owner retained its own copies. The worker tells the next role.
    pub(super) fn depose(&mut self) {
        self.close();
        self.phase = Phase::Deposed;
    }
}
