//! Reads one open connection until it ends: frames go out in order and in batches of what is readable at once; own pings
//! prove the peer alive; a close is answered at once. Called by `session`. While the writer's inbox is full the socket
//! is not read: what to do about overflow is the pipeline's decision. It never waits for the peer to take bytes: a stop
//! must not depend on it.

use std::{
    future::{pending, poll_fn},
    mem,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tokio_tungstenite::tungstenite::{
    self, Message,
    error::ProtocolError,
    protocol::{CloseFrame, frame::coding::CloseCode},
};
use tokio_util::sync::CancellationToken;

use super::{
    backoff::Life,
    dial::{Dialed, Socket},
    error::{Error, printable},
    sent::Sent,
};
use crate::model::{
    frame::{EndKind, FeedEvent, Frame, FrameKind},
    report::SubscriptionReport,
    spec::FeedSpec,
};
use crate::{
    clock::wall_ns,
    queue::{Sender, Weight},
};

/// Frames of one event, at most.
const BATCH_FRAMES_MAX: usize = 256;
/// Payload bytes of one event after which no further frame joins it.
pub(super) const BATCH_BYTES_MAX: usize = 256 * 1024;
/// How long a farewell may take; the peer gets it if it is listening, and nobody waits if it is not.
const FAREWELL: Duration = Duration::from_millis(100);
/// Period after which bytes without a message are forgiven: a quiet feed with server pings lives for months.
const WATCH_PERIOD: Duration = Duration::from_secs(10);

/// How a connection ended.
#[derive(Debug)]
pub(super) enum End {
    /// Asked to stop, or nobody listens any more.
    Stopped,
    /// Asked to connect anew, with this reason.
    Asked(String),
    Lost(Error),
}

/// Where a session tells what it has.
#[derive(Debug)]
pub(super) struct Outlet {
    pub(super) events: Sender<FeedEvent>,
    pub(super) status: watch::Sender<SubscriptionReport>,
    pub(super) stop: CancellationToken,
}

impl Outlet {
    /// Hands an event on, waiting for room. False if the session is to stop.
    pub(super) async fn tell(&self, event: FeedEvent) -> bool {
        let weight = Weight { items: event.frames(), bytes: event.bytes() };
        tokio::select! {
            biased;
            sent = self.events.send(event, weight) => sent.is_ok(),
            () = self.stop.cancelled() => false,
        }
    }
}

/// One live subscription.
pub(super) struct Connection<'a> {
    socket: Socket,
    sent: Sent,
    spec: &'a FeedSpec,
    subscription: u64,
    outlet: &'a Outlet,
    /// Read and not yet handed on.
    frames: Vec<Frame>,
    opened_at: Instant,
    /// When a pong, a message or a keep-alive last proved the peer alive.
    alive_at: Instant,
    message_at: Instant,
    pinged_at: Instant,
    watched_at: Instant,
    /// Since when the peer has not taken a ping.
    unflushed_since: Option<Instant>,
    /// What is left to read may say why.
    write_failed: Option<Error>,
    /// Wall clock of the last message on this connection, in milliseconds; 0 before the first.
    last_message_ms: u64,
    /// On this connection, not in the status yet.
    keep_alives: u64,
}

impl<'a> Connection<'a> {
    pub(super) fn new(dialed: Dialed, spec: &'a FeedSpec, subscription: u64, outlet: &'a Outlet) -> Self {
        let now = Instant::now();
        let Dialed { socket, sent, .. } = dialed;
        Self {
            socket,
            sent,
            spec,
            subscription,
            outlet,
            frames: Vec::new(),
            opened_at: now,
            alive_at: now,
            message_at: now,
            pinged_at: now,
            watched_at: now,
            unflushed_since: None,
            write_failed: None,
            last_message_ms: 0,
            keep_alives: 0,
        }
    }

    /// Reads until the connection ends, the session is stopped, or `asked` has a reason to connect anew. Frames read
    /// before the end are handed on before it.
    pub(super) async fn run(mut self, asked: &mut watch::Receiver<String>) -> (End, Life) {
        let end = self.read(asked).await;
        match &end {
            End::Stopped | End::Asked(_) => self.farewell().await,
            // Flushes the answer to a close frame, which tungstenite has queued.
            End::Lost(_) => {
                let _ = timeout(FAREWELL, self.socket.flush()).await;
            }
        }
        self.publish();
        (end, Life { lived: self.opened_at.elapsed(), brought: self.last_message_ms > 0 })
    }

    async fn read(&mut self, asked: &mut watch::Receiver<String>) -> End {
        let stop = &self.outlet.stop;
        let mut tick = interval(self.tick_period());
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let end = tokio::select! {
                biased;
                () = stop.cancelled() => return End::Stopped,
                reason = next(asked) => return End::Asked(reason),
                _ = tick.tick() => self.check(),
                end = poll_fn(|cx| self.poll_batch(cx)) => end,
            };
            if !self.hand_on().await {
                return End::Stopped;
            }
            if let Some(error) = end {
                return End::Lost(error);
            }
        }
    }

    /// Fine enough that a limit is overrun by a quarter at most, and cheap enough for a thousand idle streams.
    fn tick_period(&self) -> Duration {
        let limits = [self.spec.ping_interval_ms, self.spec.pong_timeout_ms, self.spec.idle_timeout_ms];
        let least = limits.into_iter().filter(|ms| *ms > 0).min().unwrap_or(1000);
        Duration::from_millis((least / 4).clamp(5, 1000))
    }

    /// Collects what is readable now, without waiting for more once there is something. What is no frame also counts
    /// towards the end of the collection, so that a flood of it cannot keep the task from its timers.
    ///
    /// Cancel safe: what was collected stays in `self.frames`.
    fn poll_batch(&mut self, cx: &mut Context<'_>) -> Poll<Option<Error>> {
        self.poll_unflushed(cx);
        let mut bytes = 0;
        let mut received_at_ns = 0;
        // A batch larger than the queue's bound would wait for an empty queue.
        for _ in 0..BATCH_FRAMES_MAX.min(self.spec.queue_frames_max.max(1)) {
            let (kind, payload) = match self.socket.poll_next_unpin(cx) {
                Poll::Pending if !self.frames.is_empty() => return Poll::Ready(None),
                Poll::Pending => match self.write_failed.take() {
                    Some(error) => return Poll::Ready(Some(error)),
                    None => return Poll::Pending,
                },
                Poll::Ready(Some(Ok(Message::Text(text)))) => (FrameKind::Text, Bytes::from(text)),
                Poll::Ready(Some(Ok(Message::Binary(binary)))) => (FrameKind::Binary, binary),
                Poll::Ready(Some(Ok(Message::Pong(_)))) => {
                    self.alive_at = Instant::now();
                    continue;
                }
                // A ping has been answered by tungstenite; raw frames are never returned by a read.
                Poll::Ready(Some(Ok(Message::Ping(_) | Message::Frame(_)))) => continue,
                Poll::Ready(Some(Ok(Message::Close(_)))) => return Poll::Ready(Some(self.closed())),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(self.broken(error))),
                Poll::Ready(None) => {
                    return Poll::Ready(Some(self.broken(tungstenite::Error::ConnectionClosed)));
                }
            };
            if received_at_ns == 0 {
                received_at_ns = wall_ns();
            }
            let frame = Frame { kind, payload, received_at_ns };
            if frame.is_keep_alive() {
                self.alive_at = Instant::now();
                self.keep_alives += 1;
                continue;
            }
            bytes += frame.payload.len();
            self.frames.push(frame);
            if bytes >= BATCH_BYTES_MAX {
                break;
            }
        }
        Poll::Ready(None)
    }

    /// Goes on writing a ping that the peer has not taken yet.
    fn poll_unflushed(&mut self, cx: &mut Context<'_>) {
        if self.unflushed_since.is_none() {
            return;
        }
        match self.socket.poll_flush_unpin(cx) {
            Poll::Pending => {}
            Poll::Ready(Ok(())) => self.unflushed_since = None,
            Poll::Ready(Err(error)) => self.cannot_write(error),
        }
    }

    fn cannot_write(&mut self, error: tungstenite::Error) {
        self.unflushed_since = None;
        self.write_failed = Some(Error::from_websocket(error, self.spec.message_bytes_max));
    }

    /// Hands the collected frames on, waiting for room. False if the session is to stop.
    async fn hand_on(&mut self) -> bool {
        let Some(last) = self.frames.last() else { return true };
        let (is_first, received_at_ms) = (self.last_message_ms == 0, last.received_at_ns / 1_000_000);
        let room = self.frames.len();
        let frames = mem::replace(&mut self.frames, Vec::with_capacity(room));
        if !self.outlet.tell(FeedEvent::Frames { subscription: self.subscription, frames }).await {
            return false;
        }
        self.last_message_ms = received_at_ms;
        if is_first {
            self.publish();
        }
        // Read after the wait for room: while we did not read, we could not see a pong either.
        let now = Instant::now();
        (self.alive_at, self.message_at) = (now, now);
        true
    }

    /// Tells the status what came. At the pace of the timers: a lock per batch would be felt.
    fn publish(&mut self) {
        let (last_message_ms, keep_alives) = (self.last_message_ms, mem::take(&mut self.keep_alives));
        self.outlet.status.send_if_modified(|status| {
            // 0 before this connection's first, and earlier than the last one where the clock was set back.
            let last_message_ms = if last_message_ms > 0 { last_message_ms } else { status.last_message_ms };
            let is_news = keep_alives > 0 || last_message_ms != status.last_message_ms;
            status.keep_alives += keep_alives;
            status.last_message_ms = last_message_ms;
            is_news
        });
    }

    /// The timers: own pings, dead peer, idle feed.
    fn check(&mut self) -> Option<Error> {
        let dead = |why: String| Some(Error::ended(EndKind::Idle, why));
        let now = Instant::now();
        self.publish();
        if now.duration_since(self.watched_at) >= WATCH_PERIOD {
            self.watched_at = now;
            self.socket.get_mut().forgive();
        }
        let (ping_ms, pong_ms, idle_ms) =
            (self.spec.ping_interval_ms, self.spec.pong_timeout_ms, self.spec.idle_timeout_ms);
        if idle_ms > 0 && now.duration_since(self.message_at) >= Duration::from_millis(idle_ms) {
            return dead(format!("no message for {idle_ms} ms (twinfeed.websocket.idle.timeout.ms)"));
        }
        if ping_ms == 0 {
            return None;
        }
        // The last sign of life may be up to one interval older than the ping that asks for the next.
        if now.duration_since(self.alive_at) >= Duration::from_millis(ping_ms + pong_ms) {
            return dead(format!(
                "neither a message nor a pong within {pong_ms} ms of a ping (twinfeed.websocket.pong.timeout.ms)"
            ));
        }
        if let Some(since) = self.unflushed_since {
            let is_stuck = now.duration_since(since) >= Duration::from_millis(pong_ms);
            return if is_stuck { dead(format!("the server took no byte for {pong_ms} ms")) } else { None };
        }
        if now.duration_since(self.pinged_at) >= Duration::from_millis(ping_ms) {
            self.pinged_at = now;
            // Queued here and written by `poll_batch`: waiting for the peer here would keep a stop waiting, too.
            match self.socket.start_send_unpin(Message::Ping(Bytes::new())) {
                Ok(()) => self.unflushed_since = Some(now),
                Err(error) => self.cannot_write(error),
            }
        }
        None
    }

    async fn farewell(&mut self) {
        let close = CloseFrame { code: CloseCode::Normal, reason: "subscription stopped".into() };
        let _ = timeout(FAREWELL, self.socket.send(Message::Close(Some(close)))).await;
    }

    /// The server's close frame as it came: the library puts its own code in the place of one outside the registry.
    fn closed(&self) -> Error {
        let why = match self.socket.get_ref().closed() {
            None => "the server closed the connection without a code".into(),
            Some((code, reason)) => {
                let reason = printable(&self.sent.without(&reason), 123);
                let gap = if reason.is_empty() { "" } else { " " };
                format!("the server closed the connection: {code}{gap}{reason}")
            }
        };
        Error::ended(EndKind::Closed, why)
    }

    fn broken(&self, error: tungstenite::Error) -> Error {
        use tungstenite::Error as E;
        // A close frame with a reason that is not utf-8 is still one.
        let may_be_close = matches!(error, E::Utf8(_) | E::Protocol(ProtocolError::InvalidCloseSequence));
        if may_be_close && self.socket.get_ref().closed().is_some() {
            return self.closed();
        }
        Error::from_websocket(error, self.spec.message_bytes_max)
    }
}

/// The next reason to connect anew; never, once nobody can ask.
async fn next(asked: &mut watch::Receiver<String>) -> String {
    if asked.changed().await.is_err() {
        return pending().await;
    }
    asked.borrow_and_update().clone()
}
