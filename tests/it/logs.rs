//! What is logged, where, and what never is.

use std::fs;
use std::path::PathBuf;

use serde_json::json;

use crate::settings::{FAILURE, program, run};
use crate::support::{TestServer, eventually, handshake, request};

#[test]
fn the_log_goes_to_its_file_too() {
    let file = TemporaryFile::new("log");
    let path = file.0.to_str().expect("text");
    fs::write(&file.0, "what was there before\n").expect("write");
    let server = TestServer::start(&["--log-file", path]);
    let id = server.client().id();
    let log = eventually("the file has what the client did", || {
        let log = fs::read_to_string(&file.0).expect("log file");
        (log.contains(&id) && log.contains("disconnected")).then_some(log)
    });
    assert!(log.starts_with("what was there before\n"), "{log}");
    eventually("stderr has the same", || {
        let log = server.log();
        (log.contains(&id) && log.contains("disconnected")).then_some(())
    });
}

#[test]
fn a_log_file_that_cannot_be_written_is_one_line() {
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
fn who_comes_and_goes_is_logged_at_debug_with_a_reason() {
    let server = TestServer::start(&["--log-level=debug"]);
    let mut polite = server.client();
    let (polite_id, polite_peer) = (polite.id(), polite.socket().local_addr().expect("address"));
    polite.close();
    let mut rude = server.client();
    let (rude_id, rude_peer) = (rude.id(), rude.socket().local_addr().expect("address"));
    drop(rude);
    let mut wrong = server.raw();
    let welcome = wrong.enter("/ws");
    wrong.send_frame(true, 0x7, b"");
    assert_eq!(wrong.close_code(), 1002);
    let wrong_id = welcome["client"].as_str().expect("an id").to_owned();
    for line in [
        format!("{polite_id} {polite_peer} connected"),
        format!("{polite_id} {polite_peer} disconnected: closed by the client"),
        format!("{rude_id} {rude_peer} connected"),
        format!("{rude_id} {rude_peer} disconnected: the socket ended without a close"),
        "disconnected: 1002 protocol error".to_owned(),
        wrong_id,
    ] {
        eventually(&line, || server.log().contains(&line).then_some(()));
    }
}

#[test]
fn at_info_the_comings_and_goings_of_clients_are_not_logged() {
    let server = TestServer::start(&["--log-level=info"]);
    let client = server.client();
    let id = client.id();
    client.close();
    eventually("it has left", || {
        (server.connected_clients() == 0).then_some(())
    });
    assert!(!server.log().contains(&id), "{}", server.log());
}

#[test]
fn what_clients_say_and_their_tokens_are_never_logged() {
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
        client.send(json!({"type": "auth", "token": "SECRET4"}));
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
        let refused =
            handshake("/ws?token=SECRET11").replace("\r\n\r\n", "\r\nOrigin: null\r\n\r\n");
        let mut page = server.raw();
        page.send(refused);
        assert_eq!(page.response().status, 403);
        let mut garbage = server.raw();
        garbage.send(request("GET", "/SECRET12", &["SECRET13"]));
        assert_eq!(garbage.response().status, 400);
        let mut wrong = server.raw();
        wrong.enter("/ws");
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

/// A path below the build's directory; what is there is deleted at the end.
struct TemporaryFile(PathBuf);

impl TemporaryFile {
    fn new(name: &str) -> Self {
        let name = format!("{name}-{}", std::process::id());
        Self(PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name))
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        let _gone = fs::remove_file(&self.0);
    }
}
