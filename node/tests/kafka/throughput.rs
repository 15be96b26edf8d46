//! Figures, printed and not asserted: how long a write takes, and how many records a second one producer carries.

use std::time::{Duration, Instant};

use crate::support::{new_topic, open, records, unique};

#[tokio::test]
async fn print_write_latency_and_throughput() {
    let target = new_topic("figures").await;
    let mut producer = open(&unique("writer"), &target).await;
    let mut sequence = 1;
    for size in [1, 50, 1000] {
        let mut took_us = Vec::new();
        for _ in 0..200 {
            took_us.push(producer.write(records(1, sequence, size)).await.expect("write").took.as_micros());
            sequence += size;
        }
        took_us.sort_unstable();
        println!("write of {size} records of 200 B: p50 {} us, p99 {} us", took_us[100], took_us[198]);
    }
    // As the pipeline does it: whatever came in during the last transaction is the next one.
    let batch = records(2, 1, 60_000);
    let began = Instant::now();
    let mut written = 0;
    while began.elapsed() < Duration::from_secs(3) {
        written += producer.write(batch[..4_000].to_vec()).await.expect("write").records;
    }
    println!("writes of 4,000 records of 200 B: {:.0} records/s", written as f64 / began.elapsed().as_secs_f64());
}
