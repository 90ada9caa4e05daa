//! A client of event streams that remembers the last id, as an `EventSource` does.

use std::io::Read as _;
use std::net::{Shutdown, SocketAddr};

use serde_json::Value;

use super::{RawConnection, wait_for};

/// An event of a stream.
#[derive(Debug)]
pub struct StreamEvent {
    /// `message` unless the stream names another.
    pub kind: String,
    pub data: Value,
}

/// A stream that is open.
pub struct EventSource {
    raw: RawConnection,
    unread: Vec<u8>,
    /// The id with which it would reconnect.
    pub last_id: String,
}

impl EventSource {
    /// Opens a stream after this id. Over HTTP/1.0 its body is not in chunks. `None` if the server refuses it.
    pub fn try_open(address: SocketAddr, target: &str, last_id: &str) -> Option<Self> {
        let mut raw = RawConnection::try_connect(address)?;
        let head = format!("GET {target} HTTP/1.0\r\nHost: h\r\nLast-Event-ID: {last_id}\r\n\r\n");
        if !raw.try_send(head) {
            return None;
        }
        let response = raw.try_response("HEAD")?;
        let unread = raw.take_buffered();
        let last_id = last_id.to_owned();
        (response.status == 200).then_some(Self {
            raw,
            unread,
            last_id,
        })
    }

    /// Opens a stream that the server must accept.
    pub fn open(address: SocketAddr, target: &str, last_id: &str) -> Self {
        Self::try_open(address, target, last_id)
            .unwrap_or_else(|| panic!("{target} after {last_id:?} was refused"))
    }

    /// Returns the next event. Comments, and blocks without data, are no events, but their ids count. `None` if the stream
    /// ends.
    pub fn next(&mut self) -> Option<StreamEvent> {
        loop {
            if let Some(end) = self.unread.windows(2).position(|two| two == b"\n\n") {
                let block: Vec<u8> = self.unread.drain(..end + 2).collect();
                let block = String::from_utf8(block).expect("an event is UTF-8");
                if let Some(event) = self.take(&block) {
                    return Some(event);
                }
                continue;
            }
            let mut chunk = [0; 4096];
            let read = wait_for("an event", || match self.raw.socket.read(&mut chunk) {
                Ok(read) => Some(read),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => None,
                Err(_) => Some(0),
            });
            if read == 0 {
                return None;
            }
            self.unread.extend_from_slice(&chunk[..read]);
        }
    }

    /// Returns the next event, which must be of this kind.
    pub fn expect(&mut self, kind: &str) -> Value {
        let event = self.next().expect("the stream ended");
        assert_eq!(event.kind, kind, "{event:?}");
        event.data
    }

    fn take(&mut self, block: &str) -> Option<StreamEvent> {
        let (mut kind, mut data) = ("message", Vec::new());
        for line in block.lines() {
            match line.split_once(": ") {
                Some(("id", id)) => self.last_id = id.to_owned(),
                Some(("event", name)) => kind = name,
                Some(("data", text)) => data.push(text),
                _ => {}
            }
        }
        (!data.is_empty()).then(|| StreamEvent {
            kind: kind.to_owned(),
            data: serde_json::from_str(&data.join("\n")).expect("JSON"),
        })
    }

    /// Ends the connection.
    pub fn shut_down(self) {
        let _already_closed = self.raw.socket.shutdown(Shutdown::Both);
    }
}
