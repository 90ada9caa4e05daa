//! Scenarios play the proxy: to a server that trusts them, they name whatever client they like.

use super::raw::KEY;
use super::{RawConnection, Response, TestServer};

impl TestServer {
    /// A server that believes forwarding headers from this machine.
    pub fn behind_proxy(args: &[&str]) -> Self {
        Self::start(&[&["--trusted-proxies=127.0.0.1"], args].concat())
    }

    /// A connection on which this client has asked for a WebSocket, and the answer.
    pub fn knock(&self, address: &str, target: &str, lines: &[&str]) -> (RawConnection, Response) {
        let mut raw = self.raw();
        raw.send(handshake_as(address, target, lines));
        let response = raw.response();
        (raw, response)
    }

    /// A WebSocket of this client that has been welcomed.
    pub fn enter_as(&self, address: &str, target: &str) -> RawConnection {
        let (mut raw, response) = self.knock(address, target, &[]);
        assert_eq!(response.status, 101, "{address}: {}", response.text());
        assert_eq!(raw.next()["from"], "server");
        raw
    }

    /// The code that a page of this client is closed with as soon as it is let in.
    pub fn page_closed_as(&self, address: &str, target: &str) -> u16 {
        let (mut page, response) = self.knock(address, target, &["Origin: https://a.example"]);
        assert_eq!(response.status, 101, "{address}: {}", response.text());
        page.close_code()
    }
}

impl RawConnection {
    /// One `GET` of this client and its answer.
    pub fn get_as(&mut self, address: &str, target: &str) -> Response {
        self.request("GET", target, &[&format!("X-Forwarded-For: {address}")])
    }
}

fn handshake_as(address: &str, target: &str, lines: &[&str]) -> String {
    let forwarded = format!("X-Forwarded-For: {address}");
    let key = format!("Sec-WebSocket-Key: {KEY}");
    let upgrade = [
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
    ];
    let lines = [&upgrade[..], &[&key, &forwarded], lines].concat();
    super::request("GET", target, &lines)
}

/// A header of the PROXY protocol, version 2: command, family, and what follows.
pub fn proxy_header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = (rest.len() as u16).to_be_bytes();
    let signature = b"\r\n\r\n\0\r\nQUIT\n";
    [&signature[..], &[command, family], &length, rest].concat()
}

/// The header of a connection from this client.
pub fn proxied(client: &str) -> Vec<u8> {
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
