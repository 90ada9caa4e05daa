//! The allow list of web origins (RFC 6454), for CORS and for the WebSocket handshake.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// Longest origin in bytes: a scheme, a host name of 253 characters, a port.
const ORIGIN_BYTES_MAX: usize = 300;

/// The web origins that browsers may connect from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowedOrigins {
    /// `*`: every origin.
    Any,
    /// Only these origins.
    Listed(Vec<OriginPattern>),
}

/// An entry of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OriginPattern {
    /// An origin as browsers and apps send it: `https://example.com`, `http://localhost:8080`, `capacitor://localhost`,
    /// `file://` or `null`.
    Exact(String),
    /// `https://*.example.com`: any host below the domain, not the domain itself.
    Subdomains {
        /// `https://`
        scheme: String,
        /// `.example.com`, with the port if there is one.
        suffix: String,
    },
}

impl AllowedOrigins {
    /// Returns whether a request with this `Origin` header is served.
    ///
    /// A request without the header is not a browser's cross-origin request, so it is served.
    pub fn allows(&self, origin: Option<&str>) -> bool {
        match (self, origin) {
            (Self::Any, _) | (_, None) => true,
            (Self::Listed(patterns), Some(origin)) => {
                patterns.iter().any(|pattern| pattern.matches(origin))
            }
        }
    }

    /// Returns whether the list names this origin; `*` names none.
    pub(crate) fn lists(&self, origin: &str) -> bool {
        matches!(self, Self::Listed(_)) && self.allows(Some(origin))
    }

    /// Returns the setting that would also allow `origin`; `None` if `origin` is not a valid origin.
    pub fn with(&self, origin: &str) -> Option<String> {
        is_origin(origin).then(|| match self {
            Self::Any => self.to_string(),
            Self::Listed(_) => format!("{self},{origin}"),
        })
    }
}

/// Returns whether an `Origin` is that of this server's own page, opened by IP address or as `localhost`.
///
/// An attacker can let a name of theirs resolve to this machine (DNS rebinding). A page of that name has the same host in
/// `Origin` and `Host`, so names other than `localhost` must be listed. An IP address is no name.
pub(crate) fn is_own_page(origin: &str, host: &str) -> bool {
    let origin = origin.to_ascii_lowercase();
    let authority = origin
        .strip_prefix("http://")
        .or_else(|| origin.strip_prefix("https://"));
    let Some(authority) = authority.filter(|authority| authority.eq_ignore_ascii_case(host)) else {
        return false;
    };
    let is_localhost = authority == "localhost" || authority.starts_with("localhost:");
    is_localhost || names_an_address(authority)
}

/// Returns whether an authority is an IP address, with a port or without.
fn names_an_address(authority: &str) -> bool {
    let bracketed = authority
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    authority.parse::<SocketAddr>().is_ok()
        || authority.parse::<Ipv4Addr>().is_ok()
        || bracketed.is_some_and(|address| address.parse::<Ipv6Addr>().is_ok())
}

impl OriginPattern {
    fn matches(&self, origin: &str) -> bool {
        match self {
            Self::Exact(exact) => exact.eq_ignore_ascii_case(origin),
            Self::Subdomains { scheme, suffix } => {
                let origin = origin.to_ascii_lowercase();
                let below = origin.strip_prefix(scheme.as_str());
                let label = below.and_then(|host| host.strip_suffix(suffix.as_str()));
                label.is_some_and(is_host)
            }
        }
    }
}

/// Returns whether a browser could send this `Origin`.
pub(crate) fn is_origin(text: &str) -> bool {
    text.len() <= ORIGIN_BYTES_MAX
        && text.chars().all(|c| c.is_ascii_graphic() && c != '*')
        && text.parse::<OriginPattern>().is_ok()
}

/// Returns whether this is a host name in the form that browsers send (RFC 6454 §6.2).
fn is_host(labels: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let mut labels = labels.split('.');
    labels.all(|label| !label.is_empty() && label.bytes().all(fits))
}

/// Returns whether this is a scheme in lower case (RFC 3986 §3.1).
fn is_scheme(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    text.starts_with(|first: char| first.is_ascii_alphabetic()) && text.bytes().all(fits)
}

/// Removes the default port. Browsers omit it (RFC 6454 §6.2), so an entry with it would never match.
fn without_default_port<'a>(scheme: &str, host: &'a str) -> &'a str {
    let port = match scheme {
        "https" => ":443",
        "http" => ":80",
        _ => return host,
    };
    host.strip_suffix(port).unwrap_or(host)
}

impl FromStr for OriginPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let instead = || {
            "write *, null, or an origin such as https://example.com, https://*.example.com or file://"
                .to_owned()
        };
        if text == "null" {
            return Ok(Self::Exact(text.to_owned()));
        }
        let text = text.to_ascii_lowercase();
        let (scheme, host) = text.split_once("://").ok_or_else(instead)?;
        if !host.is_ascii() {
            return Err(
                "write the host in ASCII, as browsers send it: it starts with xn--".to_owned(),
            );
        }
        let host = without_default_port(scheme, host);
        if !is_scheme(scheme) || host.contains(['/', ' ', ',', '@', '?', '#']) {
            return Err(instead());
        }
        // Apps whose pages have no host send the scheme alone, such as `file://`.
        if host.is_empty() {
            let is_web = matches!(scheme, "http" | "https" | "ws" | "wss");
            return if is_web {
                Err(instead())
            } else {
                Ok(Self::Exact(text))
            };
        }
        match host.strip_prefix("*.") {
            Some(domain) if !domain.is_empty() && !domain.contains('*') => Ok(Self::Subdomains {
                scheme: format!("{scheme}://"),
                suffix: format!(".{domain}"),
            }),
            None if !host.contains('*') => Ok(Self::Exact(format!("{scheme}://{host}"))),
            _ => Err(instead()),
        }
    }
}

/// Parses a comma-separated list, or `*` alone.
impl FromStr for AllowedOrigins {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            "*" => Ok(Self::Any),
            list => {
                let patterns = list.split(',').map(|origin| origin.trim().parse());
                patterns.collect::<Result<_, _>>().map(Self::Listed)
            }
        }
    }
}

impl fmt::Display for OriginPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(origin) => f.write_str(origin),
            Self::Subdomains { scheme, suffix } => write!(f, "{scheme}*{suffix}"),
        }
    }
}

impl fmt::Display for AllowedOrigins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Listed(patterns) => {
                for (i, pattern) in patterns.iter().enumerate() {
                    write!(f, "{}{pattern}", if i == 0 { "" } else { "," })?;
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> AllowedOrigins {
        text.parse().unwrap()
    }

    #[test]
    fn any_allows_every_origin_and_a_list_only_its_own() {
        assert!(list("*").allows(Some("https://evil.example")));
        let list = list("https://a.example, https://*.b.example:8443");
        assert!(list.allows(None));
        for good in [
            "https://a.example",
            "HTTPS://A.example",
            "https://x.b.example:8443",
            "https://xn--x_y-1.z.b.example:8443",
        ] {
            assert!(list.allows(Some(good)), "{good}");
        }
        for bad in [
            "null",
            "http://a.example",
            "https://a.example.evil",
            "https://b.example:8443",
            "https://.b.example:8443",
            "https://x.b.example",
            "https://evil.example/x.b.example:8443",
            "https://evil@x.b.example:8443",
            "https://\t\tx.b.example:8443",
            "https://evil.example?x.b.example:8443",
            "https://evil.example#.b.example:8443",
            "https://é.b.example:8443",
        ] {
            assert!(!list.allows(Some(bad)), "{bad}");
        }
    }

    #[test]
    fn default_port_may_be_written() {
        let list = list("https://a.example:443,http://*.b.example:80,https://c.example:80");
        assert!(list.allows(Some("https://a.example")));
        assert!(list.allows(Some("http://x.b.example")));
        assert!(list.allows(Some("https://c.example:80")));
        assert!(!list.allows(Some("https://c.example")));
    }

    #[test]
    fn origins_of_apps_may_be_listed() {
        for origin in [
            "file://",
            "wry://",
            "null",
            "capacitor://localhost",
            "ionic://localhost",
            "tauri://localhost",
            "https://tauri.localhost",
            "http://localhost:8100",
            "http://[::1]:8080",
            "app://obsidian.md",
            "app://.",
            "chrome-extension://abcdefghijklmnopabcdefghijklmnop",
            "moz-extension://6e9ab4c4-5b0a-4f0a-8f6f-0c6c7a1b2c3d",
            "vscode-webview://0a1b2c",
            "com.example.app://",
        ] {
            assert!(list(origin).allows(Some(origin)), "{origin}");
            let others = list("https://a.example").with(origin).expect(origin);
            assert!(list(&others).allows(Some(origin)), "{origin}");
        }
        for (listed, origin) in [
            ("file://", "null"),
            ("file://", "file://host"),
            ("null", "file://"),
            ("capacitor://localhost", "https://localhost"),
            ("app://obsidian.md", "app://"),
        ] {
            assert!(!list(listed).allows(Some(origin)), "{listed} {origin}");
        }
    }

    #[test]
    fn setting_is_suggested_for_valid_origins_only() {
        let list = list("https://a.example,https://*.b.example");
        let with = list.with("http://c.example:8080").unwrap();
        let set: AllowedOrigins = with.parse().unwrap();
        assert!(set.allows(Some("http://c.example:8080")) && set.allows(Some("https://a.example")));
        assert!(list.with("null").is_some());
        let long = format!("https://{}.example", "x".repeat(400));
        for bad in [
            "",
            "c.example",
            "https://*.c",
            "*",
            "https://c,https://d",
            "https://c d",
            &long,
        ] {
            assert_eq!(list.with(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn anything_but_an_origin_is_refused() {
        for bad in [
            "",
            "example.com",
            "https://",
            "https://a/b",
            "https://*",
            "*,https://a",
            "a*",
            "https://a?b",
            "https://a#b",
            "https://b\u{fc}cher.example",
            "https://:443",
            "http://",
            "ws://",
            "://",
            "1a://",
            "fi le://",
            "file:",
            "file:///",
            "file:///a.html",
        ] {
            assert!(bad.parse::<AllowedOrigins>().is_err(), "{bad:?}");
        }
    }
}
