//! A producer that is none of the cluster's and takes the transactional id of one that is, as a copy of the cluster would.

use std::time::Duration;

use anyhow::{Context as _, Result};
use rdkafka::{
    ClientConfig,
    producer::{BaseProducer, Producer as _},
};

/// A transaction that is open has to end first, which librdkafka looks for twice a second.
const INIT_MAX: Duration = Duration::from_secs(10);

/// Kafka refuses whoever has written under this id until now.
pub(super) fn take(bootstrap: &str, transactional_id: &str) -> Result<()> {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("transactional.id", transactional_id)
        .create()
        .context("cannot make a stranger")?;
    producer.init_transactions(INIT_MAX).with_context(|| format!("a stranger cannot take {transactional_id}"))
}
