//! What the nodes of a stage write to: the broker of the whole process, one of the stage's own, or three, with or without
//! proxies between. The verifier always reads past the proxies, so that a fault never blinds it.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result};

use super::kafka_proxy::KafkaProxy;
use crate::broker::{Broker, BrokerCluster, BrokerOptions, ClusterOptions};

/// Which broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KafkaOptions {
    /// The one of this process, on loopback, which no story may break. With a network of its own, the stage gets an own
    /// one all the same: loopback is not reached from a namespace.
    Shared,
    /// One of the stage's own, which the story may break.
    Own { proxied: bool },
    /// Three that replicate everything and acknowledge by two; the first `controllers` of them are controllers too.
    Three { proxied: bool, controllers: usize },
}

/// Running brokers and proxies. Dropping it ends those of the stage's own.
#[derive(Debug)]
pub struct Kafka {
    bootstrap: String,
    direct: String,
    /// In the order of the brokers; empty without proxies.
    pub proxies: Vec<KafkaProxy>,
    one: Option<Broker>,
    three: Option<BrokerCluster>,
}

impl Kafka {
    /// Starts what is asked for; brokers and proxies listen on `host`.
    pub fn start(options: KafkaOptions, host: IpAddr) -> Result<Self> {
        if options == KafkaOptions::Shared && host.is_loopback() {
            let bootstrap = Broker::shared().bootstrap().to_owned();
            return Ok(Self { direct: bootstrap.clone(), bootstrap, proxies: Vec::new(), one: None, three: None });
        }
        let proxied = match options {
            KafkaOptions::Own { proxied: true } => 1,
            KafkaOptions::Three { proxied: true, .. } => 3,
            _ => 0,
        };
        let proxies: Vec<KafkaProxy> =
            (0..proxied).map(|_| KafkaProxy::start(SocketAddr::new(host, 0))).collect::<Result<_>>()?;
        let at: Vec<SocketAddr> = proxies.iter().map(KafkaProxy::address).collect();
        let (mut one, mut three) = (None, None);
        let (direct, behind) = if let KafkaOptions::Three { controllers, .. } = options {
            let options = ClusterOptions { host, proxies: at.try_into().ok(), controllers };
            let brokers = three.insert(BrokerCluster::start(&options)?);
            (brokers.bootstrap().to_owned(), brokers.proxied().to_vec())
        } else {
            let broker = one.insert(Broker::start_own(&BrokerOptions { host, proxy: at.first().copied() })?);
            (broker.bootstrap().to_owned(), broker.proxied().into_iter().collect())
        };
        proxies.iter().zip(&behind).for_each(|(proxy, broker)| proxy.lead_to(*broker));
        let through: Vec<String> = proxies.iter().map(|proxy| proxy.address().to_string()).collect();
        let bootstrap = if through.is_empty() { direct.clone() } else { through.join(",") };
        Ok(Self { bootstrap, direct, proxies, one, three })
    }

    /// Kafka as the nodes reach it.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// Kafka past the proxies.
    pub fn direct(&self) -> &str {
        &self.direct
    }

    /// The addresses of all brokers past the proxies.
    pub fn addresses(&self) -> Result<Vec<SocketAddr>> {
        self.direct.split(',').map(|at| at.parse().with_context(|| format!("not an address: {at}"))).collect()
    }

    /// The stage's own single broker.
    ///
    /// # Errors
    /// When the stage has none.
    pub fn one(&mut self) -> Result<&mut Broker> {
        self.one.as_mut().context("this stage has no broker of its own: set KafkaOptions::Own")
    }

    /// The stage's three brokers.
    ///
    /// # Errors
    /// When the stage has none.
    pub fn three(&mut self) -> Result<&mut BrokerCluster> {
        self.three.as_mut().context("this stage has no three brokers: set KafkaOptions::Three")
    }
}
