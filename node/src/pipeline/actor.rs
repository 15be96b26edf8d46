//! The loop of a writer: everything that can happen to it becomes an input of its decisions, everything they ask for is done here.
//!
//! Control comes before traffic, and of the traffic neither feed nor relay comes before the other: a busy feed must not keep the
//! acks away, nor a busy relay the own line. Work that the writer has let go of is dropped with its future, so that no result of it
//! can arrive any more.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::{mpsc, watch},
    time::MissedTickBehavior,
};
use tokio_util::sync::CancellationToken;
use twinfeed_dedup::ToStandby;
use twinfeed_writer::{
    Assigned, Committed, Input, LineSight, Now, Output, Plan, Sight, StreamId, Writer, record::OutRecord,
};

use super::{
    failure,
    opening::{self, Warm},
    options::Options,
    pending::{Pending, poll, sleep_until},
    relayed::{Relay, Relayed, hear, speak},
};
use crate::{
    clock::wall_ns,
    faults::{self, Bug, Point},
    feed,
    kafka::{self, FencedProducer},
    model::{
        frame::FeedEvent,
        relay::{OwnerMessage, StandbyMessage},
        report::{Role, SubscriptionReport, WriterReport},
    },
    queue,
    relay_session::Offer,
    supervise::TaskKind,
};

/// How often the report, quiet cuts and limits are looked after.
const LOOK: Duration = Duration::from_millis(50);
/// A stopping owner commits what it has for at most this long.
const DRAIN_MAX: Duration = Duration::from_secs(5);

type WriteResult = (FencedProducer, Result<kafka::Committed, kafka::Error>);

pub(super) struct Actor {
    options: Options,
    /// The only one of the writer.
    stream: StreamId,
    writer: Writer,
    roles: mpsc::Receiver<Assigned>,
    offers: mpsc::Receiver<Offer>,
    cancel: CancellationToken,
    /// The own subscription, once it runs.
    feed: Option<feed::SessionHandle>,
    relay: Option<Relay>,
    warm: Option<Warm>,
    producer: Option<FencedProducer>,
    opening: Pending<Result<opening::Opened, opening::Error>>,
    writing: Pending<WriteResult>,
    asking: Pending<bool>,
    out: watch::Sender<WriterReport>,
    born: Instant,
}

/// What the two lines bring.
enum Traffic {
    Fed(FeedEvent),
    Relayed(Relayed),
}

impl Actor {
    pub(super) fn new(
        options: Options,
        (roles, offers): (mpsc::Receiver<Assigned>, mpsc::Receiver<Offer>),
        cancel: CancellationToken,
    ) -> Self {
        let stream = options.settings.stream;
        let writer = Writer::new([options.settings.clone()], rand::random());
        Self {
            stream,
            out: watch::Sender::new(writer.report(stream).cloned().unwrap_or_default()),
            options,
            writer,
            roles,
            offers,
            cancel,
            feed: None,
            relay: None,
            warm: None,
            producer: None,
            opening: None,
            writing: None,
            asking: None,
            born: Instant::now(),
        }
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<WriterReport> {
        self.out.subscribe()
    }

    pub(super) async fn run(mut self, role: Assigned) {
        let (feed_in, mut feed) = feed::inbox(&self.options.feed.spec);
        let (session, feed_handle) = feed::Session::new(self.options.feed.clone(), feed_in);
        let name = format!("feed of {}", self.options.settings.connector);
        let session = self.options.spawner.spawn(TaskKind::FeedSession, name, |_| async move {
            session.run().await;
            Ok(())
        });
        let feed_status = feed_handle.status();
        self.feed = Some(feed_handle);
        self.step(Input::Assume(role));
        self.publish();
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let cancel = self.cancel.clone();
        loop {
            let cut_at = self.cut_at();
            tokio::select! {
                biased;
                () = cancel.cancelled() => break,
                Some(role) = self.roles.recv() => {
                    self.step(Input::Assume(role));
                    self.publish();
                }
                Some(offer) = self.offers.recv() => self.offered(offer),
                result = poll(&mut self.opening) => self.opened(result),
                (producer, result) = poll(&mut self.writing) => self.written(producer, result),
                reached = poll(&mut self.asking) => self.step(Input::KafkaAnswered(reached)),
                () = sleep_until(cut_at) => self.step(Input::Cut),
                _ = look.tick() => self.look(&feed_status, feed.len()),
                traffic = traffic(&mut feed, &mut self.relay) => self.carry(traffic),
            }
            speak(&mut self.relay, &mut self.writer);
        }
        // The feed's farewell takes what its server leaves it; the batch in flight does not wait for that.
        let feed = self.feed.take();
        let farewell = async {
            if let Some(feed) = feed {
                feed.stop().await;
            }
            session.ended().await;
        };
        tokio::join!(farewell, self.drain());
    }

    fn now(&self) -> Now {
        Now { us: self.born.elapsed().as_micros() as u64, wall_ns: wall_ns() }
    }

    fn cut_at(&self) -> Option<Instant> {
        self.writer.cut_at_us().map(|at_us| self.born + Duration::from_micros(at_us))
    }

    fn step(&mut self, input: Input) {
        let outputs = self.writer.step(input, self.now());
        outputs.into_iter().for_each(|output| self.act(output));
    }

    fn act(&mut self, output: Output) {
        match output {
            Output::Open(plan) => self.open(plan),
            // The node's streams come and go with their writers, one each.
            Output::Find(_) | Output::Left(_) => {}
            Output::WarmUp => self.warm = self.options.warm_up(),
            Output::Write(batch) => {
                let batch = together(batch);
                if let Some(mut producer) = self.producer.take() {
                    self.writing = Some(Box::pin(async move {
                        let result = producer.write(batch).await;
                        (producer, result)
                    }));
                }
            }
            Output::Close => {
                (self.opening, self.writing) = (None, None);
                if let Some(producer) = self.producer.take() {
                    producer.close();
                }
            }
            Output::EndRelay => self.relay = None,
            Output::Reconnect { reason, .. } => {
                if let Some(feed) = &self.feed {
                    feed.reconnect(&reason);
                }
            }
            Output::AskKafka => {
                let answer = self.warm.as_ref().and_then(|warm| warm.tail.ask_end_offsets().ok());
                self.asking = Some(Box::pin(async move {
                    match answer {
                        Some(answer) => matches!(answer.await, Ok(Ok(_))),
                        None => false,
                    }
                }));
            }
            Output::Event(event) => (self.options.emit)(event),
        }
    }

    fn open(&mut self, plan: Plan) {
        let warm = self.warm.take().filter(|_| plan.warm);
        self.opening = Some(Box::pin(opening::open(self.options.clone(), plan, warm)));
    }

    fn opened(&mut self, result: Result<opening::Opened, opening::Error>) {
        let result = result.map_err(|error| error.into_writers()).map(|opened| {
            self.producer = Some(opened.producer);
            opened.facts
        });
        self.step(Input::Opened(result));
        self.publish();
    }

    fn written(&mut self, producer: FencedProducer, result: Result<kafka::Committed, kafka::Error>) {
        self.producer = Some(producer);
        let result = result.map_err(|error| failure::of(&error)).map(|committed| {
            faults::point(Point::OwnerAfterCommit);
            Committed {
                took_us: committed.took.as_micros() as u64,
                settled_us: committed.settled.as_micros() as u64,
                breather_us: committed.breather().as_micros() as u64,
                next_offsets: vec![(self.stream, committed.next_offsets)],
                timestamp_ms_max: committed.timestamp_ms_max,
                recycle: committed.recycle,
            }
        });
        self.step(Input::Written(result));
    }

    /// A session of another epoch or role is dropped here, which ends it.
    fn offered(&mut self, offer: Offer) {
        match offer {
            Offer::Standby { session, epoch, node, incarnation } if self.writer.welcomes_standby(epoch) => {
                self.relay = Some(Relay::with_standby(session));
                self.step(Input::StandbyConnected { node });
                self.heard_standby(StandbyMessage::Hello { incarnation });
            }
            Offer::Owner { session, epoch } if self.writer.welcomes_owner(epoch) => {
                self.relay = Some(Relay::with_owner(session));
                self.step(Input::OwnerConnected);
            }
            Offer::Standby { .. } | Offer::Owner { .. } => {}
        }
    }

    fn heard_standby(&mut self, message: StandbyMessage) {
        self.step(Input::FromStandby { stream: self.stream, message });
    }

    fn carry(&mut self, traffic: Traffic) {
        match traffic {
            Traffic::Fed(event) => {
                let retains = self.out.borrow().role == Role::Standby && matches!(event, FeedEvent::Frames { .. });
                if retains {
                    faults::point(Point::StandbyBeforeRetain);
                }
                self.step(Input::Fed { stream: self.stream, event });
                if retains {
                    faults::point(Point::StandbyBeforeSend);
                }
            }
            Traffic::Relayed(Relayed::FromStandby(message)) => self.heard_standby(message),
            Traffic::Relayed(Relayed::FromOwner(message)) => {
                if releases(&message) {
                    faults::point(Point::StandbyBeforeRelease);
                }
                self.step(Input::FromOwner { stream: self.stream, message });
            }
            Traffic::Relayed(Relayed::Room) => {}
            Traffic::Relayed(Relayed::Ended) => {
                let stood = matches!(self.relay.take(), Some(Relay::WithOwner { stood: true, .. }));
                self.step(Input::RelayEnded);
                if stood && faults::bug(Bug::SelfPromotion) {
                    let epoch = self.out.borrow().epoch;
                    self.step(Input::Assume(Assigned::Owner { epoch }));
                }
            }
        }
    }

    fn look(&mut self, subscription: &watch::Receiver<SubscriptionReport>, waiting: usize) {
        let line = LineSight { subscription: subscription.borrow().clone(), waiting: waiting as u64 };
        self.step(Input::Look(Sight {
            kafka_connected: self.warm.as_ref().is_some_and(Warm::is_connected),
            lines: vec![(self.stream, line)],
        }));
        self.publish();
    }

    fn publish(&self) {
        let Some(report) = self.writer.report(self.stream) else { return };
        self.out.send_if_modified(|out| {
            let changed = out != report;
            if changed {
                out.clone_from(report);
            }
            changed
        });
    }

    /// Commits what a stopping owner still has. Politeness only: a standby holds the same frames.
    async fn drain(mut self) {
        self.step(Input::Drain);
        let deadline = Instant::now() + DRAIN_MAX;
        while !self.writer.is_drained() {
            let cut_at = self.cut_at();
            tokio::select! {
                (producer, result) = poll(&mut self.writing) => self.written(producer, result),
                () = sleep_until(cut_at) => self.step(Input::Cut),
                () = tokio::time::sleep_until(deadline.into()) => break,
            }
        }
        self.act(Output::Close);
    }
}

/// Whichever line brings something first; where both have something, either may be it.
async fn traffic(feed: &mut queue::Receiver<FeedEvent>, relay: &mut Option<Relay>) -> Traffic {
    tokio::select! {
        Some(event) = feed.recv() => Traffic::Fed(event),
        relayed = hear(relay) => Traffic::Relayed(relayed),
    }
}

/// The records of a batch in one piece, as the producer takes them.
fn together(mut batch: Vec<Arc<Vec<OutRecord>>>) -> Arc<Vec<OutRecord>> {
    match batch.pop() {
        Some(only) if batch.is_empty() => only,
        last => Arc::new(batch.iter().chain(&last).flat_map(|records| records.iter().cloned()).collect()),
    }
}

fn releases(message: &OwnerMessage) -> bool {
    matches!(message, OwnerMessage::Merge { message: ToStandby::Ack(ack), .. } if !ack.resolved.is_empty())
}
