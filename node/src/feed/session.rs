//! One subscription kept alive: dial, read until the end, wait, dial again. A worker starts a session per subscription
//! (`Session::run` under its own spawner) and stops it by the handle. Every connection is a new subscription with a new
//! random id: what one connection sent says nothing about the position of the next.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::sleep};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{debug, info, warn};

use super::{
    backoff::Backoff,
    connection::{Connection, End, Outlet},
    dial::{DialOptions, dial},
    error::Error,
};
use crate::model::{
    feed_url::FeedUrl,
    frame::{EndKind, FeedEvent},
    report::SubscriptionReport,
    spec::FeedSpec,
};
use crate::{
    clock::wall_ms,
    queue::{self, Receiver, Sender},
};

/// Bytes that may wait between socket and writer, unless one message may be larger. A second of a busy feed.
const INBOX_BYTES: usize = 1024 * 1024;
/// A wait for the host's turn that is worth a word in the status.
const WAIT_SHOWN: Duration = Duration::from_secs(1);
/// How such a word begins. It stands where the last error stands, and is none once there is a connection.
const WAITS: &str = "waits ";

/// What to subscribe to.
#[derive(Debug, Clone)]
pub struct Subscription {
    /// The primary's or the secondary's URL of `spec`.
    pub url: FeedUrl,
    pub spec: Arc<FeedSpec>,
    pub dial: DialOptions,
}

impl Subscription {
    /// The primary subscription of `spec`, or its secondary one.
    pub fn new(spec: FeedSpec, secondary: bool, dial: DialOptions) -> Self {
        let url = spec.secondary_url.as_ref().filter(|_| secondary).unwrap_or(&spec.primary_url).clone();
        Self { url, spec: Arc::new(spec), dial }
    }
}

/// The way of a session's events to its writer: at most `websocket.message.queue.size` frames, and at most 1 MiB or one
/// message. Beside it a session holds one batch that waits for room, of at most 256 frames and 256 KiB and one message.
pub fn inbox(spec: &FeedSpec) -> (Sender<FeedEvent>, Receiver<FeedEvent>) {
    queue::channel(spec.queue_frames_max, INBOX_BYTES.max(spec.message_bytes_max))
}

/// The running side of a subscription.
#[derive(Debug)]
pub struct Session {
    subscription: Subscription,
    outlet: Outlet,
    asked: watch::Receiver<String>,
}

/// The controlling side. Dropping it stops the session.
#[derive(Debug)]
pub struct SessionHandle {
    stop: DropGuard,
    status: watch::Receiver<SubscriptionReport>,
    asks: watch::Sender<String>,
}

impl SessionHandle {
    /// Connection state, reconnect count, last message and last error, as they change.
    pub fn status(&self) -> watch::Receiver<SubscriptionReport> {
        self.status.clone()
    }

    /// Ends the live connection and dials anew at once; `Closed` carries the reason, no failure is counted. Does nothing
    /// while there is no connection: one is being made.
    pub fn reconnect(&self, reason: &str) {
        self.asks.send_replace(reason.to_owned());
    }

    /// Stops the session and waits until its socket is closed; at most a fraction of a second.
    pub async fn stop(self) {
        let mut status = self.status;
        self.stop.disarm().cancel();
        // The sender lives as long as the session.
        while status.changed().await.is_ok() {}
    }
}

/// What becomes of a session after an attempt or a connection.
enum Next {
    Stopped,
    /// Dial after so long.
    Again(Duration),
    GivesUp(String),
}

impl Session {
    /// Prepares a session that sends its events to `out`, see [`inbox`]. Nothing is dialed before `run`.
    pub fn new(subscription: Subscription, out: Sender<FeedEvent>) -> (Self, SessionHandle) {
        let url = subscription.url.public.clone();
        let (status, watched) = watch::channel(SubscriptionReport { url, ..SubscriptionReport::default() });
        let (asks, asked) = watch::channel(String::new());
        let stop = CancellationToken::new();
        let handle = SessionHandle { stop: stop.clone().drop_guard(), status: watched, asks };
        (Self { subscription, outlet: Outlet { events: out, status, stop }, asked }, handle)
    }

    /// Keeps the subscription alive until it is stopped or gives up, which its last event says.
    pub async fn run(mut self) {
        let spec = Arc::clone(&self.subscription.spec);
        let mut backoff = Backoff::new(spec.reconnect_interval_ms, spec.reconnect_backoff_max_ms);
        loop {
            let wait = match self.attempt(&spec, &mut backoff).await {
                Next::Stopped => return,
                Next::GivesUp(reason) => return self.gave_up(reason).await,
                Next::Again(wait) => wait,
            };
            tokio::select! {
                biased;
                () = self.outlet.stop.cancelled() => return,
                () = sleep(wait) => {}
            }
        }
    }

    /// One dial, and the connection that comes of it until its end.
    async fn attempt(&mut self, spec: &FeedSpec, backoff: &mut Backoff) -> Next {
        let Subscription { url, dial: options, .. } = &self.subscription;
        let dialing = dial(url, spec, options, |host, wait| self.waits(host, wait));
        let dialed = tokio::select! {
            biased;
            () = self.outlet.stop.cancelled() => return Next::Stopped,
            dialed = dialing => dialed,
        };
        let dialed = match dialed {
            Ok(dialed) => dialed,
            Err(error) => {
                let wait = backoff.failed(rand::random()).max(error.asked_to_wait().unwrap_or_default());
                return self.connect_failed(&error, backoff, wait).await;
            }
        };
        let subscription = rand::random();
        // What was asked of a former connection is none of this one's business.
        self.asked.mark_unchanged();
        if !self.opened(subscription, dialed.took).await {
            return Next::Stopped;
        }
        let connection = Connection::new(dialed, spec, subscription, &self.outlet);
        let (end, life) = connection.run(&mut self.asked).await;
        let (kind, reason, next) = match end {
            End::Stopped => return Next::Stopped,
            End::Asked(reason) => {
                backoff.closed(life);
                (EndKind::Restart, reason, Next::Again(Duration::ZERO))
            }
            End::Lost(error) => {
                let wait = backoff.ended(life, rand::random());
                (error.kind(), error.reason(), self.next(&error, backoff, wait))
            }
        };
        if self.closed(subscription, kind, reason).await { next } else { Next::Stopped }
    }

    async fn opened(&self, subscription: u64, took: Duration) -> bool {
        info!(url = %self.subscription.url.public, subscription, "subscribed");
        self.outlet.status.send_modify(|status| {
            status.connected = true;
            status.connected_since_ms = wall_ms();
            if status.last_error.starts_with(WAITS) {
                status.last_error.clear();
            }
        });
        self.outlet.tell(FeedEvent::Opened { subscription, connect_ms: milliseconds(took) }).await
    }

    async fn closed(&self, subscription: u64, kind: EndKind, reason: String) -> bool {
        warn!(url = %self.subscription.url.public, subscription, reason, "subscription ended");
        self.outlet.status.send_modify(|status| {
            status.connected = false;
            status.reconnects += 1;
            status.last_error.clone_from(&reason);
        });
        self.outlet.tell(FeedEvent::Closed { subscription, kind, reason }).await
    }

    async fn connect_failed(&self, error: &Error, backoff: &Backoff, wait: Duration) -> Next {
        let (reason, attempt, retry_in_ms) = (error.reason(), backoff.attempts(), milliseconds(wait));
        if attempt <= 1 {
            warn!(url = %self.subscription.url.public, attempt, retry_in_ms, reason, "cannot subscribe");
        } else {
            // Status, metrics and events carry the repetition; a warning per attempt would drown the log.
            debug!(url = %self.subscription.url.public, attempt, retry_in_ms, reason, "cannot subscribe");
        }
        self.outlet.status.send_modify(|status| status.last_error.clone_from(&reason));
        let next = self.next(error, backoff, wait);
        // The last failure is told by what comes of it: there is no next attempt.
        if matches!(next, Next::GivesUp(_))
            || self.outlet.tell(FeedEvent::ConnectFailed { kind: error.kind(), reason, attempt, retry_in_ms }).await
        {
            next
        } else {
            Next::Stopped
        }
    }

    async fn gave_up(&self, reason: String) {
        warn!(url = %self.subscription.url.public, reason, "gave the subscription up");
        self.outlet.status.send_modify(|status| status.gave_up = Some(reason.clone()));
        self.outlet.tell(FeedEvent::GaveUp { reason }).await;
    }

    /// The host's turn comes after `wait`: most are too short to tell.
    fn waits(&self, host: &str, wait: Duration) {
        if wait >= WAIT_SHOWN {
            let reason = format!("{WAITS}{} s to dial {host}: it asked to, or many dial it", wait.as_secs());
            debug!(url = %self.subscription.url.public, reason, "not dialed yet");
            self.outlet.status.send_modify(|status| status.last_error = reason);
        }
    }

    fn next(&self, error: &Error, backoff: &Backoff, wait: Duration) -> Next {
        let spec = &self.subscription.spec;
        let used_up = spec.reconnect_attempts_max.is_some_and(|max| backoff.attempts() >= max);
        let why = match (spec.reconnect_enabled, used_up) {
            (true, false) => return Next::Again(wait),
            (false, _) => "websocket.reconnect.enabled is false".to_owned(),
            (true, true) => format!("gave up after {} attempts", backoff.attempts()),
        };
        Next::GivesUp(format!("{}; {why}", error.reason()))
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
