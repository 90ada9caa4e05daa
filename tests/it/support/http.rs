//! HTTP by hand on a bare connection: requests that a client library would not send, responses it would not show.

use std::io::{ErrorKind, Read};
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;
use serde_json::{Value, json};

use super::connection::lossy;
use super::{RawConnection, TestServer, wait_for};

/// The methods of a path that can only be read, as `Allow` lists them.
pub const READ_METHODS: &str = "GET, HEAD, OPTIONS";

/// An HTTP response.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl RawConnection {
    /// Sends one request with these header lines besides `Host` and returns the response.
    pub fn request(&mut self, method: &str, target: &str, headers: &[&str]) -> Response {
        self.send(request(method, target, headers));
        self.response_to(method)
    }

    /// Sends one `GET` and returns the response.
    pub fn get(&mut self, target: &str) -> Response {
        self.request("GET", target, &[])
    }

    /// Returns the next response; its body is as long as Content-Length says.
    pub fn response(&mut self) -> Response {
        self.response_to("GET")
    }

    /// Returns the next response to a request with this method: one to HEAD has no body.
    pub fn response_to(&mut self, method: &str) -> Response {
        let response = self.try_response(method);
        response.unwrap_or_else(|| panic!("no complete response; got {:?}", self.unread()))
    }

    /// Returns the next response, or `None` if the connection ends before it is complete.
    pub fn try_response(&mut self, method: &str) -> Option<Response> {
        let head = self.take_through(b"\r\n\r\n")?;
        let head = String::from_utf8(head).expect("the head is text");
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no status in {head:?}"));
        let mut response = Response {
            status,
            head,
            body: Vec::new(),
        };
        let bodyless = method == "HEAD" || status < 200 || status == 204 || status == 304;
        if !bodyless {
            let length = response.header("Content-Length");
            let length = length.and_then(|length| length.parse().ok()).unwrap_or(0);
            response.body = self.take(length)?;
        }
        Some(response)
    }

    /// Returns all bytes until the server closes. Panics on a reset, which could take a response with it.
    pub fn read_to_end(&mut self) -> String {
        let mut bytes = self.take_buffered();
        let ended = self.socket.read_to_end(&mut bytes);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        ended.unwrap_or_else(|error| panic!("{error} after {text:?}"));
        text
    }

    /// Returns the text of an endless stream up to the read that brought `end`.
    pub fn read_until(&mut self, end: &str) -> String {
        let mut bytes = self.take_buffered();
        wait_for(end, || {
            let text = lossy(&bytes);
            if text.contains(end) {
                return Some(text);
            }
            let mut chunk = [0; 4096];
            let read = self.socket.read(&mut chunk).expect("stream");
            assert!(read > 0, "the stream ended: {}", lossy(&bytes));
            bytes.extend_from_slice(&chunk[..read]);
            None
        })
    }

    /// Waits up to `at_most` for bytes or the end from the server; `false` if neither comes.
    pub fn has_input_within(&mut self, at_most: Duration) -> bool {
        let before = self.socket.read_timeout().expect("time-out");
        self.socket
            .set_read_timeout(Some(at_most))
            .expect("time-out");
        let peeked = self.socket.peek(&mut [0]);
        self.socket.set_read_timeout(before).expect("time-out");
        !peeked
            .is_err_and(|error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
    }

    /// Ends the connection with a reset, as a client that crashed does.
    pub fn reset(self) {
        set_socket_linger(&self.socket, Some(Duration::ZERO)).expect("linger");
    }
}

impl TestServer {
    /// Sends a JSON body; to publish, `target` is the room's messages.
    pub fn post(&self, target: &str, body: &Value) -> Response {
        self.post_as("application/json", target, &body.to_string())
    }

    /// Sends a body of any type.
    pub fn post_as(&self, content_type: &str, target: &str, body: &str) -> Response {
        let mut raw = self.raw();
        let length = format!("Content-Length: {}", body.len());
        let content_type = format!("Content-Type: {content_type}");
        raw.send(request("POST", target, &[&content_type, &length]) + body);
        raw.response()
    }

    /// Sends a handshake that must be refused, and returns the response. Asserts that the connection closes.
    pub fn refused_handshake(&self, handshake: impl AsRef<str>) -> Response {
        let handshake = handshake.as_ref();
        let mut client = self.raw();
        client.send(handshake);
        let response = client.response();
        assert!(response.status >= 400, "accepted: {handshake}");
        let connection = response.header("Connection").unwrap_or_default();
        assert!(
            connection.contains("close"),
            "{handshake}: {}",
            response.head
        );
        client.assert_closed();
        response
    }

    /// Sends the handshake of a page that must be rejected, and returns the response, the close code and the reason.
    pub fn rejected_page(&self, handshake: &str) -> (Response, u16, String) {
        let mut page = self.raw();
        page.send(handshake);
        let response = page.response();
        assert_eq!(response.status, 101, "{handshake}: {}", response.text());
        let frame = page.frame().expect("a Close frame");
        page.assert_closed();
        (response, frame.close_code(), frame.close_reason())
    }

    /// Publishes a message with an id in this session and returns its position.
    pub fn publish(&self, room: &str, session: &str, id: &str, payload: impl Into<Value>) -> Value {
        let target = format!("/rooms/{room}/messages?session={session}");
        let body = json!({"type": "message", "payload": payload.into(), "id": id});
        let response = self.post(&target, &body);
        assert_eq!(response.status, 201, "{}", response.text());
        response.json()
    }
}

impl Response {
    /// Returns a header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.header_lines(name).into_iter().next()
    }

    /// Returns the values of a header, in order.
    pub fn header_lines(&self, name: &str) -> Vec<&str> {
        let lines = self.head.lines().skip(1);
        lines
            .filter_map(|line| line.split_once(':'))
            .filter(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
            .collect()
    }

    /// Returns the names of all headers in lower case, sorted.
    pub fn header_names(&self) -> Vec<String> {
        let lines = self.head.lines().filter_map(|line| line.split_once(':'));
        let mut names: Vec<_> = lines.map(|(name, _)| name.to_ascii_lowercase()).collect();
        names.sort_unstable();
        names
    }

    /// Returns the seconds in `Retry-After`.
    pub fn retry_after(&self) -> u64 {
        let seconds = self.header("Retry-After").expect("Retry-After");
        seconds.parse().expect("Retry-After in seconds")
    }

    /// Returns the `data` of the only event of a refused event stream.
    pub fn refused_stream(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text());
        let text = self.text();
        let event = text.strip_prefix("retry: ").expect("retry");
        let (retry, event) = event.split_once('\n').expect("lines");
        let data = event.strip_prefix("event: error\ndata: ");
        let data = data
            .and_then(|data| data.strip_suffix("\n\n"))
            .expect("an error event");
        let data: Value = serde_json::from_str(data).expect("JSON");
        let retry: u64 = retry.parse().expect("milliseconds");
        assert!(retry >= 2000 && data["retry_after_ms"] == retry, "{text}");
        assert!(data["message"].is_string(), "{text}");
        data
    }

    pub fn text(&self) -> String {
        lossy(&self.body)
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    /// The message of a JSON error.
    pub fn error_message(&self) -> String {
        let message = &self.json()["error"]["message"];
        message.as_str().expect("a message").to_owned()
    }

    /// Returns `error.code` of a JSON error.
    pub fn error_code(&self) -> String {
        let body = self.json();
        let code = body["error"]["code"].as_str();
        code.expect("a code in the error").to_owned()
    }
}

/// A request's head: this method and target, `Host`, and these header lines.
pub fn request(method: &str, target: &str, headers: &[&str]) -> String {
    let lines: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    format!("{method} {target} HTTP/1.1\r\nHost: test\r\n{lines}\r\n")
}
