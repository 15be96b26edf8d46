//! Figures, printed and not asserted: how long a write takes, how much processor the intended load costs, and how many
//! records a second one producer carries.

use std::{
    fs,
    time::{Duration, Instant},
};

use twinfeed_node::kafka::OutRecord;

use crate::support::{Steady, new_topic, records};

const COMMIT_INTERVAL_MS: u64 = 10;
/// 60,000 records/s at that interval.
const RECORDS_PER_INTERVAL: u64 = 600;

#[tokio::test]
async fn print_write_latency_and_throughput() {
    let target = new_topic("figures").await;
    let mut writer = Steady::open(&target).await;
    let mut sequence = 1;
    for size in [1, 50, 1000] {
        let mut took_us = Vec::new();
        for _ in 0..300 {
            took_us.push(writer.write(records(1, sequence, size)).await.took.as_micros());
            sequence += size;
        }
        took_us.sort_unstable();
        let at = |percent: usize| took_us[took_us.len() * percent / 100];
        println!("write of {size} x 200 B, back to back: p50 {} us, p90 {} us, p99 {} us", at(50), at(90), at(99));
    }
    let steady = records(2, 1, RECORDS_PER_INTERVAL);
    paced(&mut writer, &steady, Duration::from_secs(3)).await;
    let batch = records(2, 1, 8_000);
    let began = Instant::now();
    let mut written = 0;
    while began.elapsed() < Duration::from_secs(3) {
        written += writer.write(batch.clone()).await.records;
    }
    println!("writes of 8,000 x 200 B, back to back: {:.0} records/s", written as f64 / began.elapsed().as_secs_f64());
}

async fn paced(writer: &mut Steady, batch: &[OutRecord], during: Duration) {
    let mut ticks = tokio::time::interval(Duration::from_millis(COMMIT_INTERVAL_MS));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (began, cpu_before_ms) = (Instant::now(), cpu_ms());
    let (mut written, mut took_us) = (0, Vec::new());
    while began.elapsed() < during {
        ticks.tick().await;
        let committed = writer.write(batch.to_vec()).await;
        written += committed.records;
        took_us.push(committed.took.as_micros());
    }
    let seconds = began.elapsed().as_secs_f64();
    took_us.sort_unstable();
    println!(
        "a commit every {COMMIT_INTERVAL_MS} ms: {:.0} records/s at {:.0} % of a core in this process, write p50 {} us, p99 {} us",
        written as f64 / seconds,
        (cpu_ms() - cpu_before_ms) / seconds / 10.0,
        took_us[took_us.len() / 2],
        took_us[took_us.len() * 99 / 100],
    );
}

/// Processor time of this process so far, all threads, user and system; Linux counts it in ticks of 10 ms.
fn cpu_ms() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").expect("/proc");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("a command name").split_whitespace().collect();
    let ticks: f64 = fields[11..=12].iter().map(|ticks| ticks.parse::<f64>().expect("a number")).sum();
    ticks * 10.0
}
