//! The demo's Kafka: a real one that the user names, or librdkafka's mock inside this process.

use rdkafka::{mocking::MockCluster, producer::DefaultProducerContext};

use super::Error;

/// A Kafka to write to; the mock lives as long as this.
pub(super) enum Kafka {
    Real(String),
    Mock(MockCluster<'static, DefaultProducerContext>),
}

impl Kafka {
    pub(super) fn start(bootstrap: Option<String>, topic: &str) -> Result<Self, Error> {
        let Some(bootstrap) = bootstrap else {
            let mock = MockCluster::new(1).map_err(Error::Mock)?;
            mock.create_topic(topic, 1, 1).map_err(Error::Mock)?;
            return Ok(Self::Mock(mock));
        };
        Ok(Self::Real(bootstrap))
    }

    pub(super) fn bootstrap(&self) -> String {
        match self {
            Self::Real(bootstrap) => bootstrap.clone(),
            Self::Mock(mock) => mock.bootstrap_servers(),
        }
    }

    /// What the viewer should know about it.
    pub(super) fn note(&self) -> &'static str {
        match self {
            Self::Real(_) => "Kafka: a real one; zombies are fenced, aborted transactions stay invisible.",
            Self::Mock(_) => {
                "Kafka: librdkafka's in-process mock. It does not fence zombies and shows aborted records: kills are\n\
                 real here, safety against a paused owner is not. --bootstrap HOST:PORT shows that, too."
            }
        }
    }
}
