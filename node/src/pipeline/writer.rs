//! The writer actor: the one loop that owns a writer's role, subscription, merge and producer on this node.
//!
//! Everything that can happen to it is an arm of `run`'s select. Phases: `Standing` (retain and relay), `Opening` (the
//! takeover sequence, still retaining), `Owning` (merge and commit), `Deposed` (fenced; waits for the worker's word).
//! A producer that was fenced never reopens by itself: the assignment is confirmed first. Here are the loop, the writing,
//! what feed and relay bring, and the limits; `roles` changes phases, `takeover` makes an owner of an opening.

mod roles;
mod takeover;

use std::time::{Duration, Instant};

use tokio::{
    sync::{mpsc, watch},
    time::MissedTickBehavior,
};
use tokio_util::sync::CancellationToken;

use super::{
    Ledger,
    handle::Role,
    opening::{self, Opened},
    options::Options,
    owner::{Counts, Heard},
    pending::{Pending, poll, sleep_until},
    phase::{Phase, Relayed},
    progress::Progress,
    standby::{self, Next},
    subscription::Numbering,
    timestamps::Timestamps,
};
use crate::{
    clock::wall_ms,
    faults::{self, Bug},
    feed,
    kafka::{self, Committed, FencedProducer, OutRecord},
    model::{frame::FeedEvent, relay::Offer, report::SubscriptionReport},
    supervise::TaskKind,
};

/// How often the report, quiet cuts and limits are looked after.
const HOUSEKEEPING: Duration = Duration::from_millis(50);
/// The first pause between openings that failed; it doubles.
const REOPEN_MIN: Duration = Duration::from_millis(100);
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
    timestamps: Timestamps,
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
            timestamps: Timestamps::default(),
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

    // --- writing -----------------------------------------------------------------------------------------------

    fn cut(&mut self) {
        let now_ms = self.now_ms();
        if let Phase::Owning(owner) = &mut self.phase
            && let Some(batch) = owner.cut(now_ms)
        {
            self.next_cut = beat_after(self.next_cut, Instant::now(), self.options.commit_interval);
            self.write(batch);
        }
    }

    fn write(&mut self, mut batch: Vec<OutRecord>) {
        let (wall_ms, now_ms) = (wall_ms(), self.now_ms());
        for record in &mut batch {
            record.stream = self.options.target.stream;
            record.timestamp_ms = self.timestamps.stamp(record.timestamp_ms, wall_ms, now_ms);
        }
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
                self.timestamps.accepted(committed.timestamp_ms_max, now_ms);
                let records = owner.committed(committed.next_offsets.iter().copied());
                self.progress.committed(&records, Some(&committed));
                self.next_cut = self.next_cut.max(Instant::now() + committed.breather());
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
                if matches!(error, kafka::Error::InvalidRecords { .. }) && self.timestamps.refused(now_ms) {
                    self.progress.timestamps_refused();
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

/// When the next batch is due after one that was due at `due` and is cut `now`. The runtime's timer fires up to a millisecond
/// late; a beat that is kept does not add that up, and one that was missed is not made up for.
fn beat_after(due: Instant, now: Instant, interval: Duration) -> Instant {
    if now.saturating_duration_since(due) < interval { due + interval } else { now + interval }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beat_is_kept_and_a_missed_one_is_not_made_up_for() {
        let (due, interval) = (Instant::now(), Duration::from_millis(10));
        let after = |late_ms| beat_after(due, due + Duration::from_millis(late_ms), interval) - due;
        assert_eq!([0, 1, 9].map(after), [interval; 3]);
        assert_eq!([10, 5_000].map(|late_ms| after(late_ms).as_millis()), [20, 5_010]);
    }
}
