//! HTTP spoken by hand on a bare connection: what a tidy client library would not send, or not show.

use std::io::{ErrorKind, Read};
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;
use serde_json::{Value, json};

use super::{RawConnection, Response, TestServer, eventually};

impl RawConnection {
    /// One request with these header lines besides `Host`, and its answer.
    pub fn request(&mut self, method: &str, target: &str, headers: &[&str]) -> Response {
        self.send(request(method, target, headers));
        self.response_to(method)
    }

    /// All that comes until the server closes. An end by reset fails: it may take an answer with it.
    pub fn read_to_end(&mut self) -> String {
        let mut bytes = Vec::new();
        let ended = self.socket.read_to_end(&mut bytes);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        ended.unwrap_or_else(|error| panic!("no end but {error} after {text:?}"));
        text
    }

    /// What comes of a stream that has no end, until it holds `end`.
    pub fn read_until(&mut self, end: &str) -> String {
        let mut bytes = Vec::new();
        eventually(end, || {
            let mut chunk = [0; 4096];
            let read = self.socket.read(&mut chunk).expect("stream");
            let text = String::from_utf8_lossy(&bytes);
            assert!(read > 0, "the stream ended: {text}");
            bytes.extend_from_slice(&chunk[..read]);
            let text = String::from_utf8_lossy(&bytes);
            text.contains(end).then(|| text.into_owned())
        })
    }

    /// Waits until the server has sent something or closed, `at_most` this long; says whether it has.
    pub fn hears_within(&mut self, at_most: Duration) -> bool {
        let patience = self.socket.read_timeout().expect("time-out");
        self.socket
            .set_read_timeout(Some(at_most))
            .expect("time-out");
        let peeked = self.socket.peek(&mut [0]);
        self.socket.set_read_timeout(patience).expect("time-out");
        !peeked
            .is_err_and(|error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
    }

    /// Ends with a reset, as a client that crashed does.
    pub fn reset(self) {
        set_socket_linger(&self.socket, Some(Duration::ZERO)).expect("linger");
    }
}

impl TestServer {
    /// Publishes over HTTP; `target` is the room's messages.
    pub fn post(&self, target: &str, body: &Value) -> Response {
        let mut raw = self.raw();
        let body = body.to_string();
        let length = format!("Content-Length: {}", body.len());
        let headers = ["Content-Type: application/json", &length];
        raw.send(request("POST", target, &headers) + &body);
        raw.response()
    }

    /// Publishes a message with an id in this session, and gives its place.
    pub fn publish(&self, room: &str, session: &str, id: &str, payload: impl Into<Value>) -> Value {
        let target = format!("/rooms/{room}/messages?session={session}");
        let body = json!({"type": "message", "payload": payload.into(), "id": id});
        let response = self.post(&target, &body);
        assert_eq!(response.status, 201, "{}", response.text());
        response.json()
    }
}

impl Response {
    /// The values of a header, in order.
    pub fn header_lines(&self, name: &str) -> Vec<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines
            .filter(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
            .collect()
    }

    /// The names of all headers in lower case, sorted.
    pub fn header_names(&self) -> Vec<String> {
        let lines = self.head.lines().filter_map(|line| line.split_once(':'));
        let mut names: Vec<_> = lines.map(|(name, _)| name.to_ascii_lowercase()).collect();
        names.sort_unstable();
        names
    }
}

/// A request's head: this method and target, `Host`, and these header lines.
pub fn request(method: &str, target: &str, headers: &[&str]) -> String {
    let lines: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    format!("{method} {target} HTTP/1.1\r\nHost: test\r\n{lines}\r\n")
}
