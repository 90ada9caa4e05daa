//! What a server says of itself at `/stats`.

use std::io::{self, Read, Write};
use std::net::{SocketAddrV4, TcpStream};
use std::time::Duration;

use serde_json::Value;

const ANSWER_DEADLINE: Duration = Duration::from_secs(5);
const REQUEST: &[u8] = b"GET /stats HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stats {
    pub(crate) clients: u64,
    pub(crate) lagging: u64,
    pub(crate) evicted: u64,
}

impl Stats {
    pub(crate) fn of(address: SocketAddrV4) -> io::Result<Stats> {
        let mut socket = TcpStream::connect(address)?;
        socket.set_read_timeout(Some(ANSWER_DEADLINE))?;
        socket.write_all(REQUEST)?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer)?;
        Stats::read(&answer).ok_or_else(|| io::Error::other(format!("/stats answered {answer:?}")))
    }

    fn read(answer: &str) -> Option<Stats> {
        let (_head, body) = answer.split_once("\r\n\r\n")?;
        let stats: Value = serde_json::from_str(body).ok()?;
        let number = |pointer| stats.pointer(pointer)?.as_u64();
        Some(Stats {
            clients: number("/connected_clients")?,
            lagging: number("/lagging_clients")?,
            evicted: number("/totals/slow_consumers_evicted")?,
        })
    }
}
