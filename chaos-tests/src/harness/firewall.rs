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
    /// Whoever is not this node itself.
    Anyone,
}

/// How many of the packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    All,
    /// As many of a hundred, at random; 1 to 99.
    Percent(u8),
    /// What exceeds this rate, for each direction and peer.
    Above {
        kilobytes_a_second: u32,
    },
}

/// A silent cut: packets vanish, nobody is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    pub direction: Direction,
    pub peer: Peer,
    pub share: Share,
}

impl Cut {
    /// Nothing gets through in either direction.
    pub fn both(peer: impl Into<Peer>) -> Self {
        Self { direction: Direction::Both, peer: peer.into(), share: Share::All }
    }

    /// Arguments of iptables, one call a rule. Inserted in front: nothing that was there can let a packet through.
    pub(super) fn rules(self) -> Vec<Vec<String>> {
        let rule = |chain: &str, address: &str, port: &str, interface: char| {
            let peer = match self.peer {
                Peer::Host(host) => format!("{address} {host}"),
                Peer::Service(at) => format!("-p tcp {address} {} {port} {}", at.ip(), at.port()),
                Peer::Anyone => format!("! -{interface} lo"),
            };
            format!("-I {chain} {peer}{} -j DROP", self.share(interface))
        };
        let incoming = || rule("INPUT", "-s", "--sport", 'i');
        let outgoing = || rule("OUTPUT", "-d", "--dport", 'o');
        let rules = match self.direction {
            Direction::In => vec![incoming()],
            Direction::Out => vec![outgoing()],
            Direction::Both => vec![incoming(), outgoing()],
        };
        rules.iter().map(|rule| rule.split(' ').map(str::to_owned).collect()).collect()
    }

    /// The match for some of the packets. Each rule has a table of rates of its own, by its name.
    fn share(self, direction: char) -> String {
        match self.share {
            Share::All => String::new(),
            Share::Percent(percent) => format!(" -m statistic --mode random --probability 0.{percent:02}"),
            Share::Above { kilobytes_a_second: rate } => {
                let peer = match self.peer {
                    Peer::Host(address) => u16::from(address.octets()[3]),
                    Peer::Service(at) => at.port(),
                    Peer::Anyone => 0,
                };
                let limit = format!("--hashlimit-above {rate}kb/s --hashlimit-burst {rate}kb");
                format!(" -m hashlimit {limit} --hashlimit-name {direction}{peer}")
            }
        }
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
        let cut = Cut { direction: Direction::In, ..Cut::both(at) };
        assert_eq!(cut.rules(), ["-I INPUT -p tcp -s 10.213.0.1 --sport 9092 -j DROP".split(' ').collect::<Vec<_>>()]);
        assert_eq!(Cut::both(Peer::Host(Ipv4Addr::LOCALHOST)).rules().len(), 2);
    }

    #[test]
    fn a_share_is_a_match_before_the_verdict() {
        let rule = |cut: Cut| cut.rules()[0].join(" ");
        let lossy = Cut { share: Share::Percent(7), ..Cut::both(Peer::Anyone) };
        assert_eq!(rule(lossy), "-I INPUT ! -i lo -m statistic --mode random --probability 0.07 -j DROP");
        let slow = Cut { share: Share::Above { kilobytes_a_second: 64 }, ..Cut::both(Peer::Host(Ipv4Addr::LOCALHOST)) };
        assert!(rule(slow).contains("--hashlimit-above 64kb/s --hashlimit-burst 64kb --hashlimit-name i1 -j DROP"));
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
