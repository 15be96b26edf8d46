//! One subscription kept alive: dial, read until the end, wait, dial again. A worker starts a session per subscription
//! (`Session::run` under its own spawner) and stops it by the handle. Every connection is a new subscription with a new
//! random id: what one connection sent says nothing about the position of the next.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep},
};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{debug, info, warn};

use super::{
    backoff::Backoff,
    connection::{Connection, End},
    dial::{DialOptions, dial},
    error::Error,
};
use crate::model::{feed_url::FeedUrl, frame::FeedEvent, report::SubscriptionReport, spec::FeedSpec};

/// What to subscribe to.
#[derive(Debug, Clone)]
pub struct Subscription {
    /// The primary's or the secondary's URL of `spec`.
    pub url: FeedUrl,
    pub spec: Arc<FeedSpec>,
    pub dial: DialOptions,
}

/// Why a session is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// By its handle, or because nobody receives its events any more.
    Stopped,
    /// Reconnecting is disabled or its attempts are used up: the connector has failed.
    GaveUp { reason: String },
}

/// The running side of a subscription.
#[derive(Debug)]
pub struct Session {
    subscription: Subscription,
    out: mpsc::Sender<FeedEvent>,
    stop: CancellationToken,
    status: watch::Sender<SubscriptionReport>,
}

/// The controlling side. Dropping it stops the session.
#[derive(Debug)]
pub struct SessionHandle {
    stop: DropGuard,
    status: watch::Receiver<SubscriptionReport>,
}

impl SessionHandle {
    /// Connection state, reconnect count and last error, as they change.
    pub fn status(&self) -> watch::Receiver<SubscriptionReport> {
        self.status.clone()
    }

    /// Stops the session and waits until its socket is closed; at most a fraction of a second.
    pub async fn stop(self) {
        let mut status = self.status;
        self.stop.disarm().cancel();
        // The sender lives as long as the session.
        while status.changed().await.is_ok() {}
    }
}

impl Session {
    /// Prepares a session that sends its events to `out`. Nothing is dialed before `run`.
    pub fn new(subscription: Subscription, out: mpsc::Sender<FeedEvent>) -> (Self, SessionHandle) {
        let url = subscription.url.public.clone();
        let (status, watched) = watch::channel(SubscriptionReport { url, ..SubscriptionReport::default() });
        let stop = CancellationToken::new();
        let handle = SessionHandle { stop: stop.clone().drop_guard(), status: watched };
        (Self { subscription, out, stop, status }, handle)
    }

    /// Keeps the subscription alive until it is stopped or gives up.
    pub async fn run(self) -> Ended {
        let spec = Arc::clone(&self.subscription.spec);
        let mut backoff = Backoff::new(spec.reconnect_interval_ms, spec.reconnect_backoff_max_ms);
        loop {
            let dialing = dial(&self.subscription.url, &spec, &self.subscription.dial);
            let dialed = tokio::select! {
                biased;
                () = self.stop.cancelled() => return Ended::Stopped,
                dialed = dialing => dialed,
            };
            let wait = match dialed {
                Ok(socket) => {
                    let subscription = rand::random();
                    let connected_at = Instant::now();
                    if !self.opened(subscription).await {
                        return Ended::Stopped;
                    }
                    let connection = Connection::new(socket, &spec, subscription, &self.out);
                    let End::Lost(error) = connection.run(&self.stop).await else { return Ended::Stopped };
                    if !self.closed(subscription, &error).await {
                        return Ended::Stopped;
                    }
                    let wait = backoff.ended(connected_at.elapsed(), rand::random());
                    if let Some(ended) = self.gives_up(&error, &backoff) {
                        return ended;
                    }
                    wait
                }
                Err(error) => {
                    let wait = backoff.failed(rand::random());
                    let ended = self.gives_up(&error, &backoff);
                    let wait_shown = if ended.is_some() { Duration::from_millis(u64::MAX) } else { wait };
                    if !self.connect_failed(&error, backoff.failures(), wait_shown).await {
                        return Ended::Stopped;
                    }
                    if let Some(ended) = ended {
                        return ended;
                    }
                    wait
                }
            };
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Ended::Stopped,
                () = sleep(wait) => {}
            }
        }
    }

    /// Hands an event on, waiting for room. False if the session is to stop.
    async fn tell(&self, event: FeedEvent) -> bool {
        tokio::select! {
            biased;
            sent = self.out.send(event) => sent.is_ok(),
            () = self.stop.cancelled() => false,
        }
    }

    async fn opened(&self, subscription: u64) -> bool {
        info!(url = %self.subscription.url.public, subscription, "subscribed");
        self.status.send_modify(|status| {
            status.connected = true;
            status.connected_since_ms = now_ms();
        });
        self.tell(FeedEvent::Opened { subscription }).await
    }

    async fn closed(&self, subscription: u64, error: &Error) -> bool {
        let reason = error.reason();
        warn!(url = %self.subscription.url.public, subscription, reason, "subscription ended");
        self.status.send_modify(|status| {
            status.connected = false;
            status.reconnects += 1;
            status.last_error.clone_from(&reason);
        });
        self.tell(FeedEvent::Closed { subscription, reason }).await
    }

    async fn connect_failed(&self, error: &Error, attempt: u32, wait: Duration) -> bool {
        let reason = error.reason();
        let retry_in_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        if attempt <= 1 {
            warn!(url = %self.subscription.url.public, attempt, retry_in_ms, reason, "cannot subscribe");
        } else {
            // Status, metrics and events carry the repetition; a warning per attempt would drown the log.
            debug!(url = %self.subscription.url.public, attempt, retry_in_ms, reason, "cannot subscribe");
        }
        self.status.send_modify(|status| status.last_error.clone_from(&reason));
        self.tell(FeedEvent::ConnectFailed { reason, attempt, retry_in_ms }).await
    }

    fn gives_up(&self, error: &Error, backoff: &Backoff) -> Option<Ended> {
        let spec = &self.subscription.spec;
        let used_up = spec.reconnect_attempts_max.is_some_and(|max| backoff.failures() >= max);
        let why = match (spec.reconnect_enabled, used_up) {
            (true, false) => return None,
            (false, _) => "websocket.reconnect.enabled is false".to_owned(),
            (true, true) => format!("gave up after {} attempts", backoff.failures()),
        };
        Some(Ended::GaveUp { reason: format!("{}; {why}", error.reason()) })
    }
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
