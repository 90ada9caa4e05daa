//! The header of the PROXY protocol: parsing it in pieces gives the same result, and no byte after it is consumed.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wscast::proxy::proxy_header::{Progress, ProxyHeader, parse};

/// The bytes of signature, version and command, family, length.
const FIXED_BYTES: usize = 16;
const HEADER_BYTES_MAX: usize = 4096;

fuzz_target!(|input: &[u8]| {
    let whole = parse(input);
    match whole {
        Ok(Progress::Complete(header, length)) => check_complete(input, header, length),
        Ok(Progress::Needs(bytes)) => {
            assert!(bytes > input.len() && (FIXED_BYTES..=HEADER_BYTES_MAX).contains(&bytes));
        }
        Err(_) => {}
    }
    // Like a socket's reader, which reads at most the needed bytes; here one byte less, to try more pieces.
    let mut held = 0;
    loop {
        match parse(&input[..held]) {
            Ok(Progress::Needs(bytes)) if held < input.len() => {
                assert!(bytes > held, "no progress");
                held = (bytes - 1).max(held + 1).min(input.len());
            }
            result => return assert_eq!(result, whole),
        }
    }
});

fn check_complete(input: &[u8], header: ProxyHeader, length: usize) {
    assert!((FIXED_BYTES..=HEADER_BYTES_MAX).contains(&length) && length <= input.len());
    assert!(input.starts_with(b"\r\n\r\n\0\r\nQUIT\n"));
    let declared = u16::from_be_bytes([input[14], input[15]]);
    assert_eq!(length, FIXED_BYTES + usize::from(declared));
    assert_eq!(
        parse(&input[..length]),
        Ok(Progress::Complete(header, length))
    );
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
