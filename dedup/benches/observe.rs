//! The cost of a frame: hashing 200 bytes and merging it, with both subscriptions alive and commits every 500 messages.
//!
//! One element is one frame of one subscription. `cargo bench -p twinfeed-dedup`; the bytes per live entry are printed first.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use twinfeed_dedup::{Fingerprint, Frame, FrameKind, Merge, Options, SubscriptionId};

const OWN: SubscriptionId = SubscriptionId(1);
const STANDBY: SubscriptionId = SubscriptionId(2);
/// Messages by which the standby's copy comes later.
const LAG: u64 = 500;
/// Messages per measured round, and per commit.
const ROUND: u64 = 10_000;
const BATCH: u64 = 500;
const HOT: u64 = 20;

/// A merge in the middle of a stream of unique or partly repeated payloads.
struct Stream {
    merge: Merge<()>,
    repeats_percent: u64,
    next: u64,
}

impl Stream {
    fn new(repeats_percent: u64) -> Self {
        let mut merge = Merge::new(Options::default(), 1);
        merge.own_subscription(Some(OWN), 0);
        merge.standby_joined();
        merge.standby_subscription(Some(STANDBY), 0);
        let mut stream = Self { merge, repeats_percent, next: 1 };
        stream.run(ROUND);
        assert!(stream.merge.status().standby_aligned, "the benchmark wants both subscriptions aligned");
        stream
    }

    fn payload(&self, number: u64) -> [u8; 200] {
        let mut payload = [b'x'; 200];
        let is_hot = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32 < (self.repeats_percent << 32) / 100;
        let value = if is_hot { number % HOT } else { number + HOT };
        payload[..8].copy_from_slice(&value.to_le_bytes());
        payload
    }

    fn deliver(&mut self, subscription: SubscriptionId, index: u64) {
        let fingerprint = Fingerprint::of(FrameKind::Text, black_box(&self.payload(index)));
        self.merge.frame(Frame { subscription, index, fingerprint, bytes: 200, payload: () }, index / 60);
    }

    /// Delivers the next messages on both subscriptions.
    fn run(&mut self, messages: u64) {
        for index in self.next..self.next + messages {
            self.deliver(OWN, index);
            if index > LAG {
                self.deliver(STANDBY, index - LAG);
            }
            if index.is_multiple_of(BATCH) {
                black_box(self.merge.cut(index / 60, usize::MAX, usize::MAX));
                self.merge.committed();
                black_box(self.merge.take_messages());
            }
        }
        self.next += messages;
    }
}

/// Bytes per entry when a standby lags by a hundred thousand messages and every one of them has to be remembered.
fn report_bytes_per_entry() {
    let mut stream = Stream::new(0);
    for index in stream.next..stream.next + 100_000 {
        stream.deliver(OWN, index);
    }
    let (entries, bytes) = (stream.merge.status().entries, stream.merge.window_heap_bytes());
    println!(
        "window: {entries} live entries, {bytes} bytes of heap, {:.0} bytes per entry",
        bytes as f64 / entries as f64
    );
}

fn observe(criterion: &mut Criterion) {
    report_bytes_per_entry();
    let mut group = criterion.benchmark_group("observe");
    group.throughput(Throughput::Elements(2 * ROUND)).measurement_time(Duration::from_secs(5));
    for (name, repeats_percent) in
        [("unique_200B", 0), ("repeats_30_percent_200B", 30), ("repeats_95_percent_200B", 95)]
    {
        let mut stream = Stream::new(repeats_percent);
        group.bench_function(name, |bencher| bencher.iter(|| stream.run(ROUND)));
    }
    group.finish();
}

criterion_group!(benches, observe);
criterion_main!(benches);
