//! A request to Kafka is late, comes twice, or is answered to nobody: Produce, EndTxn or InitProducerId, through a proxy
//! that knows Kafka's frames. A held request is delivered even when its sender has long given up and asked again, which
//! is how a transaction that nobody wants any more is committed. Nothing may be lost or doubled by it.

use std::time::Duration;

use anyhow::Result;
use rand::{Rng as _, rngs::StdRng};

use crate::{
    harness::{
        KafkaOptions,
        kafka_proxy::{Action, Api},
        wait_for,
    },
    stage::{CONNECTOR, Stage, StageOptions},
    story::{Facts, Story},
};

/// Which request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LateRequests {
    Produce,
    EndTxn,
    /// Asked for by a takeover, which the story causes by moving the stream.
    InitProducerId,
}

/// Shorter and longer than a hidden retry (0.5 s) and than the client's patience with a request (5 s).
const HELD_MS: std::ops::RangeInclusive<u64> = 100..=8_000;
const COPY_AFTER_MS: std::ops::RangeInclusive<u64> = 0..=2_000;
const PROVEN_MAX: Duration = Duration::from_secs(30);

impl Story for LateRequests {
    fn facts(&self) -> Facts {
        let (name, tells) = match self {
            Self::Produce => ("late-produce", "Produce is held, doubled or not answered"),
            Self::EndTxn => ("late-end-txn", "EndTxn is held, doubled or not answered"),
            Self::InitProducerId => ("late-init", "InitProducerId of a new owner is held, doubled or not answered"),
        };
        Facts::new(name, &[21], tells)
    }

    fn stage(&self, _seed: u64) -> Result<StageOptions> {
        Ok(StageOptions { kafka: KafkaOptions::Own { proxied: true }, ..StageOptions::default() })
    }

    fn fault(&self, stage: &mut Stage, random: &mut StdRng) -> Result<()> {
        let api = match self {
            Self::Produce => Api::Produce,
            Self::EndTxn => Api::EndTxn,
            Self::InitProducerId => Api::InitProducerId,
        };
        let action = match random.random_range(0..4) {
            0 | 1 => Action::Hold(Duration::from_millis(random.random_range(HELD_MS))),
            2 => Action::LoseResponse,
            _ => Action::Duplicate(Duration::from_millis(random.random_range(COPY_AFTER_MS))),
        };
        let (touched, late) = (stage.kafka.proxies[0].touched(), stage.kafka.proxies[0].late());
        stage.fault(&format!("{api:?}: {action:?}"));
        stage.kafka.proxies[0].set(api, action, 1);
        if *self == Self::InitProducerId {
            // It may fail: a takeover that takes long is given up and repeated, which is for the invariants to judge.
            drop(stage.cluster.admin.failover(CONNECTOR, ""));
        }
        let proxy = &stage.kafka.proxies[0];
        wait_for("the request", PROVEN_MAX, || (proxy.touched() > touched).then_some(()))?;
        if action != Action::LoseResponse {
            wait_for("the broker's answer to the late request", PROVEN_MAX, || (proxy.late() > late).then_some(()))?;
        }
        Ok(())
    }
}
