//! Two writers, their relay cut short to channels, a feed with repeats and skew, a real broker: what is written equals
//! what was sent, whoever goes when.

mod feed;
mod twins;

use std::{collections::BTreeMap, time::Duration};

use twinfeed_node::pipeline::Role;
use twins::{Twins, wait_until};

/// Counts what differs: (lost, doubled).
fn differences(sent: &BTreeMap<Vec<u8>, i64>, written: &BTreeMap<Vec<u8>, i64>) -> (i64, i64) {
    let mut balance: BTreeMap<&[u8], i64> = sent.iter().map(|(k, n)| (k.as_slice(), *n)).collect();
    for (payload, n) in written {
        *balance.entry(payload).or_default() -= n;
    }
    (balance.values().filter(|n| **n > 0).sum(), -balance.values().filter(|n| **n < 0).sum::<i64>())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_standby_takes_over_and_the_topic_holds_every_message_once() {
    let mut twins = Twins::start().await;
    for epoch in 2..5 {
        wait_until("redundant", || twins.owner().report().borrow().redundant).await;
        // The owner vanishes: its task is dropped, as it is, with whatever it had in flight.
        twins.drop_owner();
        twins.promote(epoch).await;
        wait_until("delivering", || twins.owner().report().borrow().delivering).await;
        twins.new_standby(epoch).await;
    }
    wait_until("redundant", || twins.owner().report().borrow().redundant).await;
    let (sent, written) = twins.finish(Duration::from_secs(20)).await;
    assert!(sent.values().sum::<i64>() > 1_000, "too little traffic to prove anything");
    assert_eq!(differences(&sent, &written), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_planned_move_swaps_the_roles_and_the_topic_holds_every_message_once() {
    let mut twins = Twins::start().await;
    for epoch in 2..6 {
        wait_until("redundant", || twins.owner().report().borrow().redundant).await;
        twins.swap(epoch).await;
        wait_until("delivering", || twins.owner().report().borrow().delivering).await;
    }
    wait_until("redundant", || twins.owner().report().borrow().redundant).await;
    let (sent, written) = twins.finish(Duration::from_secs(20)).await;
    assert!(sent.values().sum::<i64>() > 1_000, "too little traffic to prove anything");
    assert_eq!(differences(&sent, &written), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_that_lost_its_assignment_writes_nothing_more() {
    let mut twins = Twins::start().await;
    wait_until("redundant", || twins.owner().report().borrow().redundant).await;
    // Epoch 2 belongs to the standby, but the old owner has not heard of it.
    let zombie = twins.owner().clone();
    let written_before = {
        twins.promote(2).await;
        wait_until("delivering", || twins.owner().report().borrow().delivering).await;
        zombie.report().borrow().records_committed
    };
    wait_until("the zombie to notice", || !zombie.report().borrow().delivering).await;
    // One commit may have been acknowledged just before the fence; none afterwards.
    let at_fence = zombie.report().borrow().records_committed;
    assert!(at_fence >= written_before);
    zombie.assume(Role::Standby { epoch: twinfeed_node::model::ids::Epoch(2) }).await;
    let (sent, written) = twins.finish(Duration::from_secs(20)).await;
    assert_eq!(differences(&sent, &written), (0, 0));
}
