//! Forwarding headers of proxies. A client cannot choose its address: only the address that a trusted proxy saw counts.

#![no_main]

use std::net::IpAddr;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use wscast::proxy::ForwardingHeader::{self, Forwarded, XForwardedFor};
use wscast::proxy::{TrustedProxies, forwarded};

static TRUSTED: LazyLock<TrustedProxies> =
    LazyLock::new(|| "10.0.0.0/8,fd00::/8".parse().expect("a list"));
static TRUSTS_NONE: LazyLock<TrustedProxies> = LazyLock::new(TrustedProxies::default);

const PROXIES: [&str; 3] = ["10.0.0.1", "[fd00::1]:4711", "::ffff:10.9.8.7"];
const CLIENTS: [&str; 3] = ["203.0.113.7:80", "2001:db8::7", "::ffff:203.0.113.7"];

fuzz_target!(|input: &[u8]| {
    // The request head replaces bytes that are not UTF-8 in the same way.
    let text = String::from_utf8_lossy(input);
    let lines: Vec<&str> = text.split('\n').collect();
    for header in [XForwardedFor, Forwarded] {
        check_address(header, &lines);
        check_spoofing(header, &lines);
    }
    check_trusted_list(&text);
});

fn client(header: ForwardingHeader, lines: &[&str], trust: &TrustedProxies) -> Option<IpAddr> {
    forwarded(header, lines.iter().copied(), trust)
}

fn check_address(header: ForwardingHeader, lines: &[&str]) {
    let found = client(header, lines, &TRUSTED);
    assert!(found.is_none_or(|ip| ip == ip.to_canonical()));
    // Several lines are one list. Quotes are an exception, because a quoted string ends with its line.
    if !lines.iter().any(|line| line.contains('"')) {
        assert_eq!(client(header, &[&lines.join(",")], &TRUSTED), found);
    }
    // Without trusted proxies, only the right-most hop counts.
    let last = client(header, lines, &TRUSTS_NONE);
    if let Some(last) = last.filter(|last| !TRUSTED.trusts(*last)) {
        assert_eq!(found, Some(last));
    }
    assert_eq!(last.is_none(), found.is_none());
}

/// Checks that the addresses added by proxies count, whatever the client wrote before them.
fn check_spoofing(header: ForwardingHeader, lines: &[&str]) {
    let hop = |ip: &str| match header {
        XForwardedFor => ip.to_owned(),
        Forwarded => format!("for=\"{ip}\";proto=https"),
    };
    let without_proxy = client(header, lines, &TRUSTED);
    for proxy in PROXIES {
        let own = client(header, &[&hop(proxy)], &TRUSTED);
        let (first, last) = lines.split_at(lines.len() - 1);
        let same_line = format!("{}, {}", last[0], hop(proxy));
        for lines in [
            [lines, &[&hop(proxy)]].concat(),
            [first, &[same_line.as_str()]].concat(),
        ] {
            let found = client(header, &lines, &TRUSTED);
            assert_eq!(found, without_proxy.or(own), "{lines:?}");
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

/// Checks a list of trusted proxies: if it is accepted, it covers the addresses that it names and no others.
fn check_trusted_list(text: &str) {
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
