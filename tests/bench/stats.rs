//! Reads the counters that a server reports at `/stats`.

use std::io::{self, Read, Write};
use std::net::{SocketAddrV4, TcpStream};
use std::time::Duration;

use serde_json::Value;

const READ_DEADLINE: Duration = Duration::from_secs(5);
const REQUEST: &[u8] = b"GET /stats HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stats {
    pub(crate) clients: u64,
    pub(crate) lagging: u64,
    pub(crate) evicted: u64,
}

impl Stats {
    pub(crate) fn fetch(address: SocketAddrV4) -> io::Result<Stats> {
        let mut socket = TcpStream::connect(address)?;
        socket.set_read_timeout(Some(READ_DEADLINE))?;
        socket.write_all(REQUEST)?;
        let mut response = String::new();
        socket.read_to_string(&mut response)?;
        Stats::parse(&response)
            .ok_or_else(|| io::Error::other(format!("/stats returned {response:?}")))
    }

    fn parse(response: &str) -> Option<Stats> {
        let (_head, body) = response.split_once("\r\n\r\n")?;
        let stats: Value = serde_json::from_str(body).ok()?;
        let number = |pointer| stats.pointer(pointer)?.as_u64();
        Some(Stats {
            clients: number("/connected_clients")?,
            lagging: number("/lagging_clients")?,
            evicted: number("/totals/slow_consumers_evicted")?,
        })
    }
}
