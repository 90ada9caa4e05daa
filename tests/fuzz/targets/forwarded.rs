//! What proxies say of their clients: nobody can write himself another address than the one that a trusted
//! proxy saw.

#![no_main]

use std::net::IpAddr;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use wscast::proxy::ForwardingHeader::{self, Forwarded, XForwardedFor};
use wscast::proxy::{TrustedProxies, forwarded};

static TRUSTED: LazyLock<TrustedProxies> =
    LazyLock::new(|| "10.0.0.0/8,fd00::/8".parse().expect("a list"));
static NOBODY: LazyLock<TrustedProxies> = LazyLock::new(TrustedProxies::default);

const PROXIES: [&str; 3] = ["10.0.0.1", "[fd00::1]:4711", "::ffff:10.9.8.7"];
const CLIENTS: [&str; 3] = ["203.0.113.7:80", "2001:db8::7", "::ffff:203.0.113.7"];

fuzz_target!(|input: &[u8]| {
    // As the head has it: bytes that are no UTF-8 were replaced.
    let text = String::from_utf8_lossy(input);
    let lines: Vec<&str> = text.split('\n').collect();
    for header in [XForwardedFor, Forwarded] {
        named(header, &lines);
        spoofed(header, &lines);
    }
    trusted(&text);
});

fn client(header: ForwardingHeader, lines: &[&str], trust: &TrustedProxies) -> Option<IpAddr> {
    forwarded(header, lines.iter().copied(), trust)
}

fn named(header: ForwardingHeader, lines: &[&str]) {
    let found = client(header, lines, &TRUSTED);
    assert!(found.is_none_or(|ip| ip == ip.to_canonical()));
    // Lines are one list, but for quotes that one begins and another would end: each line is its sender's.
    if !lines.iter().any(|line| line.contains('"')) {
        assert_eq!(client(header, &[&lines.join(",")], &TRUSTED), found);
    }
    // Who is believed least names no more than the last hop.
    let last = client(header, lines, &NOBODY);
    if let Some(last) = last.filter(|last| !TRUSTED.trusts(*last)) {
        assert_eq!(found, Some(last));
    }
    assert_eq!(last.is_none(), found.is_none());
}

/// Whatever a client has written, what proxies add at the right is what counts.
fn spoofed(header: ForwardingHeader, lines: &[&str]) {
    let hop = |ip: &str| match header {
        XForwardedFor => ip.to_owned(),
        Forwarded => format!("for=\"{ip}\";proto=https"),
    };
    let written = client(header, lines, &TRUSTED);
    for proxy in PROXIES {
        let own = client(header, &[&hop(proxy)], &TRUSTED);
        let (first, last) = lines.split_at(lines.len() - 1);
        let same_line = format!("{}, {}", last[0], hop(proxy));
        for lines in [
            [lines, &[&hop(proxy)]].concat(),
            [first, &[same_line.as_str()]].concat(),
        ] {
            let believed = client(header, &lines, &TRUSTED);
            assert_eq!(believed, written.or(own), "{lines:?}");
        }
        for seen in CLIENTS {
            let real = client(header, &[&hop(seen)], &TRUSTED);
            assert!(real.is_some());
            let added = format!("{}, {}, {}", last[0], hop(seen), hop(proxy));
            for lines in [
                [lines, &[&hop(seen), &hop(proxy)]].concat(),
                [first, &[added.as_str()]].concat(),
            ] {
                assert_eq!(client(header, &lines, &TRUSTED), real, "{lines:?}");
            }
        }
    }
}

/// A list of proxies, which an operator writes: understood or refused, and never more than it says.
fn trusted(text: &str) {
    let Ok(list) = text.parse::<TrustedProxies>() else {
        return;
    };
    for word in text.split(',').map(str::trim) {
        if let Ok(ip) = word.parse::<IpAddr>() {
            assert!(list.trusts(ip) && list.trusts(ip.to_canonical()));
        }
    }
    let networks = text.contains(|c: char| c.is_ascii_hexdigit() || c == ':');
    let proxy = PROXIES[0].parse().expect("an address");
    assert!(networks || !list.trusts(proxy));
}
