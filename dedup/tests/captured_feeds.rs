//! Every captured feed through two skewed connections: the topic must hold each line exactly as often as the feed sent it.
//!
//! The second connection starts in the middle of things and, once, each connection drops and comes back.

use std::collections::HashMap;

use twinfeed_dedup::{Fingerprint, Frame, FrameKind, Merge, Notice, Options, SubscriptionId};

/// How many frames the second connection is behind the first; the skew must not matter, nor its sign.
const LAGS_FRAMES: [isize; 4] = [-40, -3, 5, 60];

struct Connection {
    subscription: SubscriptionId,
    /// Position in the feed of its next frame, and its position on the connection.
    position: usize,
    index: u64,
}

impl Connection {
    fn new(subscription: u64, position: usize) -> Self {
        Self { subscription: SubscriptionId(subscription), position, index: 0 }
    }

    /// Delivers everything up to `until`.
    fn deliver<'a>(&mut self, merge: &mut Merge<&'a str>, feed: &[&'a str], until: usize, now_ms: u64) {
        while self.position < until.min(feed.len()) {
            let payload = feed[self.position];
            self.position += 1;
            self.index += 1;
            let fingerprint = Fingerprint::of(FrameKind::Text, payload.as_bytes());
            let frame = Frame {
                subscription: self.subscription,
                index: self.index,
                fingerprint,
                bytes: payload.len(),
                payload,
            };
            merge.frame(frame, now_ms);
        }
    }
}

fn count<'a>(payloads: impl IntoIterator<Item = &'a str>) -> HashMap<&'a str, usize> {
    let mut counts = HashMap::new();
    for payload in payloads {
        *counts.entry(payload).or_default() += 1;
    }
    counts
}

fn assert_output_equals_input(name: &str, capture: &str) {
    let feed: Vec<&str> =
        capture.lines().filter_map(|line| line.split_once('\t')).map(|(_, payload)| payload).collect();
    assert!(feed.len() > 100, "{name} has only {} messages", feed.len());
    // The shortest capture has little after its middle to align in.
    let lag_max = feed.len() as isize / 8;
    for lag in LAGS_FRAMES.map(|lag| lag.min(lag_max)) {
        let mut merge = Merge::new(Options::default(), 1);
        let (mut first, mut second) = (Connection::new(1, 0), Connection::new(2, 0));
        merge.own_subscription(Some(first.subscription), 0);
        let mut out = Vec::new();
        for step in 0..feed.len() + 200 {
            let now_ms = step as u64 * 100;
            let behind = step.saturating_add_signed(-lag);
            if step == 10 {
                merge.standby_joined();
                second.position = behind;
                merge.standby_subscription(Some(second.subscription), now_ms);
            }
            // The first connection drops where the second is aligned, comes back 20 frames later, and then the other one.
            if step == feed.len() / 2 {
                merge.own_subscription(None, now_ms);
                first = Connection::new(3, step + 20);
            } else if step == feed.len() / 2 + 20 {
                merge.own_subscription(Some(first.subscription), now_ms);
            }
            if step <= feed.len() / 2 || step > feed.len() / 2 + 20 {
                first.deliver(&mut merge, &feed, step, now_ms);
            }
            if step > 10 {
                second.deliver(&mut merge, &feed, behind, now_ms);
            }
            if step % 7 == 0
                && let Some(batch) = merge.cut(now_ms, 50, usize::MAX)
            {
                out.extend(batch.into_iter().map(|record| record.payload));
                merge.committed();
            }
        }
        while let Some(batch) = merge.cut(u64::MAX / 2, 50, usize::MAX) {
            out.extend(batch.into_iter().map(|record| record.payload));
            merge.committed();
        }
        let notices = merge.take_notices();
        let aligned = notices.iter().filter(|notice| matches!(notice, Notice::Aligned { .. })).count();
        assert_eq!(aligned, 2, "{name}, lag {lag}: both newcomers align: {notices:?}");
        assert!(count(out) == count(feed.iter().copied()), "{name}, lag {lag}: the output differs from the input");
    }
}

#[test]
fn bitmex() {
    assert_output_equals_input("bitmex", include_str!("feeds/bitmex.tsv"));
}

#[test]
fn kraken() {
    assert_output_equals_input("kraken", include_str!("feeds/kraken.tsv"));
}

#[test]
fn coinbase() {
    assert_output_equals_input("coinbase", include_str!("feeds/coinbase.tsv"));
}

#[test]
fn binance_delivery() {
    assert_output_equals_input("binance-delivery", include_str!("feeds/binance-delivery.tsv"));
}

#[test]
fn bybit() {
    assert_output_equals_input("bybit", include_str!("feeds/bybit.tsv"));
}

#[test]
fn deribit() {
    assert_output_equals_input("deribit", include_str!("feeds/deribit.tsv"));
}

#[test]
fn bitstamp() {
    assert_output_equals_input("bitstamp", include_str!("feeds/bitstamp.tsv"));
}
