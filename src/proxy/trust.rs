//! The proxies that are believed: addresses, networks, and Unix sockets.

use std::net::IpAddr;
use std::str::FromStr;

/// Which peers are proxies whose word about their clients is taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies {
    networks: Vec<Network>,
    unix: bool,
}

/// Addresses that begin with the same bits. IPv4 is counted as mapped into IPv6 (RFC 4291 §2.5.5.2), so
/// that a proxy is known in either form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    bits: u128,
    prefix: u32,
}

impl TrustedProxies {
    /// Whether nobody is believed.
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty() && !self.unix
    }

    /// Whether this address is a proxy's.
    pub fn trusts(&self, ip: IpAddr) -> bool {
        let bits = bits(ip);
        self.networks.iter().any(|network| network.contains(bits))
    }

    /// Whether those who come by a Unix socket are proxies.
    pub fn trusts_unix(&self) -> bool {
        self.unix
    }
}

impl Network {
    fn contains(&self, bits: u128) -> bool {
        let differing = (self.bits ^ bits).leading_zeros();
        differing >= self.prefix
    }
}

fn bits(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

impl FromStr for Network {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (ip, prefix) = match text.split_once('/') {
            Some((ip, prefix)) => (ip, Some(prefix)),
            None => (text, None),
        };
        let ip: IpAddr = ip.parse().map_err(|_| ())?;
        let (most, mapped) = match ip {
            IpAddr::V4(_) => (32, 96),
            IpAddr::V6(_) => (128, 0),
        };
        let prefix = match prefix {
            None => most,
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
                digits.parse().map_err(|_| ())?
            }
            Some(_) => return Err(()),
        };
        match prefix <= most {
            true => Ok(Self {
                bits: bits(ip),
                prefix: mapped + prefix,
            }),
            false => Err(()),
        }
    }
}

/// A comma-separated list.
impl FromStr for TrustedProxies {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut trusted = Self::default();
        let words = text.split(',').map(str::trim);
        for word in words.filter(|word| !word.is_empty()) {
            match (word, word.parse()) {
                ("unix", _) => trusted.unix = true,
                (_, Ok(network)) => trusted.networks.push(network),
                (_, Err(())) => {
                    return Err(format!(
                        "{word:?} is no proxy; write addresses and networks such as \
                         10.0.0.0/8,2001:db8::1, or unix"
                    ));
                }
            }
        }
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
    fn a_network_is_its_first_bits_in_either_form_of_ipv4() {
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
            ("unix", "127.0.0.1", false),
            ("", "127.0.0.1", false),
        ] {
            assert_eq!(trusts(list, ip), expected, "{ip} in {list:?}");
        }
    }

    #[test]
    fn what_is_no_network_is_refused() {
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
    fn unix_sockets_are_named_by_a_word() {
        let list: TrustedProxies = "unix, 10.0.0.1".parse().unwrap();
        assert!(list.trusts_unix() && !list.is_empty());
        assert!(!"10.0.0.1".parse::<TrustedProxies>().unwrap().trusts_unix());
        assert!("".parse::<TrustedProxies>().unwrap().is_empty());
    }
}
