//! The list of trusted proxies: addresses, networks, and Unix sockets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv6Net};

/// Peers that are proxies and are trusted to name their clients' addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies {
    /// IPv4 networks are mapped into IPv6 (RFC 4291 §2.5.5.2), so that a proxy matches in both forms.
    networks: Vec<Ipv6Net>,
    unix: bool,
}

impl TrustedProxies {
    /// Returns whether the list is empty.
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty() && !self.unix
    }

    /// Trusts both loopback addresses if one is listed, because a proxy that connects to `localhost` may use either.
    /// A process that can connect from one can connect from the other, so this trusts no other process.
    fn complete_loopback(&mut self) {
        let (v4, v6) = (Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST);
        if self.trusts(v4.into()) || self.trusts(v6.into()) {
            self.networks
                .extend([v4.to_ipv6_mapped(), v6].map(Ipv6Net::from));
        }
    }

    /// Returns whether this is the address of a trusted proxy.
    pub fn trusts(&self, ip: IpAddr) -> bool {
        let ip = match ip {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        self.networks.iter().any(|network| network.contains(&ip))
    }

    /// Returns whether peers on Unix sockets are trusted proxies.
    pub fn trusts_unix(&self) -> bool {
        self.unix
    }
}

/// Parses a network, or an address as the network that holds nothing else.
fn parse_network(text: &str) -> Option<Ipv6Net> {
    let address = || text.parse().map(|ip: IpAddr| IpNet::from(ip));
    match text.parse().or_else(|_| address()).ok()? {
        IpNet::V4(v4) => Ipv6Net::new(v4.addr().to_ipv6_mapped(), 96 + v4.prefix_len()).ok(),
        IpNet::V6(v6) => Some(v6),
    }
}

/// Parses a comma-separated list.
impl FromStr for TrustedProxies {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut trusted = Self::default();
        let words = text.split(',').map(str::trim);
        for word in words.filter(|word| !word.is_empty()) {
            if word == "unix" {
                trusted.unix = true;
                continue;
            }
            if word == "localhost" {
                trusted.networks.push(Ipv6Addr::LOCALHOST.into());
                continue;
            }
            trusted.networks.push(parse_network(word).ok_or_else(|| {
                format!(
                    "{word:?} is not an address or network; write a list such as \
                     10.0.0.0/8,2001:db8::1, or unix"
                )
            })?);
        }
        trusted.complete_loopback();
        Ok(trusted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trusts(list: &str, ip: &str) -> bool {
        let list: TrustedProxies = list.parse().unwrap();
        list.trusts(ip.parse().unwrap())
    }

    #[test]
    fn network_contains_ipv4_in_both_forms() {
        for (list, ip, expected) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.0", false),
            ("10.1.2.3", "10.1.2.3", true),
            ("10.1.2.3", "10.1.2.4", false),
            ("10.0.0.0/8", "::ffff:10.1.2.3", true),
            ("::ffff:10.0.0.0/104", "10.1.2.3", true),
            ("0.0.0.0/0", "203.0.113.1", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("::/0", "2001:db8::1", true),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("192.0.2.1, 198.51.100.0/24", "198.51.100.7", true),
            ("127.0.0.1", "::1", true),
            ("127.0.0.1", "127.0.0.2", false),
            ("::1", "127.0.0.1", true),
            ("127.0.0.2", "::1", false),
            ("localhost", "127.0.0.1", true),
            ("localhost", "::1", true),
            ("unix", "127.0.0.1", false),
            ("", "127.0.0.1", false),
        ] {
            assert_eq!(trusts(list, ip), expected, "{ip} in {list:?}");
        }
    }

    #[test]
    fn anything_but_a_network_is_refused() {
        for bad in [
            "10.0.0.0/33",
            "::/129",
            "10.0.0/8",
            "10.0.0.0/",
            "10.0.0.0/-1",
            "10.0.0.0/+8",
            "10.0.0.0/8/8",
            "proxy.example",
            "fe80::1%eth0",
            "*",
            "10.0.0.1 10.0.0.2",
            "unix:/run/proxy.sock",
        ] {
            let why = bad.parse::<TrustedProxies>().unwrap_err();
            assert!(why.contains("10.0.0.0/8"), "{bad:?}: {why}");
        }
    }

    #[test]
    fn unix_is_a_word_of_its_own() {
        let list: TrustedProxies = "unix, 10.0.0.1".parse().unwrap();
        assert!(list.trusts_unix() && !list.is_empty());
        assert!(!"10.0.0.1".parse::<TrustedProxies>().unwrap().trusts_unix());
        assert!("".parse::<TrustedProxies>().unwrap().is_empty());
    }
}
