//! What a cut is, as iptables rules, and how many packets it dropped. Pure: `network` runs the rules inside a host's
//! namespace, where they hold for that node alone.

use std::net::{Ipv4Addr, SocketAddr};

/// Which packets of the node are dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// What the peer sends to the node.
    In,
    /// What the node sends to the peer.
    Out,
    Both,
}

/// From whom the node is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// Everything at the address.
    Host(Ipv4Addr),
    /// Only the TCP service on this port of the address.
    Service(SocketAddr),
}

/// A silent cut: packets vanish, nobody is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    pub direction: Direction,
    pub peer: Peer,
}

impl Cut {
    /// A cut in both directions.
    pub fn both(peer: impl Into<Peer>) -> Self {
        Self { direction: Direction::Both, peer: peer.into() }
    }

    /// Arguments of iptables, one call a rule. Inserted in front: nothing that was there can let a packet through.
    pub(super) fn rules(self) -> Vec<Vec<String>> {
        let incoming = || match self.peer {
            Peer::Host(address) => format!("-I INPUT -s {address} -j DROP"),
            Peer::Service(at) => format!("-I INPUT -p tcp -s {} --sport {} -j DROP", at.ip(), at.port()),
        };
        let outgoing = || match self.peer {
            Peer::Host(address) => format!("-I OUTPUT -d {address} -j DROP"),
            Peer::Service(at) => format!("-I OUTPUT -p tcp -d {} --dport {} -j DROP", at.ip(), at.port()),
        };
        let rules = match self.direction {
            Direction::In => vec![incoming()],
            Direction::Out => vec![outgoing()],
            Direction::Both => vec![incoming(), outgoing()],
        };
        rules.iter().map(|rule| rule.split(' ').map(str::to_owned).collect()).collect()
    }
}

/// Sum of the packets of all DROP rules in a listing with exact numbers (`-nvxL`).
pub(super) fn dropped(listing: &str) -> u64 {
    let packets = |line: &str| {
        let mut words = line.split_whitespace();
        let packets = words.next()?.parse::<u64>().ok()?;
        (words.nth(1)? == "DROP").then_some(packets)
    };
    listing.lines().filter_map(packets).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_one_way_cut_of_a_service_leaves_its_neighbours_alone() {
        let at = SocketAddr::from(([10, 213, 0, 1], 9092));
        let cut = Cut { direction: Direction::In, peer: Peer::Service(at) };
        assert_eq!(cut.rules(), ["-I INPUT -p tcp -s 10.213.0.1 --sport 9092 -j DROP".split(' ').collect::<Vec<_>>()]);
        assert_eq!(Cut::both(Peer::Host(Ipv4Addr::LOCALHOST)).rules().len(), 2);
    }

    #[test]
    fn only_packets_of_drop_rules_count() {
        let listing = "Chain INPUT (policy ACCEPT 11 packets, 22 bytes)\n    pkts      bytes target     prot opt in     out\n \
                       17 2040 DROP 0 -- * * 10.213.0.1 0.0.0.0/0\n 5 300 ACCEPT 0 -- * * 0.0.0.0/0 0.0.0.0/0\n\n\
                       Chain OUTPUT (policy ACCEPT 3 packets, 4 bytes)\n 3 180 DROP 6 -- * * 0.0.0.0/0 10.213.0.1 tcp dpt:9092\n";
        assert_eq!(dropped(listing), 20);
        assert_eq!(dropped(""), 0);
    }
}
