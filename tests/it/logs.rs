//! The log: where it goes, its levels, and what never appears in it.

use std::fs;

use serde_json::json;

use crate::support::{
    FAILURE, TempDir, TestServer, handshake_with, program, request, run, wait_for, wait_until,
};

#[test]
fn log_is_written_to_its_file_too() {
    let dir = TempDir::new();
    let path = &dir.arg("wscast.log");
    fs::write(path, "earlier line\n").expect("write");
    let server = TestServer::start(&["--log-file", path]);
    let id = server.client().id();
    let log = wait_for("the file has what the client did", || {
        let log = fs::read_to_string(path).expect("log file");
        (log.contains(&id) && log.contains("disconnected")).then_some(log)
    });
    assert!(log.starts_with("earlier line\n"), "{log}");
    wait_until("stderr has the same", || {
        let log = server.log();
        log.contains(&id) && log.contains("disconnected")
    });
}

#[test]
fn unwritable_log_file_fails_with_one_line() {
    for path in ["/nonexistent/directory/wscast.log", "/"] {
        let args = ["--host=127.0.0.1", "--port=0", "--log-file", path];
        let ended = run(program().args(args));
        let line = ended.only_line();
        assert_eq!(ended.code, FAILURE, "{line}");
        for part in ["--log-file", path] {
            assert!(line.contains(part), "no {part:?} in {line:?}");
        }
    }
}

#[test]
fn connects_and_disconnects_are_logged_at_debug_with_a_reason() {
    let server = TestServer::start(&["--log-level=debug"]);
    let polite = server.client();
    let (polite_id, polite_peer) = (polite.id(), polite.socket.local_addr().expect("address"));
    polite.close();
    let rude = server.client();
    let (rude_id, rude_peer) = (rude.id(), rude.socket.local_addr().expect("address"));
    drop(rude);
    let mut wrong = server.passive_client("/ws");
    wrong.send_frame(true, 0x7, b"");
    assert_eq!(wrong.close_code(), 1002);
    let wrong_id = wrong.id();
    for line in [
        format!("{polite_id} {polite_peer} connected"),
        format!("{polite_id} {polite_peer} disconnected: closed by the client"),
        format!("{rude_id} {rude_peer} connected"),
        format!("{rude_id} {rude_peer} disconnected: the socket ended without a close"),
        "disconnected: 1002 protocol error".to_owned(),
        wrong_id,
    ] {
        wait_until(&line, || server.log().contains(&line));
    }
}

#[test]
fn connects_and_disconnects_are_not_logged_at_info() {
    let server = TestServer::start(&["--log-level=info"]);
    let client = server.client();
    let id = client.id();
    client.close();
    server.wait_for_clients(0);
    assert!(!server.log().contains(&id), "{}", server.log());
}

// At each level, clients put a secret word into every part of a request: queries, headers, messages, invalid frames.
// Invariant: the word is in no line of the log.
#[test]
fn messages_and_tokens_are_never_logged() {
    for level in ["info", "debug", "trace"] {
        let args = [
            &format!("--log-level={level}"),
            "--allow-origin=https://a.example",
        ];
        let mut server = TestServer::start(&[args[0], args[1]]);
        let mut client =
            server.client_at("/ws?token=SECRET1&session=SECRET2SECRET2SECRET2&room=ops");
        client.say("SECRET3");
        client.expect("SECRET3");
        client.send_json(json!({"type": "auth", "token": "SECRET4"}));
        client.next_of("authenticated");
        client.send_text("{SECRET5");
        assert_eq!(client.expect_error(), "invalid_json");
        let authorization = "Authorization: Bearer SECRET6";
        for target in [
            "/health?token=SECRET7",
            "/ws?token=SECRET8",
            "/rooms/SECRET%209",
        ] {
            server
                .raw()
                .request("GET", target, &[authorization, "Cookie: SECRET10"]);
        }
        let refused = handshake_with("/ws?token=SECRET11", &["Origin: null"]);
        let mut page = server.raw();
        page.send(refused);
        assert_eq!(page.response().status, 101);
        assert_eq!(page.close_code(), 4003);
        let mut garbage = server.raw();
        garbage.send(request("GET", "/SECRET12", &["SECRET13"]));
        assert_eq!(garbage.response().status, 400);
        let mut wrong = server.passive_client("/ws");
        wrong.send_frame(true, 0x7, b"SECRET14");
        assert_eq!(wrong.close_code(), 1002);
        drop((client, page, garbage, wrong));
        server.signal(rustix::process::Signal::TERM);
        assert!(server.wait_for_exit().success());
        let log = server.log();
        assert!(log.contains("stopped"), "{level}: {log}");
        assert!(!log.contains("SECRET"), "{level}: {log}");
    }
}
