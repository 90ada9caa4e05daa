//! The PROXY protocol, version 2: what a proxy says of its client before the client's own bytes, TLS
//! included.
//!
//! It is binary: a signature, who speaks for whom, the length of the rest, two addresses and ports, and
//! details (TLVs), which are passed over.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

/// What no other protocol begins with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, length.
const FIXED_BYTES: usize = 16;
/// Largest header, in bytes: addresses, and room for details such as a client's certificate.
const HEADER_BYTES_MAX: usize = 4096;

/// Whom a proxy speaks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// For this one.
    Address(SocketAddr),
    /// For itself (a health check), or for one whose address is of no kind we know.
    Unnamed,
}

/// Why what came is no such header; each ends the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PreambleError {
    /// It begins with something else.
    Missing,
    /// It is of another version, or says what the protocol does not know.
    Unknown,
    /// It is longer than we take.
    TooLong,
    /// It says that it is shorter than the address it holds.
    TooShort,
    /// The deadline passed.
    TimedOut,
    /// The peer went away.
    Gone,
}

impl fmt::Display for PreambleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "what came first was no PROXY header, version 2",
            Self::Unknown => "the PROXY header is of an unknown version, command or family",
            Self::TooLong => "the PROXY header is too long",
            Self::TooShort => "the PROXY header is too short for its address",
            Self::TimedOut => "the PROXY header took too long",
            Self::Gone => "the proxy went away",
        })
    }
}

/// How far the beginning of a header has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It is complete and has this many bytes.
    Complete(Client, usize),
    /// There must be this many bytes, more than there are, to say more.
    Wants(usize),
}

/// Understands a header at the start of `bytes`, as far as it has come.
pub fn parse(bytes: &[u8]) -> Result<Progress, PreambleError> {
    let begun = bytes.len().min(SIGNATURE.len());
    if bytes[..begun] != SIGNATURE[..begun] {
        return Err(PreambleError::Missing);
    }
    let &[.., command, family, high, low] = match bytes.first_chunk::<FIXED_BYTES>() {
        Some(fixed) => fixed,
        None => return Ok(Progress::Wants(FIXED_BYTES)),
    };
    if !matches!(command, 0x20 | 0x21) {
        return Err(PreambleError::Unknown);
    }
    let length = FIXED_BYTES + usize::from(u16::from_be_bytes([high, low]));
    if length > HEADER_BYTES_MAX {
        return Err(PreambleError::TooLong);
    }
    let Some(rest) = bytes.get(FIXED_BYTES..length) else {
        return Ok(Progress::Wants(length));
    };
    let client = match (command, family) {
        (0x20, _) => Client::Unnamed,
        (_, 0x11) => Client::Address(ipv4(rest).ok_or(PreambleError::TooShort)?),
        (_, 0x21) => Client::Address(ipv6(rest).ok_or(PreambleError::TooShort)?),
        // Unspecified, or a Unix socket's path.
        (_, 0x00 | 0x31) => Client::Unnamed,
        // Datagrams cannot have come over a stream.
        _ => return Err(PreambleError::Unknown),
    };
    Ok(Progress::Complete(client, length))
}

/// Source and destination address, then their ports.
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
    fn a_client_is_named_however_the_header_comes_apart_and_details_are_passed_over() {
        let details = [&V4[..], &[0x04, 0, 3, 1, 2, 3]].concat();
        for rest in [&V4[..], &details] {
            let bytes = header(0x21, 0x11, rest);
            for n in 0..bytes.len() {
                assert!(
                    matches!(parse(&bytes[..n]), Ok(Progress::Wants(w)) if w > n && w <= bytes.len())
                );
            }
            let client = Client::Address("203.0.113.7:4660".parse().unwrap());
            let complete = Ok(Progress::Complete(client, bytes.len()));
            assert_eq!(parse(&bytes), complete);
            assert_eq!(parse(&[&bytes[..], b"GET /"].concat()), complete);
        }
        let mut v6 = [0; 36];
        v6[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
        (v6[15], v6[33]) = (7, 9);
        let client = Client::Address("[2001:db8::7]:9".parse().unwrap());
        assert_eq!(
            parse(&header(0x21, 0x21, &v6)),
            Ok(Progress::Complete(client, 52))
        );
    }

    #[test]
    fn a_proxy_may_speak_for_itself_or_for_one_it_cannot_name() {
        for (command, family, rest) in [
            (0x20, 0x00, &[][..]),
            (0x20, 0x11, &V4[..]),
            (0x20, 0x11, &[]),
            (0x21, 0x00, &[1, 2, 3]),
            (0x21, 0x31, &[0; 216]),
        ] {
            let bytes = header(command, family, rest);
            let complete = Progress::Complete(Client::Unnamed, bytes.len());
            assert_eq!(parse(&bytes), Ok(complete), "{command:x} {family:x}");
        }
    }

    #[test]
    fn anything_else_is_refused_as_soon_as_it_can_be_told() {
        use PreambleError::{Missing, TooLong, TooShort, Unknown};
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
