//! Which addresses a node may connect to on behalf of a connector. Whoever may create a connector chooses its URL, so a
//! node must not become a way into its own link or a cloud's metadata service. `dial` resolves a name itself, asks here
//! for every address, and connects to the very address that was checked: a second lookup could answer differently.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What may be dialed besides public addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AddressPolicy {
    /// Loopback and private networks too: feeds inside one's own network are common. Default.
    #[default]
    PrivateAllowed,
    /// Public addresses only.
    PublicOnly,
}

impl AddressPolicy {
    /// None if `address` may be dialed, else what is wrong with it.
    pub(super) fn refuses(self, address: IpAddr) -> Option<&'static str> {
        match address {
            IpAddr::V4(v4) => self.refuses_v4(v4),
            // A v4 address in v6 clothes reaches the same host.
            IpAddr::V6(v6) => match embedded_v4(v6) {
                Some(v4) => self.refuses_v4(v4),
                None => self.refuses_v6(v6),
            },
        }
    }

    fn refuses_v4(self, address: Ipv4Addr) -> Option<&'static str> {
        let [a, b, ..] = address.octets();
        let carrier_nat = a == 100 && (64..128).contains(&b);
        if a == 0 {
            Some("an unspecified address")
        } else if address.is_link_local() {
            Some("a link-local address (metadata services live there)")
        } else if address.is_multicast() || a >= 240 {
            Some("a multicast or reserved address")
        } else if self == Self::PublicOnly && (address.is_loopback() || address.is_private() || carrier_nat) {
            Some("a private or loopback address")
        } else {
            None
        }
    }

    fn refuses_v6(self, address: Ipv6Addr) -> Option<&'static str> {
        // fd00:ec2::254 is the metadata service of a large cloud, inside the private range.
        let metadata = address == Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
        if address.is_unspecified() {
            Some("an unspecified address")
        } else if address.is_unicast_link_local() || metadata {
            Some("a link-local address (metadata services live there)")
        } else if address.is_multicast() {
            Some("a multicast or reserved address")
        } else if self == Self::PublicOnly && (address.is_loopback() || address.is_unique_local()) {
            Some("a private or loopback address")
        } else {
            None
        }
    }
}

/// The v4 address inside a mapped (`::ffff:a.b.c.d`), NAT64 (`64:ff9b::/96`) or 6to4 (`2002::/16`) one.
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let s = address.segments();
    let v4 = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match s {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => Some(v4(high, low)),
        _ => address.to_ipv4_mapped(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(policy: AddressPolicy, address: &str) -> bool {
        policy.refuses(address.parse().expect("an address")).is_some()
    }

    #[test]
    fn never_the_own_link_or_a_metadata_service() {
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "224.0.0.1",
            "255.255.255.255",
            "240.0.0.1",
            "::",
            "fe80::1",
            "ff02::1",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "2002:a9fe:a9fe::1",
            "fd00:ec2::254",
        ] {
            assert!(refused(AddressPolicy::PrivateAllowed, address), "{address}");
        }
    }

    #[test]
    fn private_addresses_are_a_choice() {
        for address in
            ["127.0.0.1", "10.0.0.1", "192.168.1.1", "172.16.0.1", "100.64.0.1", "::1", "fd00::1", "::ffff:10.0.0.1"]
        {
            assert!(!refused(AddressPolicy::PrivateAllowed, address), "{address}");
            assert!(refused(AddressPolicy::PublicOnly, address), "{address}");
        }
        for address in ["1.1.1.1", "100.128.0.1", "2606:4700::1111"] {
            assert!(!refused(AddressPolicy::PublicOnly, address), "{address}");
        }
    }
}
