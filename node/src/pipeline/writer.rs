//! The writer actor: the one loop that owns a writer's role, subscription, merge and producer on this node.
//!
//! Everything that can happen to it is an arm of `run`'s select. Phases: `Standing` (retain and relay), `Opening` (the
//! takeover sequence, still retaining), `Owning` (merge and commit), `Deposed` (fenced; waits for the worker's word).
//! A producer that was fenced never reopens by itself: the assignment is confirmed first.

use std::time::{Duration, Instant};

use tokio::{
    sync::{mpsc, watch},
    time::MissedTickBehavior,
};
use tokio_util::sync::CancellationToken;
use twinfeed_dedup::{Merge, Retention, TailRecord};

use super::{
    Ledger, Payload,
    handle::Role,
    opening::{self, Opened, TailFrom, Warm},
    options::Options,
    owner::{Counts, Heard, Owner},
    pending::{Pending, poll, sleep_until},
    phase::{Opening, Phase, Relayed},
    progress::Progress,
    standby::{self, Next, Standby},
    subscription::Numbering,
};
use crate::{
    faults::{self, Bug},
    feed,
    kafka::{self, Committed, FencedProducer, OutRecord},
    model::{
        frame::FeedEvent,
        ids::Epoch,
        relay::Offer,
        report::{Role as ReportedRole, SubscriptionReport},
    },
    supervise::TaskKind,
};

/// How often the report, quiet cuts and limits are looked after.
const HOUSEKEEPING: Duration = Duration::from_millis(50);
/// Between a commit and the next begin: an immediate begin hits a hard-coded 20 ms retry in librdkafka.
const AFTER_COMMIT_MIN: Duration = Duration::from_millis(2);
/// Resolution of the runtime's timer.
const TIMER_GRAIN: Duration = Duration::from_millis(1);
/// First and largest pause between openings that failed. One that meets silence takes ten seconds by itself.
const REOPEN_MIN: Duration = Duration::from_millis(100);
const REOPEN_MAX: Duration = Duration::from_secs(1);
/// Only an operator can help; once he has, it goes on by itself.
const REOPEN_FAILED: Duration = Duration::from_secs(5);
/// A stopping owner commits what it has for at most this long.
const DRAIN_MAX: Duration = Duration::from_secs(5);
/// Feed events waiting for the actor; each holds up to a few hundred frames. A full channel stops the socket read.
const FEED_EVENTS_MAX: usize = 64;

type WriteResult = (FencedProducer, Result<Committed, kafka::Error>);

pub(super) struct Writer {
    options: Options,
    progress: Progress,
    roles: mpsc::Receiver<Role>,
    offers: mpsc::Receiver<Offer>,
    cancel: CancellationToken,
    numbering: Numbering,
    ledger: Ledger,
    phase: Phase,
    producer: Option<FencedProducer>,
    opening: Pending<Result<Opened, opening::Error>>,
    writing: Pending<WriteResult>,
    /// When to try opening again after a failure.
    reopen_at: Option<Instant>,
    reopen_pause: Duration,
    next_cut: Instant,
    born: Instant,
}

impl Writer {
    pub(super) fn new(
        options: Options,
        progress: Progress,
        (roles, offers): (mpsc::Receiver<Role>, mpsc::Receiver<Offer>),
        cancel: CancellationToken,
    ) -> Self {
        let now = Instant::now();
        Self {
            options,
            progress,
            roles,
            offers,
            cancel,
            numbering: Numbering::default(),
            ledger: Ledger::default(),
            phase: Phase::Deposed,
            producer: None,
            opening: None,
            writing: None,
            reopen_at: None,
            reopen_pause: REOPEN_MIN,
            next_cut: now,
            born: now,
        }
    }

    fn now_ms(&self) -> u64 {
        self.born.elapsed().as_millis() as u64
    }

    pub(super) async fn run(mut self, role: Role) {
        let (feed_in, mut feed) = mpsc::channel(FEED_EVENTS_MAX);
        let (session, feed_handle) = feed::Session::new(self.options.feed.clone(), feed_in);
        let name = format!("feed of {}", self.options.connector);
        let session = self.options.spawner.spawn(TaskKind::FeedSession, name, |_| async move {
            session.run().await;
            Ok(())
        });
        let feed_status = feed_handle.status();
        self.assume(role);
        let mut housekeeping = tokio::time::interval(HOUSEKEEPING);
        housekeeping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let cancel = self.cancel.clone();
        loop {
            let cut_at = self.cut_at();
            tokio::select! {
                biased;
                () = cancel.cancelled() => break,
                Some(role) = self.roles.recv() => self.assume(role),
                Some(offer) = self.offers.recv() => self.offered(offer),
                result = poll(&mut self.opening) => self.opened(result),
                (producer, result) = poll(&mut self.writing) => self.written(producer, result),
                () = sleep_until(cut_at) => self.cut(),
                _ = housekeeping.tick() => self.housekeeping(&feed_status),
                Some(event) = feed.recv() => self.fed(event),
                relayed = self.phase.hear() => self.relayed(relayed),
            }
        }
        feed_handle.stop().await;
        session.ended().await;
        self.drain().await;
    }

    /// When the next batch is due, if there is one and the producer is free.
    fn cut_at(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Owning(owner) if self.producer.is_some() && owner.merge.status().ready_records > 0 => {
                Some(self.next_cut)
            }
            _ => None,
        }
    }

    // --- roles -------------------------------------------------------------------------------------------------

    fn assume(&mut self, role: Role) {
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
        self.opening = Some(Box::pin(opening::open(self.options.plan(epoch, tail_from.clone(), warm, false))));
        Opening { epoch, retention: Box::new(retention), tail_from, redundant, lost_at_ms: None }
    }

    /// Lets go of producer and pending work. Whatever they still had in the air is fenced by the next owner's init.
    fn close(&mut self) {
        self.opening = None;
        self.writing = None;
        self.reopen_at = None;
        self.reopen_pause = REOPEN_MIN;
        if let Some(producer) = self.producer.take() {
            producer.close();
        }
    }

    /// A session of another epoch or role is dropped here, which ends it; the standby tries again until both agree.
    fn offered(&mut self, offer: Offer) {
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

    // --- opening -----------------------------------------------------------------------------------------------

    fn opened(&mut self, result: Result<Opened, opening::Error>) {
        match result {
            Ok(opened) => self.go_live(opened),
            Err(opening::Error::NotOwner(epoch)) => {
                self.progress.fenced(epoch);
                self.depose();
            }
            Err(error) => {
                match &error {
                    opening::Error::Kafka(error) => self.progress.cannot_write(error, self.now_ms()),
                    other => self.progress.trouble(other),
                }
                self.retry_opening_later();
            }
        }
    }

    fn retry_opening_later(&mut self) {
        let jitter = 0.5 + rand::random::<f64>() / 2.0;
        self.reopen_at = Some(Instant::now() + self.reopen_pause.mul_f64(jitter));
        let longest = if self.progress.has_failed() { REOPEN_FAILED } else { REOPEN_MAX };
        self.reopen_pause = (self.reopen_pause * 2).min(longest);
    }

    fn go_live(&mut self, opened: Opened) {
        let now_ms = self.now_ms();
        let Opened { producer, tail, offsets, last_received_at_ms } = opened;
        self.producer = Some(producer);
        self.reopen_pause = REOPEN_MIN;
        let phase = std::mem::replace(&mut self.phase, Phase::Deposed);
        self.phase = match phase {
            Phase::Opening(opening) => {
                let (epoch, tail_records) = (opening.epoch, tail.len());
                if let Some(last) = last_received_at_ms.filter(|_| !opening.redundant) {
                    self.progress.gap(last, opening.first_received_at_ms());
                }
                if let Some((lost_at_ms, first_ms)) = opening.hole_ms() {
                    self.progress.gap(lost_at_ms, first_ms);
                }
                let merge = self.merge(opening, tail);
                let mut owner = Owner::new(epoch, merge, offsets, self.ledger.clone());
                owner.merge.own_subscription(self.numbering.live(), now_ms);
                self.progress.live(epoch, tail_records, owner.merge.status().ready_records);
                Phase::Owning(Box::new(owner))
            }
            Phase::Owning(mut owner) => {
                // Recovery of the same epoch: the tail decides about the batch that was in flight.
                let records = tail.len();
                if owner.landed(&tail) {
                    let committed = owner.committed(offsets);
                    self.progress.committed(&committed, None);
                } else {
                    let batch = owner.in_flight.clone();
                    self.write(batch);
                }
                self.progress.live(owner.epoch, records, owner.merge.status().ready_records);
                Phase::Owning(owner)
            }
            other => {
                self.close();
                other
            }
        };
        self.next_cut = Instant::now();
    }

    /// A first start takes nothing over: its subscription is the beginning of the stream, so frames that a standby got
    /// before it are known to be new. After a takeover they are not.
    fn merge(&self, opened: Opening, tail: Vec<TailRecord>) -> Merge<Payload> {
        let (options, now_ms) = (self.options.merge.clone(), self.now_ms());
        let Opening { epoch, retention, tail_from, .. } = opened;
        if !matches!(tail_from, TailFrom::End) {
            return Merge::take_over(options, epoch.0, *retention, tail, now_ms);
        }
        let mut merge = Merge::new(options, epoch.0);
        let mut current = None;
        for frame in retention.into_retained() {
            if current.replace(frame.subscription) != Some(frame.subscription) {
                merge.own_subscription(current, now_ms);
            }
            merge.frame(frame, now_ms);
        }
        merge
    }

    fn reopen(&mut self) {
        self.reopen_at = None;
        let (epoch, tail_from) = match &self.phase {
            Phase::Opening(opening) => (opening.epoch, opening.tail_from.clone()),
            Phase::Owning(owner) => (owner.epoch, TailFrom::Offsets(owner.offsets.clone())),
            Phase::Standing(_) | Phase::Deposed => return,
        };
        self.opening = Some(Box::pin(opening::open(self.options.plan(epoch, tail_from, None, true))));
    }

    /// The assignment has moved: nothing of this role may be written any more. The frames are not needed either, as
    /// the new owner retained its own copies. The worker tells the next role.
    fn depose(&mut self) {
        self.close();
        self.phase = Phase::Deposed;
    }

    // --- writing -----------------------------------------------------------------------------------------------

    fn cut(&mut self) {
        let now_ms = self.now_ms();
        if let Phase::Owning(owner) = &mut self.phase
            && let Some(batch) = owner.cut(now_ms)
        {
            // The runtime's timer fires up to a millisecond late.
            self.next_cut = Instant::now() + self.options.commit_interval.saturating_sub(TIMER_GRAIN);
            self.write(batch);
        }
    }

    fn write(&mut self, batch: Vec<OutRecord>) {
        if let Some(mut producer) = self.producer.take() {
            self.writing = Some(Box::pin(async move {
                let result = producer.write(batch).await;
                (producer, result)
            }));
        }
    }

    fn written(&mut self, producer: FencedProducer, result: Result<Committed, kafka::Error>) {
        let now_ms = self.now_ms();
        let Phase::Owning(owner) = &mut self.phase else {
            producer.close();
            return;
        };
        match result {
            Ok(committed) => {
                let records = owner.committed(committed.next_offsets.iter().copied());
                self.progress.committed(&records, Some(committed.took));
                self.next_cut = self.next_cut.max(Instant::now() + AFTER_COMMIT_MIN);
                if committed.recycle {
                    producer.close();
                    self.reopen();
                } else {
                    self.producer = Some(producer);
                }
                self.tell(now_ms);
            }
            // Neither a fence nor a timeout says what became of the batch: a new producer's init makes it definite,
            // the check says whether this node may go on, the tail says whether the batch is in the topic.
            Err(error) => {
                producer.close();
                self.progress.write_failed(owner.epoch, &error, now_ms);
                if let kafka::Error::Rejected { sequence: Some(sequence), .. } = &error
                    && let Some(record) = owner.leave_out(*sequence)
                {
                    self.progress.rejected(&record, &error);
                    self.reopen();
                    return;
                }
                match error.retry() {
                    kafka::Retry::Never => self.retry_opening_later(),
                    kafka::Retry::Now | kafka::Retry::Fenced => self.reopen(),
                    kafka::Retry::Backoff => self.retry_opening_later(),
                }
            }
        }
    }

    fn tell(&mut self, now_ms: u64) {
        if let Phase::Owning(owner) = &mut self.phase {
            for notice in owner.tell(now_ms) {
                self.progress.notice(&notice, now_ms);
            }
        }
    }

    // --- feed and relay ----------------------------------------------------------------------------------------

    fn fed(&mut self, event: FeedEvent) {
        let now_ms = self.now_ms();
        match event {
            FeedEvent::Opened { subscription } => {
                let id = self.numbering.opened(subscription);
                self.progress.subscription_opened(subscription);
                match &mut self.phase {
                    Phase::Standing(standby) => standby.subscribed(id),
                    Phase::Opening(opening) => opening.retention.subscribed(id),
                    Phase::Owning(owner) => owner.merge.own_subscription(Some(id), now_ms),
                    Phase::Deposed => {}
                }
            }
            FeedEvent::Closed { reason, .. } => {
                self.numbering.closed();
                self.progress.subscription_lost(&reason);
                match &mut self.phase {
                    Phase::Standing(standby) => standby.disconnected(),
                    Phase::Opening(opening) => opening.disconnected(),
                    Phase::Owning(owner) => owner.merge.own_subscription(None, now_ms),
                    Phase::Deposed => {}
                }
            }
            FeedEvent::ConnectFailed { reason, attempt, retry_in_ms } => {
                self.progress.connect_failed(&reason, attempt, retry_in_ms);
            }
            FeedEvent::Frames { subscription, frames } => {
                let bytes = frames.iter().map(|f| f.payload.len()).sum();
                self.progress.received(frames.len(), bytes);
                let (numbering, ledger) = (&mut self.numbering, &self.ledger);
                let frames = frames.into_iter().filter_map(|frame| numbering.number(subscription, frame, ledger));
                match &mut self.phase {
                    Phase::Standing(standby) => standby.retain(frames),
                    Phase::Opening(opening) => frames.for_each(|frame| opening.retention.frame(frame)),
                    Phase::Owning(owner) => {
                        let counts = owner.frames(frames, now_ms);
                        self.progress.merged(counts);
                    }
                    Phase::Deposed => {}
                }
            }
        }
        self.send_on();
    }

    fn send_on(&mut self) {
        if let Phase::Standing(standby) = &mut self.phase {
            standby.send();
        }
    }

    fn relayed(&mut self, relayed: Relayed) {
        let now_ms = self.now_ms();
        match (&mut self.phase, relayed) {
            (Phase::Owning(owner), Relayed::FromStandby(Some(message))) => {
                let mut counts = Counts::default();
                if owner.heard(message, now_ms, &mut counts) == Heard::Hole {
                    owner.drop_session();
                    self.progress.relay_ended(true);
                }
                self.progress.merged_relayed(counts);
            }
            (Phase::Owning(owner), Relayed::FromStandby(None)) => {
                owner.session_ended(now_ms);
                self.progress.relay_ended(true);
            }
            (Phase::Standing(standby), Relayed::FromOwner(Next::Message(Some(message)))) => {
                match standby.heard(message, now_ms) {
                    Ok(standby::Heard::Nothing) => {}
                    Ok(standby::Heard::Forgotten) => standby.start_over(self.numbering.renew()),
                    Err(error) => {
                        self.progress.trouble(&error);
                        standby.session_ended();
                    }
                }
                self.send_on();
            }
            (Phase::Standing(_), Relayed::FromOwner(Next::Room)) => self.send_on(),
            (Phase::Standing(standby), Relayed::FromOwner(Next::Message(None))) => {
                let (stood, epoch) = (standby.session_ended(), standby.epoch);
                self.progress.relay_ended(stood);
                if stood && faults::bug(Bug::SelfPromotion) {
                    self.assume(Role::Owner { epoch });
                }
            }
            _ => {}
        }
    }

    // --- time --------------------------------------------------------------------------------------------------

    fn housekeeping(&mut self, feed: &watch::Receiver<SubscriptionReport>) {
        let now_ms = self.now_ms();
        if self.reopen_at.is_some_and(|at| at <= Instant::now()) {
            self.reopen();
        }
        match &mut self.phase {
            Phase::Owning(owner) => {
                if self.producer.is_some() {
                    owner.merge.idle_cut(now_ms);
                }
                let producing = self.producer.is_some() || self.writing.is_some();
                self.progress.owning(owner, producing, self.ledger.bytes(), now_ms);
                self.tell(now_ms);
            }
            Phase::Standing(standby) => {
                standby.confirm();
                standby.send();
                standby.look(now_ms);
                self.progress.standing(standby, self.ledger.bytes(), now_ms);
            }
            Phase::Opening(opening) => self.progress.opening(&opening.retention, now_ms),
            Phase::Deposed => {}
        }
        self.limit();
        self.progress.publish(now_ms, &feed.borrow());
    }

    /// Keeps what this writer holds within its limit, by forgetting the oldest: the newest are worth more to a live feed,
    /// and a socket that is not read is closed by its server. Every drop is part of a reported gap.
    fn limit(&mut self) {
        let mut dropped = 0_u64;
        while self.ledger.bytes() > self.options.buffer_bytes_max {
            let gone = match &mut self.phase {
                Phase::Standing(standby) => standby.retention.drop_oldest().is_some(),
                Phase::Opening(opening) => opening.retention.drop_oldest().is_some(),
                Phase::Owning(owner) => owner.merge.drop_oldest().is_some(),
                Phase::Deposed => false,
            };
            if !gone {
                break;
            }
            dropped += 1;
        }
        if dropped > 0 {
            self.progress.overflow(dropped);
        }
    }

    /// Commits what a stopping owner still has. Politeness only: a standby holds the same frames.
    async fn drain(mut self) {
        let deadline = Instant::now() + DRAIN_MAX;
        while let Phase::Owning(owner) = &mut self.phase {
            let busy = self.writing.is_some() || owner.merge.status().ready_records > 0;
            if !busy || (self.producer.is_none() && self.writing.is_none()) {
                break;
            }
            let cut_at = self.cut_at();
            tokio::select! {
                (producer, result) = poll(&mut self.writing) => self.written(producer, result),
                () = sleep_until(cut_at) => self.cut(),
                () = tokio::time::sleep_until(deadline.into()) => break,
            }
        }
        self.close();
    }
}
