//! Scenarios that act as a trusted proxy and name clients by any address.

use super::connection::handshake_with;
use super::{ClientOptions, RawConnection, Response, TestClient, TestServer};

impl TestServer {
    /// Starts a server that trusts forwarding headers from this machine.
    pub fn behind_proxy(args: &[&str]) -> Self {
        Self::start(&[&["--trusted-proxies=127.0.0.1"], args].concat())
    }

    /// Requests a WebSocket as the client at `address`; returns the connection and the response.
    pub fn handshake_as(
        &self,
        address: &str,
        target: &str,
        lines: &[&str],
    ) -> (RawConnection, Response) {
        let forwarded = forwarded_for(address);
        let mut raw = self.raw();
        raw.send(handshake_with(target, &[&[&*forwarded], lines].concat()));
        let response = raw.response();
        (raw, response)
    }

    /// Connects a passive client at `address`.
    pub fn client_as(&self, address: &str, target: &str) -> TestClient {
        let (raw, response) = self.handshake_as(address, target, &[]);
        assert_eq!(response.status, 101, "{address}: {}", response.text());
        ClientOptions::new().passive().after_handshake(raw)
    }

    /// Returns the code that a page at `address` is closed with right after its handshake.
    pub fn page_close_code_as(&self, address: &str, target: &str) -> u16 {
        let origin = "Origin: https://a.example";
        let (mut page, response) = self.handshake_as(address, target, &[origin]);
        assert_eq!(response.status, 101, "{address}: {}", response.text());
        page.close_code()
    }
}

impl RawConnection {
    /// Sends one `GET` as the client at `address` and returns the response.
    pub fn get_as(&mut self, address: &str, target: &str) -> Response {
        self.request("GET", target, &[&forwarded_for(address)])
    }
}

/// The header line with which a proxy names its client.
pub fn forwarded_for(address: &str) -> String {
    format!("X-Forwarded-For: {address}")
}

/// A header of the PROXY protocol, version 2: command, family and the bytes after the length.
pub fn proxy_header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = (rest.len() as u16).to_be_bytes();
    let signature = b"\r\n\r\n\0\r\nQUIT\n";
    [&signature[..], &[command, family], &length, rest].concat()
}

/// The PROXY header of a connection from this client.
pub fn proxy_header_for(client: &str) -> Vec<u8> {
    let (address, port) = (client.parse().expect("an address"), 4711u16.to_be_bytes());
    match address {
        std::net::IpAddr::V4(v4) => {
            let rest = [&v4.octets()[..], &[127, 0, 0, 1], &port, &[0, 80]].concat();
            proxy_header(0x21, 0x11, &rest)
        }
        std::net::IpAddr::V6(v6) => {
            let rest = [&v6.octets()[..], &[0; 16], &port, &[0, 80]].concat();
            proxy_header(0x21, 0x21, &rest)
        }
    }
}
