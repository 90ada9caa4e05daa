//! Requests to servers on this machine that respond well, badly or not at all.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread::{self, JoinHandle};

use super::*;

const LIMITS: OutgoingLimits = OutgoingLimits {
    connect_timeout: Duration::from_secs(10),
    total_timeout: Duration::from_secs(10),
    body_bytes_max: 1000,
};

const GET: OutgoingRequest<'static> = OutgoingRequest {
    method: "GET",
    headers: &[("Accept", "*/*")],
    body: b"",
};

/// Serves one connection: reads up to the end of the request, which `end` marks, then calls `respond`.
fn serve_once(
    end: &'static str,
    respond: impl FnOnce(TcpStream) + Send + 'static,
) -> (OutgoingClient, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let (mut request, mut byte) = (Vec::new(), [0]);
        while !request.ends_with(end.as_bytes()) && stream.read(&mut byte).expect("bytes") > 0 {
            request.push(byte[0]);
        }
        respond(stream);
        String::from_utf8(request).expect("text")
    });
    let url = format!("http://localhost:{port}/hook?key=secret").parse();
    (
        OutgoingClient::new(url.expect("a URL")).expect("a client"),
        server,
    )
}

#[test]
fn request_has_its_headers_and_body_and_the_response_its_status() {
    let (client, server) = serve_once("ping", |mut stream| {
        let response =
            b"HTTP/1.1 302 Found\r\nLocation: http://other/\r\nContent-Length: 2\r\n\r\nno";
        stream.write_all(response).expect("sent");
    });
    let request = OutgoingRequest {
        method: "POST",
        headers: &[("X-A", "b")],
        body: b"ping",
    };
    let response = client.send(request, LIMITS).expect("a response");
    assert_eq!((response.status, &response.body[..]), (302, &b"no"[..]));
    assert_eq!(response.header("location"), Some("http://other/"));
    let request = server.join().expect("a request");
    assert!(request.starts_with("POST /hook?key=secret HTTP/1.1\r\nHost: localhost:"));
    assert!(
        request.ends_with("Content-Length: 4\r\nX-A: b\r\n\r\nping"),
        "{request}"
    );
}

#[test]
fn server_that_hangs_or_trickles_is_left_at_the_deadline() {
    let (hurry, total_timeout) = (Instant::now(), Duration::from_millis(300));
    let limits = OutgoingLimits {
        total_timeout,
        ..LIMITS
    };
    let (client, server) = serve_once("\r\n\r\n", |mut stream| {
        stream.read_exact(&mut [0]).ok();
    });
    assert_eq!(client.send(GET, limits), Err(OutgoingError::TimedOut));
    server.join().expect("the connection ends");

    let (client, server) = serve_once("\r\n\r\n", |mut stream| {
        stream
            .set_read_timeout(Some(Duration::from_millis(20)))
            .expect("set");
        let mut sent = stream.write_all(b"HTTP/1.1 200 OK\r\nX: ");
        while sent.is_ok() && !matches!(stream.read(&mut [0]), Ok(0)) {
            sent = stream.write_all(b"x");
        }
    });
    assert_eq!(client.send(GET, limits), Err(OutgoingError::TimedOut));
    server.join().expect("the connection ends");
    assert!(
        hurry.elapsed() < Duration::from_secs(8),
        "{:?}",
        hurry.elapsed()
    );
}

#[test]
fn endless_body_is_cut_and_refused_connection_is_an_error() {
    let (client, server) = serve_once("\r\n\r\n", |mut stream| {
        let head = "HTTP/1.1 200 OK\r\n\r\n";
        let mut sent = stream.write_all(head.as_bytes());
        while sent.is_ok() {
            sent = stream.write_all(&[b'x'; 4096]);
        }
    });
    let response = client.send(GET, LIMITS).expect("a response");
    assert_eq!((response.body.len(), response.is_truncated), (1000, true));
    server.join().expect("the server sees the connection end");

    let outcome = client.send(GET, LIMITS);
    assert!(
        matches!(outcome, Err(OutgoingError::Connect(_))),
        "{outcome:?}"
    );
}

#[test]
fn header_with_a_line_end_is_not_sent() {
    let url = "http://127.0.0.1:9/".parse().expect("a URL");
    let request = OutgoingRequest {
        headers: &[("Cookie", "a\r\nHost: b")],
        ..GET
    };
    let head = exchange::head(&url, request);
    assert_eq!(head, Err(OutgoingError::InvalidHeader("Cookie".to_owned())));
}
