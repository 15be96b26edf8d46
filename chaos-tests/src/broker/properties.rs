//! What a broker of the tests is configured with. Pure.

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
};

/// One broker of a cluster and its place in it.
#[derive(Debug, Clone)]
pub(super) struct Properties<'a> {
    /// Its node id is one more.
    pub(super) position: usize,
    /// Where all brokers listen.
    pub(super) host: IpAddr,
    pub(super) port: u16,
    /// Brokers of the cluster.
    pub(super) brokers: usize,
    /// Controller ports of the first brokers: each is a voter.
    pub(super) controllers: &'a [u16],
    pub(super) proxied: Option<Proxied>,
}

/// A second listener, advertised as the address of a proxy, so that metadata leads clients of the proxy to it again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Proxied {
    pub(super) port: u16,
    pub(super) advertised: SocketAddr,
}

impl Properties<'_> {
    /// Broker and controller in one process, with everything that a quick start wants: no rebalance delay, a single
    /// partition of each internal topic (so that one broker coordinates all transactions), and a short session, since a
    /// restarted broker is let in only when that of its killed predecessor has expired. All is replicated to all brokers,
    /// three at most, and acknowledged by a majority.
    pub(super) fn text(&self, directory: &Path) -> String {
        let Self { position, host, port, brokers, controllers, proxied } = self;
        let (replicas, in_sync_min) = ((*brokers).min(3), (*brokers).min(3).div_ceil(2));
        let voters: Vec<String> =
            controllers.iter().zip(1..).map(|(port, id)| format!("{id}@127.0.0.1:{port}")).collect();
        let mut listeners = format!("PLAINTEXT://{host}:{port}");
        let mut roles = "broker";
        if let Some(port) = controllers.get(*position) {
            listeners.push_str(&format!(",CONTROLLER://127.0.0.1:{port}"));
            roles = "broker,controller";
        }
        let mut advertised = format!("PLAINTEXT://{host}:{port}");
        if let Some(Proxied { port, advertised: at }) = proxied {
            listeners.push_str(&format!(",PROXIED://{host}:{port}"));
            advertised.push_str(&format!(",PROXIED://{at}"));
        }
        format!(
            "process.roles={roles}\n\
             node.id={id}\n\
             controller.quorum.voters={voters}\n\
             listeners={listeners}\n\
             advertised.listeners={advertised}\n\
             listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,PROXIED:PLAINTEXT\n\
             controller.listener.names=CONTROLLER\n\
             inter.broker.listener.name=PLAINTEXT\n\
             log.dirs={logs}\n\
             auto.create.topics.enable=false\n\
             num.partitions=1\n\
             default.replication.factor={replicas}\n\
             min.insync.replicas={in_sync_min}\n\
             offsets.topic.replication.factor={replicas}\n\
             offsets.topic.num.partitions=1\n\
             transaction.state.log.replication.factor={replicas}\n\
             transaction.state.log.min.isr={in_sync_min}\n\
             transaction.state.log.num.partitions=1\n\
             share.coordinator.state.topic.replication.factor={replicas}\n\
             share.coordinator.state.topic.min.isr={in_sync_min}\n\
             group.initial.rebalance.delay.ms=0\n\
             broker.session.timeout.ms=2000\n\
             broker.heartbeat.interval.ms=400\n\
             log.cleaner.enable=false\n",
            id = position + 1,
            voters = voters.join(","),
            logs = directory.join("data").display(),
        )
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn three_brokers_replicate_everything_and_acknowledge_by_two() {
        let host = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let one = Properties { position: 0, host, port: 1, brokers: 1, controllers: &[2], proxied: None };
        let text = one.text(Path::new("/d"));
        assert!(
            text.contains("\nmin.insync.replicas=1\n") && text.contains("\ndefault.replication.factor=1\n"),
            "{text}"
        );
        let three = Properties { position: 1, brokers: 3, controllers: &[2, 3, 4], ..one };
        let text = three.text(Path::new("/d"));
        assert!(
            text.contains("\nmin.insync.replicas=2\n") && text.contains("\ndefault.replication.factor=3\n"),
            "{text}"
        );
        assert!(
            text.contains("voters=1@127.0.0.1:2,2@127.0.0.1:3,3@127.0.0.1:4\n") && text.contains(":3\nadv"),
            "{text}"
        );
    }
}
