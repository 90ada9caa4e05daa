//! The PROXY protocol's header: the same verdict however its bytes arrive, and no byte of the client's own
//! taken for it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wscast::proxy::preamble::{Client, Progress, parse};

/// Signature, version and command, family, length.
const FIXED_BYTES: usize = 16;
const HEADER_BYTES_MAX: usize = 4096;

fuzz_target!(|input: &[u8]| {
    let whole = parse(input);
    match whole {
        Ok(Progress::Complete(client, length)) => complete(input, client, length),
        Ok(Progress::Wants(bytes)) => {
            assert!(bytes > input.len() && (FIXED_BYTES..=HEADER_BYTES_MAX).contains(&bytes));
        }
        Err(_) => {}
    }
    // As a socket's reader does: no more than is wanted, and each time a byte less than that first.
    let mut held = 0;
    loop {
        match parse(&input[..held]) {
            Ok(Progress::Wants(bytes)) if held < input.len() => {
                assert!(bytes > held, "no progress");
                held = (bytes - 1).max(held + 1).min(input.len());
            }
            verdict => return assert_eq!(verdict, whole),
        }
    }
});

fn complete(input: &[u8], client: Client, length: usize) {
    assert!((FIXED_BYTES..=HEADER_BYTES_MAX).contains(&length) && length <= input.len());
    assert!(input.starts_with(b"\r\n\r\n\0\r\nQUIT\n"));
    let declared = u16::from_be_bytes([input[14], input[15]]);
    assert_eq!(length, FIXED_BYTES + usize::from(declared));
    assert_eq!(
        parse(&input[..length]),
        Ok(Progress::Complete(client, length))
    );
    if let Client::Address(address) = client {
        assert_eq!(input[12], 0x21, "a health check speaks for nobody");
        assert_eq!(input[13], if address.is_ipv4() { 0x11 } else { 0x21 });
        // The source comes first.
        let ip = match address.ip() {
            std::net::IpAddr::V4(v4) => v4.octets().to_vec(),
            std::net::IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        assert!(input[FIXED_BYTES..].starts_with(&ip));
    }
}
