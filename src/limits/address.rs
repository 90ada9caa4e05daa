//! The address that a client's limits are counted by.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// Bits of an IPv6 address that identify a client's network. The client chooses the others (RFC 4291 §2.5.4).
const IPV6_NETWORK_BITS: u32 = 64;

/// An IPv4 address or an IPv6 network. It counts as one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Address(IpAddr);

impl Address {
    /// Returns the address that `ip` is counted by; `None` for loopback, which has no limits.
    pub(crate) fn of(ip: IpAddr) -> Option<Self> {
        match ip.to_canonical() {
            ip if ip.is_loopback() => None,
            IpAddr::V4(v4) => Some(Self(v4.into())),
            IpAddr::V6(v6) => {
                let mask = u128::MAX << (128 - IPV6_NETWORK_BITS);
                Some(Self(Ipv6Addr::from_bits(v6.to_bits() & mask).into()))
            }
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(v4) => v4.fmt(f),
            IpAddr::V6(v6) => write!(f, "{v6}/{IPV6_NETWORK_BITS}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        Address::of(text.parse().unwrap()).unwrap()
    }

    #[test]
    fn ipv6_network_is_one_client_and_mapped_ipv4_is_ipv4() {
        assert_eq!(address("2001:db8::1"), address("2001:db8:0:0:ffff::2"));
        assert_ne!(address("2001:db8::1"), address("2001:db8:0:1::1"));
        assert_eq!(address("::ffff:203.0.113.7"), address("203.0.113.7"));
        assert_eq!(address("2001:db8::1").to_string(), "2001:db8::/64");
        for own in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(Address::of(own.parse().unwrap()), None, "{own}");
        }
    }
}
