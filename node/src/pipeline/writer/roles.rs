//! From role to role: what of the former phase is kept, what is dropped, and which sessions between nodes are welcome.
//! Nothing of a role outlives it, except the frames that the next one needs.

use twinfeed_dedup::Retention;

use super::{
    super::{
        Payload,
        handle::Role,
        opening::{self, TailFrom, Warm},
        owner::Heard,
        phase::{Opening, Phase},
        standby::Standby,
    },
    REOPEN_MIN, Writer,
};
use crate::model::{ids::Epoch, relay::Offer, report::Role as ReportedRole};

impl Writer {
    pub(super) fn assume(&mut self, role: Role) {
        let phase = std::mem::replace(&mut self.phase, Phase::Deposed);
        self.phase = match (phase, role) {
            (Phase::Standing(standby), Role::Owner { epoch }) => {
                let redundant = standby.retention.is_redundant();
                self.progress.takeover_started(epoch, redundant, standby.reason(self.now_ms()));
                let Standby { retention, acked, warm, .. } = *standby;
                let tail_from = acked.map_or(TailFrom::Recent, TailFrom::Offsets);
                Phase::Opening(self.begin_opening(epoch, retention, tail_from, (warm, redundant)))
            }
            (Phase::Standing(mut standby), Role::Standby { epoch }) => {
                if standby.epoch != epoch {
                    standby.new_owner(epoch, self.numbering.renew());
                }
                Phase::Standing(standby)
            }
            (Phase::Opening(opening), Role::Owner { epoch }) if opening.epoch == epoch => Phase::Opening(opening),
            (Phase::Opening(opening), Role::Owner { epoch }) => {
                let Opening { retention, tail_from, redundant, lost_at_ms, .. } = opening;
                Phase::Opening(Opening {
                    lost_at_ms,
                    ..self.begin_opening(epoch, *retention, tail_from, (None, redundant))
                })
            }
            (Phase::Opening(opening), Role::Standby { epoch }) => {
                self.close();
                self.stand_by(epoch, *opening.retention)
            }
            (Phase::Owning(owner), Role::Owner { epoch }) if owner.epoch == epoch => Phase::Owning(owner),
            (Phase::Owning(_) | Phase::Deposed, Role::Owner { epoch }) => {
                self.close();
                let retention = self.fresh_retention();
                Phase::Opening(self.begin_opening(epoch, retention, TailFrom::End, (None, false)))
            }
            (Phase::Owning(_) | Phase::Deposed, Role::Standby { epoch }) => {
                self.close();
                let retention = self.fresh_retention();
                self.stand_by(epoch, retention)
            }
        };
        self.progress.role(match role {
            Role::Owner { epoch } => (ReportedRole::Owner, epoch),
            Role::Standby { epoch } => (ReportedRole::Standby, epoch),
        });
    }

    fn fresh_retention(&mut self) -> Retention<Payload> {
        let mut retention = Retention::new(self.options.merge.clone());
        if let Some(id) = self.numbering.renew() {
            retention.subscribed(id);
        }
        retention
    }

    fn stand_by(&mut self, epoch: Epoch, retention: Retention<Payload>) -> Phase {
        let mut standby = Standby::new(epoch, retention, self.numbering.live());
        standby.warm = self.options.warm_up();
        Phase::Standing(Box::new(standby))
    }

    fn begin_opening(
        &mut self,
        epoch: Epoch,
        retention: Retention<Payload>,
        tail_from: TailFrom,
        (warm, redundant): (Option<Warm>, bool),
    ) -> Opening {
        self.opening =
            Some(Box::pin(opening::open(self.options.plan(epoch, (tail_from.clone(), redundant), warm, false))));
        Opening { epoch, retention: Box::new(retention), tail_from, redundant, lost_at_ms: None }
    }

    /// Lets go of producer and pending work. Whatever they still had in the air is fenced by the next owner's init.
    pub(super) fn close(&mut self) {
        self.opening = None;
        self.writing = None;
        self.reopen_at = None;
        self.reopen_pause = REOPEN_MIN;
        if let Some(producer) = self.producer.take() {
            producer.close();
        }
    }

    /// A session of another epoch or role is dropped here, which ends it; the standby tries again until both agree.
    pub(super) fn offered(&mut self, offer: Offer) {
        let now_ms = self.now_ms();
        match (offer, &mut self.phase) {
            (Offer::Standby { session, epoch, node, incarnation }, Phase::Owning(owner)) if owner.epoch == epoch => {
                let heard = owner.standby_connected(session, node, incarnation);
                self.progress.standby_connected(heard == Heard::NewStandby);
                self.tell(now_ms);
            }
            (Offer::Owner { session, epoch }, Phase::Standing(standby)) if standby.epoch == epoch => {
                standby.owner_connected(session);
            }
            _ => {}
        }
    }

    /// The assignment has moved: nothing of this role may be written any more. The frames are not needed either, as
    /// the new owner retained its own copies. The worker tells the next role.
    pub(super) fn depose(&mut self) {
        self.close();
        self.phase = Phase::Deposed;
    }
}
