//! The header of the PROXY protocol, versions 1 and 2. A proxy sends it before the client's own bytes, and before
//! a TLS handshake.
//!
//! Version 1 is a line of text. Version 2 is binary: a signature, command and address family, the length of the rest,
//! two addresses with their ports, and details (TLVs), which are skipped.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The start of every header of version 2; no other protocol starts like this.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, length.
const FIXED_BYTES: usize = 16;
/// Largest header of version 2, in bytes: addresses, and room for details such as a client's certificate.
const HEADER_BYTES_MAX: usize = 4096;
/// The start of every header of version 1.
const TEXT_START: [u8; 6] = *b"PROXY ";
/// Largest header of version 1, in bytes, with the end of the line.
const TEXT_BYTES_MAX: usize = 107;

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
    /// The connection starts with something else, or with nothing until the deadline.
    Missing,
    /// The version, command or family is unknown.
    Unknown,
    /// The line of version 1 is malformed.
    Text,
    /// The header is longer than 4 KiB, or the line of version 1 than 107 bytes.
    TooLong,
    /// The header's length does not cover the addresses of its family.
    TooShort,
    /// The deadline passed in the middle of the header.
    TimedOut,
    /// The proxy closed the connection.
    Closed,
}

impl fmt::Display for ProxyHeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "the connection does not start with a PROXY header",
            Self::Unknown => "the PROXY header has an unknown version, command or family",
            Self::Text => "the PROXY header of version 1 is not like \"PROXY TCP4 192.0.2.1 192.0.2.2 4711 443\"",
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
    if starts_like(bytes, &SIGNATURE) {
        parse_binary(bytes)
    } else if starts_like(bytes, &TEXT_START) {
        parse_text(bytes)
    } else {
        Err(ProxyHeaderError::Missing)
    }
}

/// Returns whether bytes that are no request are the start of a header.
pub(crate) fn is_start(bytes: &[u8]) -> bool {
    bytes.starts_with(&SIGNATURE) || bytes.starts_with(&TEXT_START)
}

/// Returns whether `bytes` start with `start`, or are a start of it.
fn starts_like(bytes: &[u8], start: &[u8]) -> bool {
    let arrived = bytes.len().min(start.len());
    bytes[..arrived] == start[..arrived]
}

/// Parses version 1: `PROXY`, the family, two addresses and two ports, each after one space.
fn parse_text(bytes: &[u8]) -> Result<Progress, ProxyHeaderError> {
    let window = &bytes[..bytes.len().min(TEXT_BYTES_MAX)];
    let Some(end) = window.windows(2).position(|pair| pair == b"\r\n") else {
        // Only the line's end is requested, because the bytes after it do not belong to the header.
        let missing = if window.ends_with(b"\r") { 1 } else { 2 };
        return match window.len() + missing {
            wanted if wanted <= TEXT_BYTES_MAX => Ok(Progress::Needs(wanted)),
            _ => Err(ProxyHeaderError::TooLong),
        };
    };
    let line = str::from_utf8(&window[..end]).map_err(|_| ProxyHeaderError::Text)?;
    let header = text_header(line).ok_or(ProxyHeaderError::Text)?;
    Ok(Progress::Complete(header, end + 2))
}

fn text_header(line: &str) -> Option<ProxyHeader> {
    let mut words = line.split(' ').skip(1);
    let family = words.next()?;
    if family == "UNKNOWN" {
        // The rest of the line is to be ignored.
        return Some(ProxyHeader::NoClient);
    }
    let address = |word: &str| -> Option<IpAddr> {
        match family {
            "TCP4" => word.parse().ok().map(IpAddr::V4),
            "TCP6" => word.parse().ok().map(IpAddr::V6),
            _ => None,
        }
    };
    let source = address(words.next()?)?;
    address(words.next()?)?;
    let source_port = text_port(words.next()?)?;
    text_port(words.next()?)?;
    let is_complete = words.next().is_none();
    is_complete.then_some(ProxyHeader::Client(SocketAddr::new(source, source_port)))
}

/// Parses a port in digits, without zeros before it.
fn text_port(word: &str) -> Option<u16> {
    let port: u16 = word.parse().ok()?;
    (port.to_string() == word).then_some(port)
}

fn parse_binary(bytes: &[u8]) -> Result<Progress, ProxyHeaderError> {
    if bytes.len() < SIGNATURE.len() {
        // No more bytes are requested, because a header of version 1 may be shorter than one of version 2.
        return Ok(Progress::Needs(SIGNATURE.len()));
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
        // An unspecified family, or a Unix socket.
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
            (b"PRI * HTTP/2.0".to_vec(), Missing),
            (b"POST / HTTP/1.1".to_vec(), Missing),
            (b"PROXY\tTCP4".to_vec(), Missing),
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

    const TEXT: &str = "PROXY TCP4 203.0.113.7 10.0.0.1 4660 80\r\n";

    #[test]
    fn text_is_parsed_in_any_pieces_and_nothing_after_it_is_needed() {
        for (line, client) in [
            (TEXT, "203.0.113.7:4660"),
            ("PROXY TCP6 2001:db8::7 ::1 0 65535\r\n", "[2001:db8::7]:0"),
            (
                "PROXY TCP6 ::ffff:203.0.113.7 ::1 9 80\r\n",
                "[::ffff:203.0.113.7]:9",
            ),
        ] {
            for n in 0..line.len() {
                let progress = parse(&line.as_bytes()[..n]);
                assert!(
                    matches!(progress, Ok(Progress::Needs(w)) if w > n && w <= line.len()),
                    "{n} of {line:?}: {progress:?}"
                );
            }
            let client = ProxyHeader::Client(client.parse().unwrap());
            let complete = Ok(Progress::Complete(client, line.len()));
            assert_eq!(parse(line.as_bytes()), complete);
            assert_eq!(parse(format!("{line}GET /").as_bytes()), complete);
        }
    }

    #[test]
    fn text_may_name_no_client() {
        let longest = format!("PROXY UNKNOWN {}\r\n", "f".repeat(TEXT_BYTES_MAX - 16));
        for line in [
            "PROXY UNKNOWN\r\n",
            "PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n",
            &longest,
        ] {
            let complete = Ok(Progress::Complete(ProxyHeader::NoClient, line.len()));
            assert_eq!(parse(line.as_bytes()), complete, "{line:?}");
        }
    }

    #[test]
    fn text_is_strict() {
        use ProxyHeaderError::{Text, TooLong};
        for bad in [
            "PROXY \r\n",
            "PROXY TCP4\r\n",
            "PROXY tcp4 1.1.1.1 2.2.2.2 1 2\r\n",
            "PROXY UDP4 1.1.1.1 2.2.2.2 1 2\r\n",
            "PROXY UNKNOWNS\r\n",
            "PROXY  TCP4 1.1.1.1 2.2.2.2 1 2\r\n",
            "PROXY TCP4 1.1.1.1  2.2.2.2 1 2\r\n",
            "PROXY TCP4 1.1.1.1 2.2.2.2 1 2 \r\n",
            "PROXY TCP4 1.1.1.1 2.2.2.2 1 2 3\r\n",
            "PROXY TCP4 1.1.1.1 2.2.2.2 1\r\n",
            "PROXY TCP4 01.1.1.1 2.2.2.2 1 2\r\n",
            "PROXY TCP4 1.1.1 2.2.2.2 1 2\r\n",
            "PROXY TCP4 ::1 ::1 1 2\r\n",
            "PROXY TCP6 1.1.1.1 2.2.2.2 1 2\r\n",
            "PROXY TCP6 [::1] ::1 1 2\r\n",
            "PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
            "PROXY TCP4 1.1.1.1 2.2.2.2 65536 2\r\n",
            "PROXY TCP4 1.1.1.1 2.2.2.2 -1 2\r\n",
            "PROXY TCP4 1.1.1.1 2.2.2.2 +1 2\r\n",
            "PROXY TCP4 1.1.1.1 2.2.2.2 01 2\r\n",
            "PROXY TCP4 1.1.1.1 2.2.2.2 1 2\n\r\n",
            "PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\r\n",
            "PROXY TCP4 1.1.1.1\t2.2.2.2 1 2\r\n",
            "PROXY TCP4 1.1.1.1 2.2.2.2 1 2\0\r\n",
        ] {
            assert_eq!(parse(bad.as_bytes()), Err(Text), "{bad:?}");
        }
        let endless = format!("PROXY UNKNOWN {}", "f".repeat(200));
        assert_eq!(parse(endless.as_bytes()), Err(TooLong));
        let too_long = format!("PROXY UNKNOWN {}\r\n", "f".repeat(TEXT_BYTES_MAX - 15));
        assert_eq!(parse(too_long.as_bytes()), Err(TooLong));
    }
}
