//! `wscast healthcheck`: requests /health, for images and units without curl.

#[cfg(feature = "tls")]
mod tls;

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

use serde::Deserialize;
use tungstenite::http::Uri;

use crate::cli::flags::host::connectable;
use crate::cli::flags::values::duration;
use crate::proxy::TrustedProxies;
use crate::target_url::{port, scheme};
use crate::threads;

/// Most bytes of a response that are read.
const RESPONSE_BYTES_MAX: u64 = 64 * 1024;
/// Most headers of a response that are parsed.
const HEADERS_MAX: usize = 64;
/// The path if a URL has none.
const HEALTH: &str = "/health";
/// A PROXY header without a client (HAProxy's specification, §2.1), as a proxy sends it for its own checks.
const PROXY_HEADER: &str = "PROXY UNKNOWN\r\n";

/// Exit code 0 means that the server accepts clients and stores messages, 1 that it does not, 2 that a setting is
/// wrong. Without --url the server on this machine is checked, at the address of the settings: WSCAST_PORT,
/// WSCAST_HOST and the others, or flags before the command.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct HealthcheckCommand {
    /// The URL to request: http://HOST:PORT, https://HOST:PORT or unix:PATH, with the path /health if the URL has
    /// none. Certificates are not verified
    #[arg(long, value_name = "URL", value_parser = target)]
    url: Option<Target>,
    /// Time for the whole check
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = duration)]
    timeout: Duration,
}

/// A request to make.
#[derive(Clone, Debug)]
pub struct Healthcheck {
    /// The first one that accepts a connection is checked.
    targets: Vec<Target>,
    timeout: Duration,
}

/// An address, and what to send there.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    address: CheckedAddress,
    has_tls: bool,
    needs_proxy_header: bool,
    /// The path and query.
    path: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum CheckedAddress {
    /// A name or an address without brackets, and a port.
    Tcp(String, u16),
    Unix(PathBuf),
}

/// The settings of the server on this machine that say where it listens.
pub(in crate::cli) struct OwnServer {
    pub(in crate::cli) addresses: Vec<IpAddr>,
    pub(in crate::cli) port: u16,
    /// The first Unix socket.
    pub(in crate::cli) socket: Option<PathBuf>,
    pub(in crate::cli) has_tls: bool,
    pub(in crate::cli) proxy_protocol: bool,
    pub(in crate::cli) trusted_proxies: TrustedProxies,
}

impl HealthcheckCommand {
    /// Returns the check to make: of the URL, or of `own` without one. An `Err` is one line.
    pub(in crate::cli) fn healthcheck(self, own: OwnServer) -> Result<Healthcheck, String> {
        let targets = self.url.map_or_else(|| own_targets(own), |url| vec![url]);
        if targets.is_empty() {
            return Err("--port 0: the port is unknown; write --url".to_owned());
        }
        Ok(Healthcheck {
            targets,
            timeout: self.timeout,
        })
    }
}

/// Returns the addresses of the server with these settings: its port, or its first Unix socket if a free port is taken.
fn own_targets(own: OwnServer) -> Vec<Target> {
    let trusted = own.trusted_proxies;
    let target = |address, has_tls, is_trusted| Target {
        address,
        has_tls,
        needs_proxy_header: own.proxy_protocol && is_trusted,
        path: HEALTH.to_owned(),
    };
    if own.port == 0 {
        let socket = own.socket.map(CheckedAddress::Unix);
        let socket = socket.map(|address| target(address, false, trusted.trusts_unix()));
        return socket.into_iter().collect();
    }
    let addresses = own.addresses.into_iter().map(connectable);
    addresses
        .map(|ip| {
            let address = CheckedAddress::Tcp(ip.to_string(), own.port);
            target(address, own.has_tls, trusted.trusts(ip))
        })
        .collect()
}

/// Parses a value of --url.
fn target(text: &str) -> Result<Target, String> {
    const INSTEAD: &str = "write http://HOST:PORT, https://HOST:PORT or unix:PATH";
    let (address, has_tls, path) = match text.strip_prefix("unix:") {
        Some("") => return Err(INSTEAD.to_owned()),
        Some(path) => (CheckedAddress::Unix(path.into()), false, String::new()),
        None => {
            let uri: Uri = text.parse().map_err(|_| INSTEAD)?;
            let has_tls = match scheme(&uri).as_str() {
                "http" => false,
                "https" => true,
                _ => return Err(INSTEAD.to_owned()),
            };
            let host = uri.host().filter(|host| !host.is_empty()).ok_or(INSTEAD)?;
            let host = host.trim_start_matches('[').trim_end_matches(']');
            let port = port(&uri, if has_tls { 443 } else { 80 })
                .ok_or_else(|| format!("{INSTEAD}, with a port from 1 to 65535"))?;
            let path = uri.path_and_query().map(ToString::to_string);
            let address = CheckedAddress::Tcp(host.to_owned(), port);
            (address, has_tls, path.unwrap_or_default())
        }
    };
    let path = match path.as_str() {
        "" | "/" => HEALTH.to_owned(),
        _ => path,
    };
    Ok(Target {
        address,
        has_tls,
        needs_proxy_header: false,
        path,
    })
}

impl Healthcheck {
    /// Makes the request. Returns a line for stdout; an `Err` is one line for stderr.
    pub fn run(self) -> Result<String, String> {
        let timeout = self.timeout;
        let (sender, result) = mpsc::sync_channel(1);
        // A thread of its own, because neither a name look-up nor a connection to a Unix socket has a time-out.
        let check = move || drop(sender.send(self.check()));
        threads::spawn_service("healthcheck", check)
            .map_err(|why| format!("healthcheck: cannot start a thread: {why}"))?;
        result.recv_timeout(timeout).unwrap_or_else(|_| {
            let seconds = timeout.as_secs_f64();
            Err(format!("healthcheck: no response within {seconds} s"))
        })
    }

    /// Requests the first target that accepts a connection.
    fn check(&self) -> Result<String, String> {
        let mut refused = String::new();
        for target in &self.targets {
            match target.connect() {
                Ok(stream) => return target.check(stream),
                Err(why) if refused.is_empty() => refused = target.error(&why),
                Err(_) => {}
            }
        }
        Err(refused)
    }
}

trait ByteStream: Read + Write {}
impl<T: Read + Write> ByteStream for T {}

impl Target {
    /// Connects, and sends the PROXY header if the server requires one.
    fn connect(&self) -> io::Result<Box<dyn ByteStream>> {
        let header = if self.needs_proxy_header {
            PROXY_HEADER
        } else {
            ""
        };
        match &self.address {
            CheckedAddress::Unix(path) => {
                let mut stream = UnixStream::connect(path)?;
                stream.write_all(header.as_bytes())?;
                Ok(Box::new(stream))
            }
            CheckedAddress::Tcp(host, port) => {
                let addresses: Vec<SocketAddr> =
                    (host.as_str(), *port).to_socket_addrs()?.collect();
                let mut stream = TcpStream::connect(&addresses[..])?;
                stream.write_all(header.as_bytes())?;
                self.encrypt(stream, host)
            }
        }
    }

    #[cfg(feature = "tls")]
    fn encrypt(&self, stream: TcpStream, host: &str) -> io::Result<Box<dyn ByteStream>> {
        Ok(if self.has_tls {
            Box::new(tls::connect(stream, host)?)
        } else {
            Box::new(stream)
        })
    }

    #[cfg(not(feature = "tls"))]
    fn encrypt(&self, stream: TcpStream, _host: &str) -> io::Result<Box<dyn ByteStream>> {
        if self.has_tls {
            let why = "this wscast was built without TLS; build it with --features tls";
            return Err(io::Error::new(io::ErrorKind::Unsupported, why));
        }
        Ok(Box::new(stream))
    }

    /// Requests the path. A status of 200 to 299 is healthy.
    fn check(&self, mut stream: Box<dyn ByteStream>) -> Result<String, String> {
        let (status, body) = self.request(&mut stream).map_err(|why| self.error(&why))?;
        let report: Report = serde_json::from_slice(&body).unwrap_or_default();
        if (200..300).contains(&status) {
            return Ok(format!("{}: {status} {}\n", self.url(), report.status));
        }
        let parts = [report.status.as_str(), &report.message];
        let texts: Vec<&str> = parts.into_iter().filter(|text| !text.is_empty()).collect();
        let text = texts.join(": ").escape_debug().to_string();
        Err(format!("healthcheck: {}: {status} {text}", self.url()))
    }

    /// Returns the status and the body of the response.
    fn request(&self, stream: &mut dyn ByteStream) -> io::Result<(u16, Vec<u8>)> {
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: wscast-healthcheck\r\nConnection: close\r\n\r\n",
            self.path,
            self.authority()
        );
        stream.write_all(request.as_bytes())?;
        stream.flush()?;
        let mut response = Vec::new();
        let end = stream
            .take(RESPONSE_BYTES_MAX)
            .read_to_end(&mut response)
            .err();
        parse_response(&response).ok_or_else(|| {
            let no_http = || io::Error::new(io::ErrorKind::InvalidData, "not a response of HTTP");
            end.unwrap_or_else(no_http)
        })
    }

    /// The value of the header `Host`.
    fn authority(&self) -> String {
        match &self.address {
            CheckedAddress::Unix(_) => "localhost".to_owned(),
            CheckedAddress::Tcp(host, port) => match host.parse() {
                Ok(IpAddr::V6(ip)) => format!("[{ip}]:{port}"),
                _ => format!("{host}:{port}"),
            },
        }
    }

    fn url(&self) -> String {
        match &self.address {
            CheckedAddress::Unix(path) => format!("unix:{}", path.display()),
            CheckedAddress::Tcp(..) => {
                let s = if self.has_tls { "s" } else { "" };
                format!("http{s}://{}{}", self.authority(), self.path)
            }
        }
    }

    fn error(&self, why: &io::Error) -> String {
        format!("healthcheck: {}: {why}", self.url())
    }
}

/// The parts of a health report that are printed.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Report {
    status: String,
    message: String,
}

/// Splits a response into status and body. `None` if it is not one, or its head is incomplete.
fn parse_response(response: &[u8]) -> Option<(u16, Vec<u8>)> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Response::new(&mut headers);
    match head.parse(response) {
        Ok(httparse::Status::Complete(length)) => Some((head.code?, response[length..].to_vec())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_an_address_and_a_path() {
        for (text, url, has_tls) in [
            (
                "http://127.0.0.1:5000",
                "http://127.0.0.1:5000/health",
                false,
            ),
            ("http://example.com/", "http://example.com:80/health", false),
            (
                "https://example.com",
                "https://example.com:443/health",
                true,
            ),
            (
                "http://[::1]:5000/health/live",
                "http://[::1]:5000/health/live",
                false,
            ),
            (
                "http://a:1/chat/health?x=1",
                "http://a:1/chat/health?x=1",
                false,
            ),
            ("unix:/run/wscast.sock", "unix:/run/wscast.sock", false),
        ] {
            let parsed = target(text).unwrap();
            assert_eq!((parsed.url().as_str(), parsed.has_tls), (url, has_tls));
        }
    }

    #[test]
    fn other_urls_are_refused_with_a_remedy() {
        for bad in [
            "",
            "unix:",
            "127.0.0.1:5000",
            "localhost",
            "ftp://a",
            "ws://a",
            "http://",
            "http://:80",
            "http://a b",
        ] {
            let why = target(bad).unwrap_err();
            assert!(why.contains("http://HOST:PORT"), "{bad:?}: {why}");
        }
    }

    #[test]
    fn incomplete_or_foreign_responses_have_no_status() {
        assert_eq!(
            parse_response(b"HTTP/1.1 503 x\r\nA: b\r\n\r\n{}"),
            Some((503, b"{}".to_vec()))
        );
        for bad in [
            &b""[..],
            b"HTTP/1.1 200 OK\r\n",
            b"SSH-2.0-x\r\n\r\n",
            b"\x15\x03\x03\x00\x02",
        ] {
            assert_eq!(parse_response(bad), None, "{bad:?}");
        }
    }
}
