//! The header of the PROXY protocol, version 2. A proxy sends it before the client's own bytes, before TLS too.
//!
//! The header is binary: a signature, command and address family, the length of the rest, two addresses
//! with their ports, and details (TLVs), which are skipped.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

/// The start of every header; no other protocol starts like this.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, length.
const FIXED_BYTES: usize = 16;
/// Largest header, in bytes: addresses, and room for details such as a client's certificate.
const HEADER_BYTES_MAX: usize = 4096;

/// The content of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyHeader {
    /// The proxy connects for the client at this address.
    Client(SocketAddr),
    /// The proxy connects for itself (a health check), or for a client with an address of an unknown family.
    NoClient,
}

/// The reason why a connection does not start with a usable header. Each reason ends the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyHeaderError {
    /// The connection starts with something else.
    Missing,
    /// The version, command or family is unknown.
    Unknown,
    /// The header is longer than 4 KiB.
    TooLong,
    /// The header's length does not cover the addresses of its family.
    TooShort,
    /// The deadline passed.
    TimedOut,
    /// The proxy closed the connection.
    Closed,
}

impl fmt::Display for ProxyHeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "the connection does not start with a PROXY header, version 2",
            Self::Unknown => "the PROXY header has an unknown version, command or family",
            Self::TooLong => "the PROXY header is too long",
            Self::TooShort => "the PROXY header is too short for its addresses",
            Self::TimedOut => "the PROXY header took too long",
            Self::Closed => "the proxy closed the connection",
        })
    }
}

/// The result of parsing the bytes that have arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The header is complete; the number is its length in bytes.
    Complete(ProxyHeader, usize),
    /// At least this many bytes, counted from the start, are needed to continue.
    Needs(usize),
}

/// Parses a header at the start of `bytes`, which may be incomplete.
///
/// Bytes that cannot become a header are an error as soon as that is certain.
pub fn parse(bytes: &[u8]) -> Result<Progress, ProxyHeaderError> {
    let arrived = bytes.len().min(SIGNATURE.len());
    if bytes[..arrived] != SIGNATURE[..arrived] {
        return Err(ProxyHeaderError::Missing);
    }
    let &[.., command, family, high, low] = match bytes.first_chunk::<FIXED_BYTES>() {
        Some(fixed) => fixed,
        None => return Ok(Progress::Needs(FIXED_BYTES)),
    };
    if !matches!(command, 0x20 | 0x21) {
        return Err(ProxyHeaderError::Unknown);
    }
    let length = FIXED_BYTES + usize::from(u16::from_be_bytes([high, low]));
    if length > HEADER_BYTES_MAX {
        return Err(ProxyHeaderError::TooLong);
    }
    let Some(rest) = bytes.get(FIXED_BYTES..length) else {
        return Ok(Progress::Needs(length));
    };
    let header = match (command, family) {
        (0x20, _) => ProxyHeader::NoClient,
        (_, 0x11) => ProxyHeader::Client(ipv4(rest).ok_or(ProxyHeaderError::TooShort)?),
        (_, 0x21) => ProxyHeader::Client(ipv6(rest).ok_or(ProxyHeaderError::TooShort)?),
        // Unspecified, or the path of a Unix socket.
        (_, 0x00 | 0x31) => ProxyHeader::NoClient,
        // Datagrams do not arrive on a stream socket.
        _ => return Err(ProxyHeaderError::Unknown),
    };
    Ok(Progress::Complete(header, length))
}

/// Returns the source address. The block holds source and destination address, then their ports.
fn ipv4(rest: &[u8]) -> Option<SocketAddr> {
    let &[a, b, c, d, _, _, _, _, high, low, _, _] = rest.first_chunk()?;
    let port = u16::from_be_bytes([high, low]);
    Some(SocketAddr::new(Ipv4Addr::new(a, b, c, d).into(), port))
}

fn ipv6(rest: &[u8]) -> Option<SocketAddr> {
    let addresses: &[u8; 36] = rest.first_chunk()?;
    let source: &[u8; 16] = addresses.first_chunk()?;
    let port = u16::from_be_bytes([addresses[32], addresses[33]]);
    Some(SocketAddr::new(Ipv6Addr::from(*source).into(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = (rest.len() as u16).to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, rest].concat()
    }

    const V4: [u8; 12] = [203, 0, 113, 7, 10, 0, 0, 1, 0x12, 0x34, 0, 80];

    #[test]
    fn header_is_parsed_in_any_pieces_and_details_are_skipped() {
        let details = [&V4[..], &[0x04, 0, 3, 1, 2, 3]].concat();
        for rest in [&V4[..], &details] {
            let bytes = header(0x21, 0x11, rest);
            for n in 0..bytes.len() {
                assert!(
                    matches!(parse(&bytes[..n]), Ok(Progress::Needs(w)) if w > n && w <= bytes.len())
                );
            }
            let client = ProxyHeader::Client("203.0.113.7:4660".parse().unwrap());
            let complete = Ok(Progress::Complete(client, bytes.len()));
            assert_eq!(parse(&bytes), complete);
            assert_eq!(parse(&[&bytes[..], b"GET /"].concat()), complete);
        }
        let mut v6 = [0; 36];
        v6[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
        (v6[15], v6[33]) = (7, 9);
        let client = ProxyHeader::Client("[2001:db8::7]:9".parse().unwrap());
        assert_eq!(
            parse(&header(0x21, 0x21, &v6)),
            Ok(Progress::Complete(client, 52))
        );
    }

    #[test]
    fn header_may_name_no_client() {
        for (command, family, rest) in [
            (0x20, 0x00, &[][..]),
            (0x20, 0x11, &V4[..]),
            (0x20, 0x11, &[]),
            (0x21, 0x00, &[1, 2, 3]),
            (0x21, 0x31, &[0; 216]),
        ] {
            let bytes = header(command, family, rest);
            let complete = Progress::Complete(ProxyHeader::NoClient, bytes.len());
            assert_eq!(parse(&bytes), Ok(complete), "{command:x} {family:x}");
        }
    }

    #[test]
    fn other_bytes_are_refused_as_soon_as_possible() {
        use ProxyHeaderError::{Missing, TooLong, TooShort, Unknown};
        for (bytes, why) in [
            (b"G".to_vec(), Missing),
            (b"PROXY TCP4 1.1.1.1".to_vec(), Missing),
            (b"\r\n\r\nx".to_vec(), Missing),
            (vec![22, 3, 1], Missing),
            (header(0x11, 0x11, &V4), Unknown),
            (header(0x22, 0x11, &V4), Unknown),
            (header(0x21, 0x12, &V4), Unknown),
            (header(0x21, 0x41, &V4), Unknown),
            (header(0x21, 0x11, &V4[..11]), TooShort),
            (header(0x21, 0x21, &[0; 35]), TooShort),
            (header(0x21, 0x11, &[0; 4081])[..16].to_vec(), TooLong),
            (header(0x21, 0x11, &[0; 65535])[..16].to_vec(), TooLong),
        ] {
            assert_eq!(parse(&bytes), Err(why), "{bytes:?}");
        }
    }
}
