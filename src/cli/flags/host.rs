//! The setting `--host`: addresses, and names of addresses of this machine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs};

/// Both loopback addresses: `localhost` is either, depending on who resolves it (RFC 6761 §6.3).
const LOCALHOST: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::LOCALHOST),
    IpAddr::V6(Ipv6Addr::LOCALHOST),
];
/// The hint of every error.
const INSTEAD: &str =
    "write an address such as 0.0.0.0, 127.0.0.1 or ::, localhost, or a list of addresses";

/// The addresses of a `--host`. The type is not a `Vec`, because clap would make the flag a list of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Host(pub(in crate::cli) Vec<IpAddr>);

/// Returns an address that a process on this machine can connect to, in place of "any address".
pub fn connectable(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) if ip.is_unspecified() => LOCALHOST[0],
        IpAddr::V6(ip) if ip.is_unspecified() => LOCALHOST[1],
        ip => ip,
    }
}

/// Parses a comma-separated list of addresses and names. Names are resolved.
pub(in crate::cli) fn host(text: &str) -> Result<Host, String> {
    let mut addresses = Vec::new();
    for word in text.split(',').map(str::trim) {
        for ip in parse_local(word).map_or_else(|| resolve(word), Ok)? {
            if !addresses.contains(&ip) {
                addresses.push(ip);
            }
        }
    }
    Ok(Host(addresses))
}

/// Returns whether a text needs no resolver: all parts are addresses or `localhost`.
pub(in crate::cli) fn is_address_or_localhost(text: &str) -> bool {
    text.split(',')
        .all(|word| parse_local(word.trim()).is_some())
}

/// Parses an address, in brackets or not, or `localhost`.
fn parse_local(word: &str) -> Option<Vec<IpAddr>> {
    let name = word.strip_suffix('.').unwrap_or(word);
    if name.eq_ignore_ascii_case("localhost") {
        return Some(LOCALHOST.to_vec());
    }
    let bracketed = word.strip_prefix('[').and_then(|w| w.strip_suffix(']'));
    let ip: IpAddr = match bracketed {
        Some(v6) => IpAddr::V6(v6.parse().ok()?),
        None => word.parse().ok()?,
    };
    Some(vec![ip.to_canonical()])
}

/// Resolves a name with the resolver of the system.
fn resolve(name: &str) -> Result<Vec<IpAddr>, String> {
    let is_name_char = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let last = name.trim_end_matches('.').rsplit('.').next();
    // The resolver would take 8080 for the address 0.0.31.144, and 127.1 for 127.0.0.1.
    let ends_in_number = last.is_none_or(|last| last.starts_with(|c: char| c.is_ascii_digit()));
    if ends_in_number || !name.chars().all(is_name_char) {
        return Err(INSTEAD.to_owned());
    }
    let resolved = (name, 0).to_socket_addrs();
    let found: Vec<IpAddr> = resolved
        .map_err(|_| format!("{name} cannot be resolved; {INSTEAD}"))?
        .map(|address| address.ip().to_canonical())
        .collect();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_localhost_are_parsed() {
        for (text, expected) in [
            ("0.0.0.0", &["0.0.0.0"][..]),
            ("::", &["::"]),
            ("[::1]", &["::1"]),
            ("::ffff:127.0.0.1", &["127.0.0.1"]),
            ("localhost", &["127.0.0.1", "::1"]),
            ("LocalHost.", &["127.0.0.1", "::1"]),
            ("0.0.0.0,::", &["0.0.0.0", "::"]),
            ("127.0.0.1, localhost", &["127.0.0.1", "::1"]),
        ] {
            let expected: Vec<IpAddr> = expected.iter().map(|ip| ip.parse().unwrap()).collect();
            assert_eq!(host(text), Ok(Host(expected)), "{text}");
            assert!(is_address_or_localhost(text), "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for bad in [
            "",
            "5000",
            "127.1",
            "0x7f.1",
            "127.0.0.1:80",
            "[127.0.0.1]",
            "a b",
            "*",
            "http://localhost",
            "127.0.0.1,,::1",
            "fe80::1%eth0",
            "name.invalid",
        ] {
            let why = host(bad).unwrap_err();
            assert!(why.contains("127.0.0.1"), "{bad:?}: {why}");
            assert!(!is_address_or_localhost(bad), "{bad:?}");
        }
    }
}
