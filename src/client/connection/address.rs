//! The address of a server, as `--url` names it.

use std::str::FromStr;

use tungstenite::http::Uri;

use crate::target_url::{port, scheme};

/// The path of the WebSocket where a URL names none.
const SOCKET: &str = "/ws";
const INSTEAD: &str = "write ws://HOST:PORT or wss://HOST:PORT";

/// The address of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerAddress {
    /// True if the server uses TLS.
    pub(super) has_tls: bool,
    /// A name, or an address without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// The path of the WebSocket.
    pub(super) path: String,
}

impl ServerAddress {
    /// Returns the value of the `Host` header.
    pub(super) fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl std::fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.has_tls { "wss" } else { "ws" };
        write!(f, "{scheme}://{}{}", self.authority(), self.path)
    }
}

impl FromStr for ServerAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let uri: Uri = text.parse().map_err(|_| INSTEAD)?;
        // The address of the page is the one that people copy.
        let has_tls = match scheme(&uri).as_str() {
            "ws" | "http" => false,
            "wss" | "https" => true,
            _ => return Err(INSTEAD.to_owned()),
        };
        if uri.query().is_some() {
            return Err(format!(
                "{INSTEAD}, without `?`; the room is an argument, the token is WSCAST_TOKEN"
            ));
        }
        let port = port(&uri, if has_tls { 443 } else { 80 })
            .ok_or_else(|| format!("{INSTEAD}, with a port from 1 to 65535"))?;
        let host = uri.host().filter(|host| !host.is_empty()).ok_or(INSTEAD)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let path = match uri.path() {
            "" | "/" => SOCKET,
            path => path,
        };
        Ok(Self {
            has_tls,
            host: host.to_owned(),
            port,
            path: path.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_parsed() {
        for (text, shown) in [
            ("ws://127.0.0.1:5000/ws", "ws://127.0.0.1:5000/ws"),
            ("ws://[::1]:5000", "ws://[::1]:5000/ws"),
            ("http://example.com/", "ws://example.com:80/ws"),
            ("WSS://example.com", "wss://example.com:443/ws"),
            ("https://example.com", "wss://example.com:443/ws"),
            (
                "wss://example.com:8443/chat/ws",
                "wss://example.com:8443/chat/ws",
            ),
        ] {
            let address: ServerAddress = text.parse().expect(text);
            assert_eq!(address.to_string(), shown, "{text}");
        }
        for bad in [
            "",
            "127.0.0.1:5000",
            "ftp://a",
            "ws://",
            "ws://a/ws?room=b",
            "ws://a:65536",
            "ws://a:0",
            "ws://a:",
            "ws://a:b",
            "ws://[::1]:-1",
        ] {
            let why = bad.parse::<ServerAddress>().unwrap_err();
            assert!(why.contains("ws://HOST"), "{bad}: {why}");
        }
    }
}
