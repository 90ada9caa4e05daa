//! Reads the figures that a server reports at `/stats` and `/metrics`.

use std::io::{self, Read, Write};
use std::net::{SocketAddrV4, TcpStream};
use std::time::Duration;

use serde_json::Value;

const READ_DEADLINE: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stats {
    pub(crate) clients: u64,
    pub(crate) lagging: u64,
    pub(crate) evicted: u64,
}

impl Stats {
    pub(crate) fn fetch(address: SocketAddrV4) -> io::Result<Stats> {
        let response = get(address, "/stats")?;
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

/// The sum and the number of a histogram's observations. NaN if the server does not have the histogram.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HistogramTotals {
    sum: f64,
    count: f64,
}

impl HistogramTotals {
    pub(crate) fn fetch(address: SocketAddrV4, name: &str) -> io::Result<HistogramTotals> {
        let response = get(address, "/metrics")?;
        let value = |part| {
            let prefix = format!("{name}_{part} ");
            let mut lines = response.lines();
            let value = lines.find_map(|line| line.strip_prefix(&prefix));
            value
                .and_then(|value| value.parse().ok())
                .unwrap_or(f64::NAN)
        };
        Ok(HistogramTotals {
            sum: value("sum"),
            count: value("count"),
        })
    }

    pub(crate) fn since(&self, earlier: &HistogramTotals) -> HistogramTotals {
        HistogramTotals {
            sum: self.sum - earlier.sum,
            count: self.count - earlier.count,
        }
    }

    pub(crate) fn mean_seconds(&self) -> f64 {
        self.sum / self.count
    }
}

fn get(address: SocketAddrV4, path: &str) -> io::Result<String> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(READ_DEADLINE))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes())?;
    let mut response = String::new();
    socket.read_to_string(&mut response)?;
    Ok(response)
}
