//! `--listen unix:PATH`: the same server for a proxy on the same machine.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::Path;

use rustix::process::Signal;

use crate::support::{
    Certificate, RawConnection, Scratch, Socket, TestClient, TestServer, eventually,
};

fn listen(path: &Path) -> String {
    format!("--listen=unix:{}", path.display())
}

fn refused(args: &[&str]) -> String {
    let output = TestServer::command(args).output().expect("run");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    said
}

#[test]
fn who_comes_by_path_is_in_the_same_rooms() {
    let scratch = Scratch::new();
    let path = scratch.path("wscast.sock");
    let server = TestServer::start(&[&listen(&path)]);
    let mut alice = server.client();
    let mut bob = TestClient::enter(Socket::unix(&path), "/ws");
    bob.say("by path");
    alice.expect("by path");
    bob.expect("by path");
    let health = RawConnection::over(Socket::unix(&path)).get("/health");
    assert_eq!(health.json()["connected_clients"], 2);
    let log = server.log();
    assert!(
        log.contains(&format!("{} unix connected", bob.id())),
        "{log}"
    );
    bob.close();
}

#[test]
fn the_path_never_speaks_tls() {
    let certificate = Certificate::new();
    let path = certificate.scratch.path("wscast.sock");
    let server = certificate.serve(&[&listen(&path)]);
    let mut alice = server.client();
    let mut bob = TestClient::enter(Socket::unix(&path), "/ws");
    alice.say("sealed for one");
    bob.expect("sealed for one");
}

#[test]
fn its_mode_is_as_asked() {
    let scratch = Scratch::new();
    let path = scratch.path("wscast.sock");
    for (args, mode) in [(&[][..], 0o660), (&["--listen-mode=0606"][..], 0o606)] {
        let _server = TestServer::start(&[&[listen(&path).as_str()], args].concat());
        let found = fs::symlink_metadata(&path).expect("socket");
        assert!(found.file_type().is_socket());
        assert_eq!(found.permissions().mode() & 0o777, mode);
    }
}

#[test]
fn a_clean_end_removes_it_and_a_crash_leaves_it_for_the_next() {
    let scratch = Scratch::new();
    let path = scratch.path("wscast.sock");
    drop(TestServer::start(&[&listen(&path)]));
    assert!(path.exists(), "killed");
    let mut server = TestServer::start(&[&listen(&path), "--drain=0"]);
    assert_eq!(
        RawConnection::over(Socket::unix(&path))
            .get("/health")
            .status,
        200
    );
    server.signal(Signal::TERM);
    assert!(server.wait_for_exit().success(), "{}", server.log());
    assert!(!path.exists(), "left behind");
}

#[test]
fn what_is_not_a_dead_socket_is_left_alone() {
    let scratch = Scratch::new();
    let path = scratch.path("wscast.sock");
    let live = UnixListener::bind(&path).expect("bind");
    let said = refused(&[&listen(&path)]);
    assert!(
        said.contains("--listen") && said.contains("in use"),
        "{said}"
    );
    assert!(path.exists());
    drop(live);

    fs::remove_file(&path).expect("remove");
    fs::write(&path, "precious").expect("write");
    let said = refused(&[&listen(&path)]);
    assert!(said.contains("is not a socket"), "{said}");
    assert_eq!(fs::read_to_string(&path).expect("read"), "precious");

    let nowhere = scratch.path("nowhere/wscast.sock");
    assert!(refused(&[&listen(&nowhere)]).contains("No such file"));
    let long = scratch.path(&"x".repeat(200));
    assert!(refused(&[&listen(&long)]).contains("--listen"));
}

#[test]
fn a_start_that_fails_leaves_nothing() {
    let scratch = Scratch::new();
    let path = scratch.path("wscast.sock");
    let missing = scratch.path("missing/history.db");
    let missing = missing.to_str().expect("UTF-8");
    refused(&[&listen(&path), "--db", missing]);
    assert!(!path.exists());
}

#[test]
fn another_server_in_its_place_is_left_alone() {
    let scratch = Scratch::new();
    let path = scratch.path("wscast.sock");
    let mut server = TestServer::start(&[&listen(&path), "--drain=0"]);
    fs::remove_file(&path).expect("remove");
    let _another = UnixListener::bind(&path).expect("bind");
    server.signal(Signal::TERM);
    assert!(server.wait_for_exit().success());
    assert!(path.exists(), "somebody else's");
}

#[test]
fn several_paths_and_the_port_close_together() {
    let scratch = Scratch::new();
    let [one, two] = ["one.sock", "two.sock"].map(|name| scratch.path(name));
    let both = format!("{},unix:{}", listen(&one), two.display());
    let mut server = TestServer::start(&[&both, "--drain=0"]);
    let mut clients = [&one, &two].map(|path| TestClient::enter(Socket::unix(path), "/ws"));
    server.signal(Signal::TERM);
    for client in &mut clients {
        assert_eq!(client.close_code(), 1001);
    }
    drop(clients);
    assert!(server.wait_for_exit().success());
    assert!(!one.exists() && !two.exists());
}

#[test]
fn a_slow_reader_by_path_is_evicted_and_nobody_waits() {
    let scratch = Scratch::new();
    let path = scratch.path("wscast.sock");
    let server = TestServer::start(&[&listen(&path), "--outbox-bytes=256KiB"]);
    let mut slow = RawConnection::over(Socket::unix(&path));
    slow.enter("/ws");
    let mut alice = server.client();
    let text = "x".repeat(30_000);
    eventually("the slow one is evicted", || {
        alice.say(text.as_str());
        alice.expect(text.as_str());
        (server.total("slow_consumers_evicted") == 1).then_some(())
    });
    alice.say("goes on");
    alice.expect("goes on");
}
