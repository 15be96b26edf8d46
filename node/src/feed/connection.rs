//! Reads one open connection until it ends: frames go out in order and in batches of what is readable at once; own pings
//! prove the peer alive; a close is answered at once. Called by `session`. While the writer's inbox is full the socket
//! is not read: what to do about overflow is the pipeline's decision.

use std::{
    future::poll_fn,
    mem,
    task::{Context, Poll},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tokio_tungstenite::tungstenite::{
    Message,
    protocol::{CloseFrame, frame::coding::CloseCode},
};
use tokio_util::sync::CancellationToken;

use super::{
    dial::Socket,
    error::{Error, printable},
};
use crate::model::{
    frame::{FeedEvent, Frame, FrameKind},
    spec::FeedSpec,
};

/// Frames of one event, at most.
const BATCH_FRAMES_MAX: usize = 256;
/// Payload bytes of one event after which no further frame joins it.
const BATCH_BYTES_MAX: usize = 256 * 1024;
/// How long a farewell may take; the peer gets it if it is listening, and nobody waits if it is not.
const FAREWELL: Duration = Duration::from_millis(100);
/// Period after which bytes without a message are forgiven: a quiet feed with server pings lives for months.
const WATCH_PERIOD: Duration = Duration::from_secs(10);

/// How a connection ended.
#[derive(Debug)]
pub(super) enum End {
    /// Asked to stop, or nobody listens any more.
    Stopped,
    Lost(Error),
}

/// One live subscription.
pub(super) struct Connection<'a> {
    socket: Socket,
    spec: &'a FeedSpec,
    subscription: u64,
    out: &'a mpsc::Sender<FeedEvent>,
    /// Read and not yet handed on.
    frames: Vec<Frame>,
    /// When a pong or a message last proved the peer alive.
    alive_at: Instant,
    message_at: Instant,
    pinged_at: Instant,
    watched_at: Instant,
}

impl<'a> Connection<'a> {
    pub(super) fn new(socket: Socket, spec: &'a FeedSpec, subscription: u64, out: &'a mpsc::Sender<FeedEvent>) -> Self {
        let now = Instant::now();
        let frames = Vec::new();
        let (alive_at, message_at, pinged_at, watched_at) = (now, now, now, now);
        Self { socket, spec, subscription, out, frames, alive_at, message_at, pinged_at, watched_at }
    }

    /// Reads until the connection ends or `stop` is cancelled. Frames read before the end are handed on before it.
    pub(super) async fn run(mut self, stop: &CancellationToken) -> End {
        let mut tick = interval(self.tick_period());
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let end = tokio::select! {
                biased;
                () = stop.cancelled() => {
                    self.farewell().await;
                    return End::Stopped;
                }
                _ = tick.tick() => self.check().await,
                end = poll_fn(|cx| self.poll_batch(cx)) => end,
            };
            if !self.hand_on(stop).await {
                return End::Stopped;
            }
            if let Some(error) = end {
                // Flushes the answer to a close frame, which tungstenite has queued.
                let _ = timeout(FAREWELL, self.socket.flush()).await;
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

    /// Collects what is readable now, without waiting for more once there is something. Control frames alone also end
    /// the collection, so that a flood of them cannot keep the task from its timers.
    ///
    /// Cancel safe: what was collected stays in `self.frames`.
    fn poll_batch(&mut self, cx: &mut Context<'_>) -> Poll<Option<Error>> {
        let mut bytes = 0;
        let mut received_at_ns = 0;
        for _ in 0..BATCH_FRAMES_MAX {
            let (kind, payload) = match self.socket.poll_next_unpin(cx) {
                Poll::Pending if self.frames.is_empty() => return Poll::Pending,
                Poll::Pending => return Poll::Ready(None),
                Poll::Ready(None) => return Poll::Ready(Some(Error::Ended("the server closed the connection".into()))),
                Poll::Ready(Some(Err(error))) => {
                    return Poll::Ready(Some(Error::from_websocket(error, self.spec.message_bytes_max)));
                }
                Poll::Ready(Some(Ok(Message::Text(text)))) => (FrameKind::Text, Bytes::from(text)),
                Poll::Ready(Some(Ok(Message::Binary(binary)))) => (FrameKind::Binary, binary),
                Poll::Ready(Some(Ok(Message::Close(close)))) => {
                    return Poll::Ready(Some(Error::Ended(closed_reason(close.as_ref()))));
                }
                Poll::Ready(Some(Ok(Message::Pong(_)))) => {
                    self.alive_at = Instant::now();
                    continue;
                }
                // A ping has been answered by tungstenite; raw frames are never returned by a read.
                Poll::Ready(Some(Ok(Message::Ping(_) | Message::Frame(_)))) => continue,
            };
            if received_at_ns == 0 {
                received_at_ns = now_ns();
            }
            bytes += payload.len();
            self.frames.push(Frame { kind, payload, received_at_ns });
            if bytes >= BATCH_BYTES_MAX {
                break;
            }
        }
        Poll::Ready(None)
    }

    /// Hands the collected frames on, waiting for room. False if the session is to stop.
    async fn hand_on(&mut self, stop: &CancellationToken) -> bool {
        if self.frames.is_empty() {
            return true;
        }
        let permit = tokio::select! {
            biased;
            permit = self.out.reserve() => permit,
            () = stop.cancelled() => return false,
        };
        let Ok(permit) = permit else { return false };
        let room = self.frames.len();
        let frames = mem::replace(&mut self.frames, Vec::with_capacity(room));
        permit.send(FeedEvent::Frames { subscription: self.subscription, frames });
        // Read after the wait for room: while we did not read, we could not see a pong either.
        let now = Instant::now();
        (self.alive_at, self.message_at) = (now, now);
        self.socket.get_mut().progress();
        true
    }

    /// The timers: own pings, dead peer, idle feed.
    async fn check(&mut self) -> Option<Error> {
        let now = Instant::now();
        if now.duration_since(self.watched_at) >= WATCH_PERIOD {
            self.watched_at = now;
            self.socket.get_mut().progress();
        }
        let (ping_ms, pong_ms, idle_ms) =
            (self.spec.ping_interval_ms, self.spec.pong_timeout_ms, self.spec.idle_timeout_ms);
        if idle_ms > 0 && now.duration_since(self.message_at) >= Duration::from_millis(idle_ms) {
            return Some(Error::Dead(format!("no message for {idle_ms} ms (twinfeed.websocket.idle.timeout.ms)")));
        }
        if ping_ms == 0 {
            return None;
        }
        // The last sign of life may be up to one interval older than the ping that asks for the next.
        if now.duration_since(self.alive_at) >= Duration::from_millis(ping_ms + pong_ms) {
            return Some(Error::Dead(format!(
                "neither a message nor a pong within {pong_ms} ms of a ping (twinfeed.websocket.pong.timeout.ms)"
            )));
        }
        if now.duration_since(self.pinged_at) < Duration::from_millis(ping_ms) {
            return None;
        }
        self.pinged_at = now;
        let ping = self.socket.send(Message::Ping(Bytes::new()));
        match timeout(Duration::from_millis(pong_ms), ping).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(Error::from_websocket(error, self.spec.message_bytes_max)),
            Err(_) => Some(Error::Dead(format!("the server took no byte for {pong_ms} ms"))),
        }
    }

    async fn farewell(&mut self) {
        let close = CloseFrame { code: CloseCode::Normal, reason: "subscription stopped".into() };
        let _ = timeout(FAREWELL, self.socket.send(Message::Close(Some(close)))).await;
    }
}

fn closed_reason(close: Option<&CloseFrame>) -> String {
    match close {
        None => "the server closed the connection without a code".into(),
        Some(close) => {
            let (code, reason) = (u16::from(close.code), printable(&close.reason, 123));
            let gap = if reason.is_empty() { "" } else { " " };
            format!("the server closed the connection: {code}{gap}{reason}")
        }
    }
}

fn now_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}
