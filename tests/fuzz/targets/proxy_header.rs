//! The header of the PROXY protocol: parsing it in pieces gives the same result, and no byte after it is consumed.

#![no_main]

use std::net::{IpAddr, SocketAddr};

use libfuzzer_sys::fuzz_target;
use wscast::proxy::proxy_header::{Progress, ProxyHeader, parse};

/// The bytes of signature, version and command, family, length, in version 2.
const FIXED_BYTES: usize = 16;
const HEADER_BYTES_MAX: usize = 4096;
/// The most bytes of version 1, with the end of the line.
const TEXT_BYTES_MAX: usize = 107;

fuzz_target!(|input: &[u8]| {
    let whole = parse(input);
    match whole {
        Ok(Progress::Complete(header, length)) => check_complete(input, header, length),
        Ok(Progress::Needs(bytes)) => {
            assert!(bytes > input.len() && bytes <= HEADER_BYTES_MAX);
        }
        Err(_) => {}
    }
    // Like a socket's reader, which reads at most the needed bytes; here one byte less, to try more pieces.
    let mut held = 0;
    loop {
        match parse(&input[..held]) {
            Ok(Progress::Needs(bytes)) if held < input.len() => {
                assert!(bytes > held, "no progress");
                if let Ok(Progress::Complete(_, length)) = whole {
                    assert!(bytes <= length, "a byte after the header is read");
                }
                held = (bytes - 1).max(held + 1).min(input.len());
            }
            result => return assert_eq!(result, whole),
        }
    }
});

fn check_complete(input: &[u8], header: ProxyHeader, length: usize) {
    assert!(length <= input.len());
    assert_eq!(
        parse(&input[..length]),
        Ok(Progress::Complete(header, length))
    );
    if input.starts_with(b"PROXY ") {
        check_text(&input[..length], header);
    } else {
        check_binary(input, header, length);
    }
}

/// Version 1: the line is rendered again from the client and gives the same start.
fn check_text(line: &[u8], header: ProxyHeader) {
    assert!(line.len() <= TEXT_BYTES_MAX && line.ends_with(b"\r\n"));
    let line = str::from_utf8(line).expect("a complete line is text");
    assert_eq!(line.find("\r\n"), Some(line.len() - 2));
    let words: Vec<&str> = line.trim_end_matches("\r\n").split(' ').collect();
    match header {
        ProxyHeader::NoClient => assert_eq!(words[1], "UNKNOWN"),
        ProxyHeader::Client(address) => {
            let family = if address.is_ipv4() { "TCP4" } else { "TCP6" };
            assert_eq!((words[1], words.len()), (family, 6));
            let ip: IpAddr = words[2].parse().expect("an address");
            assert_eq!(
                SocketAddr::new(ip, words[4].parse().expect("a port")),
                address
            );
        }
    }
}

fn check_binary(input: &[u8], header: ProxyHeader, length: usize) {
    assert!((FIXED_BYTES..=HEADER_BYTES_MAX).contains(&length));
    assert!(input.starts_with(b"\r\n\r\n\0\r\nQUIT\n"));
    let declared = u16::from_be_bytes([input[14], input[15]]);
    assert_eq!(length, FIXED_BYTES + usize::from(declared));
    if let ProxyHeader::Client(address) = header {
        assert_eq!(input[12], 0x21, "a health check names no client");
        assert_eq!(input[13], if address.is_ipv4() { 0x11 } else { 0x21 });
        // The source address is first.
        let ip = match address.ip() {
            std::net::IpAddr::V4(v4) => v4.octets().to_vec(),
            std::net::IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        assert!(input[FIXED_BYTES..].starts_with(&ip));
    }
}
