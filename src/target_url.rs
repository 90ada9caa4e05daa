//! The URL of another server, which this server sends requests to.

use std::fmt;
use std::str::FromStr;

use tungstenite::http::Uri;

const INSTEAD: &str = "write http://HOST:PORT/PATH or https://HOST/PATH";

/// A URL of `http` or `https`. Its text leaves out the query, which may hold a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct TargetUrl {
    has_tls: bool,
    /// A name, or an address without brackets.
    host: String,
    port: u16,
    /// The path and the query.
    target: String,
}

impl TargetUrl {
    pub(crate) fn has_tls(&self) -> bool {
        self.has_tls
    }

    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Returns the path and the query, for the request line.
    pub(crate) fn target(&self) -> &str {
        &self.target
    }

    /// Returns the value of the `Host` header. It has no default port (RFC 9110 §7.2).
    pub(crate) fn authority(&self) -> String {
        let host = match self.host.contains(':') {
            true => format!("[{}]", self.host),
            false => self.host.clone(),
        };
        match self.port {
            port if port == default_port(self.has_tls) => host,
            port => format!("{host}:{port}"),
        }
    }
}

fn default_port(has_tls: bool) -> u16 {
    if has_tls { 443 } else { 80 }
}

impl fmt::Display for TargetUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.has_tls { "https" } else { "http" };
        let path = self.target.split('?').next().unwrap_or_default();
        write!(f, "{scheme}://{}{path}", self.authority())
    }
}

/// Leaves out the query too.
impl fmt::Debug for TargetUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for TargetUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let uri: Uri = text.trim().parse().map_err(|_| INSTEAD)?;
        let has_tls = match scheme(&uri).as_str() {
            "http" => false,
            "https" => true,
            _ => return Err(INSTEAD),
        };
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        if authority.contains('@') {
            return Err(
                "write no user and no password before the host; put a secret into the query",
            );
        }
        let host = uri.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = port(&uri, default_port(has_tls)).ok_or(INSTEAD)?;
        if host.is_empty() {
            return Err(INSTEAD);
        }
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        Ok(Self {
            has_tls,
            host: host.to_owned(),
            port,
            target: match target.starts_with('/') {
                true => target.to_owned(),
                false => format!("/{target}"),
            },
        })
    }
}

/// Returns the scheme of a URL in small letters, because its case does not matter (RFC 3986 §3.1); empty if it has none.
pub(crate) fn scheme(uri: &Uri) -> String {
    uri.scheme_str().unwrap_or_default().to_ascii_lowercase()
}

/// Returns the port of a URL, or `default` if it names none; `None` if it is not a number from 1 to 65535.
pub(crate) fn port(uri: &Uri, default: u16) -> Option<u16> {
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let after_host = authority.rsplit(']').next().unwrap_or_default();
    // `port_u16` gives nothing for a port that is not a number, or too large a one.
    match after_host.contains(':') {
        true => uri.port_u16().filter(|port| *port > 0),
        false => Some(default),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_parsed_and_shown_without_their_query() {
        for (text, shown, authority, target) in [
            (
                "http://127.0.0.1:9000",
                "http://127.0.0.1:9000/",
                "127.0.0.1:9000",
                "/",
            ),
            (
                "http://app/hook?key=s",
                "http://app/hook",
                "app",
                "/hook?key=s",
            ),
            ("HTTP://app/", "http://app/", "app", "/"),
            ("HttpS://app/", "https://app/", "app", "/"),
            ("http://app:80?key=s", "http://app/", "app", "/?key=s"),
            (
                "https://[::1]:8443/a/b",
                "https://[::1]:8443/a/b",
                "[::1]:8443",
                "/a/b",
            ),
            (
                "https://Example.com:443/%20#x",
                "https://Example.com/%20",
                "Example.com",
                "/%20",
            ),
        ] {
            let url: TargetUrl = text.parse().expect(text);
            assert_eq!(url.to_string(), shown, "{text}");
            assert_eq!(format!("{url:?}"), shown, "{text}");
            assert_eq!(url.authority(), authority, "{text}");
            assert_eq!(url.target(), target, "{text}");
        }
        for bad in [
            "",
            "app",
            "app:9000/hook",
            "ftp://app",
            "ws://app",
            "http://",
            "http:///hook",
            "http://app:0/",
            "http://app:70000/",
            "http://app:x/",
            "http://app:/",
            "http://user:pass@app/",
            "http://a b/",
            "http://房间/",
        ] {
            let why = bad.parse::<TargetUrl>().expect_err(bad);
            assert!(why.starts_with("write "), "{bad}: {why}");
        }
    }
}
