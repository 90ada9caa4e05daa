//! A byte order mark, which .NET encoders and editors of Windows write, is skipped in JSON and in files of keys.

use std::fs;

use serde_json::json;

use crate::support::token::{SECRET, claims, signed};
use crate::support::{
    Certificate, RawConnection, Socket, TempDir, TestServer, program, request, run,
};

const MARK: &str = "\u{feff}";
const JSON: &str = "application/json; charset=utf-8";

#[test]
fn mark_before_json_is_skipped() {
    let server = TestServer::start(&[]);
    let mut alice = server.client();
    for body in [
        r#"{"type":"message","payload":"hi"}"#,
        "\r\n {\"payload\":{\"a\":[1]},\"type\":\"custom_event\",\"id\":\"1\"}\r\n",
    ] {
        let posted = server.post_as(JSON, "/rooms/lobby/messages", &format!("{MARK}{body}"));
        assert_eq!(posted.status, 201, "{}", posted.text());
        let by_post = alice.next();
        alice.send_text(&format!("{MARK}{body}"));
        let by_frame = alice.skip_to(by_post["type"].as_str().expect("a type"));
        assert_eq!(by_post["payload"], by_frame["payload"]);
    }
    alice.send_text(&format!("{MARK}{{\"type\":\"ping\"}}"));
    alice.skip_to("pong");
}

#[test]
fn mark_at_other_positions_and_other_encodings_are_refused() {
    let server = TestServer::start(&[]);
    let mut alice = server.client();
    for text in [
        format!("{MARK}{MARK}{{\"type\":\"ping\"}}"),
        format!(" {MARK}{{\"type\":\"ping\"}}"),
        format!("{{\"type\":\"ping\"}}{MARK}"),
        MARK.to_owned(),
    ] {
        alice.send_text(&text);
        assert_eq!(alice.expect_error(), "invalid_json", "{text:?}");
        let posted = server.post_as(JSON, "/rooms/lobby/messages", &text);
        assert_eq!(posted.error_code(), "invalid_json", "{text:?}");
    }
    // A mark inside a text is a part of it.
    alice.say(format!("a{MARK}b"));
    alice.expect(format!("a{MARK}b"));
    let utf16: Vec<u8> = format!("{MARK}{{}}")
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let mut raw = server.raw();
    let length = format!("Content-Length: {}", utf16.len());
    let lines = ["Content-Type: application/json; charset=utf-16", &length];
    raw.send(request("POST", "/rooms/lobby/messages", &lines));
    raw.send(&utf16);
    let response = raw.response();
    assert_eq!(response.error_code(), "invalid_json");
    assert!(response.text().contains("UTF-8"), "{}", response.text());
}

#[test]
fn mark_and_line_ends_are_no_part_of_a_secret() {
    let disk = TempDir::new();
    let token = signed(SECRET, &claims(json!({})));
    for text in [
        format!("{MARK}{SECRET}"),
        format!("{MARK}{SECRET}\r\n"),
        format!("{SECRET}\r\n\r\n"),
    ] {
        fs::write(disk.path("secret"), &text).expect("write");
        let server = TestServer::start(&["--secret-key-file", &disk.arg("secret")]);
        let response = server.raw().get(&format!("/stats?token={token}"));
        assert_eq!(response.status, 200, "{text:?}: {}", response.text());
        let mut check = program();
        check.args(["token", "check", &format!("{MARK}{token}\r\n")]);
        check.args(["--secret-key-file", &disk.arg("secret")]);
        let ended = run(&mut check);
        assert_eq!(ended.code, Some(0), "{text:?}: {}", ended.stderr);
    }
}

#[test]
fn secret_in_utf_16_is_refused_by_name() {
    let disk = TempDir::new();
    for bytes in [u16::to_le_bytes, u16::to_be_bytes] {
        let text: Vec<u8> = format!("{MARK}{SECRET}\r\n")
            .encode_utf16()
            .flat_map(bytes)
            .collect();
        fs::write(disk.path("secret"), text).expect("write");
        let command = TestServer::command(&["--secret-key-file", &disk.arg("secret")]);
        let (status, log) = TestServer::try_start_command(command)
            .map(drop)
            .expect_err("started");
        assert_eq!(status.code(), Some(1), "{log}");
        assert!(log.contains("UTF-16") && log.contains("UTF-8"), "{log}");
    }
}

#[test]
fn certificate_and_key_may_start_with_a_mark() {
    let certificate = Certificate::new();
    for file in ["cert.pem", "key.pem"] {
        let path = certificate.dir.path(file);
        let pem = fs::read_to_string(&path)
            .expect("PEM")
            .replace('\n', "\r\n");
        fs::write(&path, format!("{MARK}{pem}")).expect("write");
    }
    let server = certificate.serve(&[]);
    let trust = certificate.trust(&[&rustls::version::TLS13]);
    let mut client = RawConnection::from(Socket::tcp(server.address()).with_tls(&trust));
    assert_eq!(client.get("/health").status, 200);
}
