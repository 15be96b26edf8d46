//! Every configuration key of a node in one table: shape, bounds, default, and the text that becomes its
//! documentation. Reading, checking, `print-effective` and docs/configuration.md all come from here, so they agree.

use std::time::Duration;

/// What a value must look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// Any text.
    Text,
    /// 1..=63 of `[A-Za-z0-9._-]`.
    Name,
    /// `host:port`.
    Address,
    /// `host:port`, several joined by commas.
    Addresses,
    /// `name=host:port`, each name and address once.
    Members,
    /// A table of texts.
    Properties,
    OneOf(&'static [&'static str]),
    /// Log filter directives.
    Filter,
    /// Such as `250ms` or `5s`.
    Duration {
        min: Duration,
        max: Duration,
    },
    /// Such as `64MiB`.
    Bytes {
        min: u64,
        max: u64,
    },
    /// A whole number.
    Count {
        min: u64,
        max: u64,
    },
}

/// One key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key {
    /// Dotted path: table and key.
    pub(super) path: &'static str,
    pub(super) shape: Shape,
    /// As it would be written in the file; empty when it is made from others, which `doc` explains.
    pub(super) default: &'static str,
    pub(super) doc: &'static str,
}

impl Key {
    /// The environment variable that sets the key.
    pub(super) fn variable(&self) -> String {
        format!("TWINFEED_{}", self.path.replace('.', "__").to_uppercase())
    }
}

/// The key with this path.
pub(super) fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

const MIB: u64 = 1024 * 1024;

const fn milliseconds(min: u64, max: u64) -> Shape {
    Shape::Duration { min: Duration::from_millis(min), max: Duration::from_millis(max) }
}

/// All keys, in the order of the documentation.
pub(super) const KEYS: [Key; 25] = [
    Key {
        path: "name",
        shape: Shape::Name,
        default: "",
        doc: "What people call the node. Unique in the cluster. Default: the host's name.",
    },
    Key {
        path: "data_dir",
        shape: Shape::Text,
        default: "./twinfeed-data",
        doc: "Where the node keeps its identity and the Raft log. One process at a time; never copied to another node.",
    },
    Key {
        path: "zone",
        shape: Shape::Text,
        default: "",
        doc: "Failure domain, such as a rack or an availability zone. Owner and standby are put into different zones where possible.",
    },
    Key {
        path: "cluster.name",
        shape: Shape::Name,
        default: "twinfeed",
        doc: "What people call the cluster. Its identity is a UUID made at the first start.",
    },
    Key {
        path: "cluster.members",
        shape: Shape::Members,
        default: "[]",
        doc: "The nodes of the first start as `name=host:port` of their internal listeners, the same list on each. Empty: a cluster of this node alone. A node that is not listed joins the cluster it finds there.",
    },
    Key {
        path: "cluster.heartbeat",
        shape: milliseconds(20, 1_000),
        default: "100ms",
        doc: "How often the Raft leader calls its followers.",
    },
    Key {
        path: "cluster.election_min",
        shape: milliseconds(100, 10_000),
        default: "300ms",
        doc: "The shortest silence of the leader after which a follower stands for election. At least three heartbeats. A needless election costs nothing on the data path.",
    },
    Key {
        path: "cluster.election_max",
        shape: milliseconds(100, 20_000),
        default: "400ms",
        doc: "The longest such silence, and the leader's lease: as long after its last call no voter helps another. A silent leader is replaced after the lease and what the node has drawn between the two, one whose connection is reset and whose probe fails after the lease alone.",
    },
    Key {
        path: "cluster.dead_after",
        shape: milliseconds(300, 60_000),
        default: "1500ms",
        doc: "Silence after which the standbys of a node's streams take over, those that hold everything. At least three heartbeats. After twice as long the node is taken for dead: another gets its places, and a standby takes over with what it has. A node whose connections are reset and that refuses a probe is dead at once.",
    },
    Key {
        path: "listen.internal",
        shape: Shape::Address,
        default: "127.0.0.1:7400",
        doc: "Listener for the other nodes. Without authentication: a trusted network only.",
    },
    Key {
        path: "listen.admin",
        shape: Shape::Address,
        default: "127.0.0.1:9090",
        doc: "Listener of the admin gRPC API. Without authentication: a trusted network only.",
    },
    Key {
        path: "listen.http",
        shape: Shape::Address,
        default: "127.0.0.1:9464",
        doc: "Listener of metrics and probes.",
    },
    Key {
        path: "listen.advertise_internal",
        shape: Shape::Address,
        default: "",
        doc: "Where other nodes reach this one. Default: the own entry in `cluster.members`, else `listen.internal`.",
    },
    Key {
        path: "listen.advertise_admin",
        shape: Shape::Address,
        default: "",
        doc: "Where admin clients reach this node. Default: `listen.admin`.",
    },
    Key {
        path: "kafka.bootstrap",
        shape: Shape::Addresses,
        default: "127.0.0.1:9092",
        doc: "Kafka brokers, joined by commas.",
    },
    Key {
        path: "kafka.properties",
        shape: Shape::Properties,
        default: "{}",
        doc: "Further librdkafka properties, such as `security.protocol`. Those that the promise rests on cannot be set; security is set here and nowhere else, a connector cannot change it. May contain `${env:…}` and `${file:…}`, resolved when the node starts. In the environment: `a.b=c;d.e=f`.",
    },
    Key {
        path: "feeds.allow_private",
        shape: Shape::OneOf(&["true", "false"]),
        default: "true",
        doc: "Whether connectors may read feeds at loopback and private addresses. With `false` only at public ones: whoever may create a connector chooses what the node connects to. Link-local addresses, where clouds have their metadata services, are refused in any case.",
    },
    Key {
        path: "secrets.env_prefix",
        shape: Shape::Text,
        default: "TWINFEED_SECRET_",
        doc: "References `${env:NAME}` may name only variables that begin with this. Whoever may create a connector writes references.",
    },
    Key {
        path: "secrets.file_root",
        shape: Shape::Text,
        default: "/etc/twinfeed/secrets",
        doc: "References `${file:/path}` may name only files below this directory, symbolic links followed.",
    },
    Key {
        path: "log.filter",
        shape: Shape::Filter,
        default: "info,openraft=off",
        doc: "What is logged, as directives such as `info,twinfeed_node::raft=debug`. The Raft library repeats every failed call to a dead peer, so it is off: what ends a node is logged all the same. `TWINFEED_LOG` and then `RUST_LOG` are stronger.",
    },
    Key {
        path: "log.format",
        shape: Shape::OneOf(&["auto", "text", "json"]),
        default: "auto",
        doc: "Log lines on stderr: text, JSON, or `auto`: text on a terminal and JSON otherwise.",
    },
    Key {
        path: "limits.internal_message_bytes_max",
        shape: Shape::Bytes { min: 16 * MIB, max: 256 * MIB },
        default: "72MiB",
        doc: "Largest message between nodes. The largest message of a feed with two subscriptions is 4MiB less. The same on each node.",
    },
    Key {
        path: "limits.admin_message_bytes_max",
        shape: Shape::Bytes { min: MIB, max: 64 * MIB },
        default: "4MiB",
        doc: "Largest message of the admin API, request or answer.",
    },
    Key {
        path: "limits.http_connections_max",
        shape: Shape::Count { min: 1, max: 10_000 },
        default: "64",
        doc: "Most HTTP connections at a time; further ones wait.",
    },
    Key {
        path: "limits.shutdown_grace",
        shape: milliseconds(1_000, 600_000),
        default: "20s",
        doc: "How long an orderly stop may take. What is not finished then is safe all the same: it is as if the process had been killed.",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_variables_are_unique_and_defaults_within_bounds() {
        for (index, key) in KEYS.iter().enumerate() {
            assert!(KEYS[..index].iter().all(|other| other.variable() != key.variable()), "{}", key.path);
            assert!(key.doc.ends_with('.'), "{} is documented in sentences", key.path);
        }
        assert_eq!(find("cluster.members").map(Key::variable).as_deref(), Some("TWINFEED_CLUSTER__MEMBERS"));
    }
}
