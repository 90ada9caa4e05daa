//! `--listen unix:PATH`: clients over a Unix socket, and the socket file.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::Path;

use rustix::process::Signal;

use crate::support::{
    Certificate, ClientOptions, RawConnection, Socket, TempDir, TestServer, wait_until,
};

fn listen(path: &Path) -> String {
    format!("--listen=unix:{}", path.display())
}

fn refused(args: &[&str]) -> String {
    let output = TestServer::command(args).output().expect("run");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    stderr
}

#[test]
fn client_over_a_unix_socket_joins_the_same_rooms() {
    let dir = TempDir::new();
    let path = dir.path("wscast.sock");
    let server = TestServer::start(&[&listen(&path)]);
    let mut alice = server.client();
    let mut bob = ClientOptions::new().open(Socket::unix(&path), "/ws");
    bob.say("over the socket");
    alice.expect("over the socket");
    bob.expect("over the socket");
    let health = RawConnection::from(Socket::unix(&path)).get("/health");
    assert_eq!(health.json()["connected_clients"], 2);
    server.wait_for_log(&format!("{} unix connected", bob.id()));
    bob.close();
}

#[test]
fn unix_socket_never_uses_tls() {
    let certificate = Certificate::new();
    let path = certificate.dir.path("wscast.sock");
    let server = certificate.serve(&[&listen(&path)]);
    let mut alice = server.client();
    let mut bob = ClientOptions::new().open(Socket::unix(&path), "/ws");
    alice.say("encrypted for one");
    bob.expect("encrypted for one");
}

#[test]
fn socket_file_has_the_configured_mode() {
    let dir = TempDir::new();
    let path = dir.path("wscast.sock");
    for (args, mode) in [(&[][..], 0o660), (&["--listen-mode=0606"][..], 0o606)] {
        let _server = TestServer::start(&[&[listen(&path).as_str()], args].concat());
        let found = fs::symlink_metadata(&path).expect("socket");
        assert!(found.file_type().is_socket());
        assert_eq!(found.permissions().mode() & 0o777, mode);
    }
}

#[test]
fn shutdown_removes_the_socket_file_and_a_restart_replaces_one_left_by_a_crash() {
    let dir = TempDir::new();
    let path = dir.path("wscast.sock");
    drop(TestServer::start(&[&listen(&path)]));
    assert!(path.exists(), "a killed server leaves it");
    let mut server = TestServer::start(&[&listen(&path), "--drain=0"]);
    assert_eq!(
        RawConnection::from(Socket::unix(&path))
            .get("/health")
            .status,
        200
    );
    server.signal(Signal::TERM);
    assert!(server.wait_for_exit().success(), "{}", server.log());
    assert!(!path.exists(), "a clean shutdown removes it");
}

#[test]
fn file_that_is_not_a_dead_socket_is_not_replaced() {
    let dir = TempDir::new();
    let path = dir.path("wscast.sock");
    let live = UnixListener::bind(&path).expect("bind");
    let stderr = refused(&[&listen(&path)]);
    assert!(
        stderr.contains("--listen") && stderr.contains("in use"),
        "{stderr}"
    );
    assert!(path.exists());
    drop(live);

    fs::remove_file(&path).expect("remove");
    fs::write(&path, "precious").expect("write");
    let stderr = refused(&[&listen(&path)]);
    assert!(stderr.contains("is not a socket"), "{stderr}");
    assert_eq!(fs::read_to_string(&path).expect("read"), "precious");

    let missing_dir = dir.path("missing_dir/wscast.sock");
    assert!(refused(&[&listen(&missing_dir)]).contains("No such file"));
    let long = dir.path(&"x".repeat(200));
    assert!(refused(&[&listen(&long)]).contains("--listen"));
}

#[test]
fn failed_start_leaves_no_socket_file() {
    let dir = TempDir::new();
    let path = dir.path("wscast.sock");
    let missing = dir.path("missing/history.db");
    let missing = missing.to_str().expect("UTF-8");
    refused(&[&listen(&path), "--db", missing]);
    assert!(!path.exists());
}

#[test]
fn socket_file_of_another_server_is_not_removed() {
    let dir = TempDir::new();
    let path = dir.path("wscast.sock");
    let mut server = TestServer::start(&[&listen(&path), "--drain=0"]);
    fs::remove_file(&path).expect("remove");
    let _another = UnixListener::bind(&path).expect("bind");
    server.signal(Signal::TERM);
    assert!(server.wait_for_exit().success());
    assert!(path.exists(), "the socket of another server");
}

#[test]
fn several_socket_files_are_removed_at_shutdown() {
    let dir = TempDir::new();
    let [one, two] = ["one.sock", "two.sock"].map(|name| dir.path(name));
    let both = format!("{},unix:{}", listen(&one), two.display());
    let mut server = TestServer::start(&[&both, "--drain=0"]);
    let mut clients = [&one, &two].map(|path| ClientOptions::new().open(Socket::unix(path), "/ws"));
    server.signal(Signal::TERM);
    for client in &mut clients {
        assert_eq!(client.close_code(), 1001);
    }
    drop(clients);
    assert!(server.wait_for_exit().success());
    assert!(!one.exists() && !two.exists());
}

#[test]
fn slow_consumer_on_a_unix_socket_is_evicted_and_no_one_waits() {
    let dir = TempDir::new();
    let path = dir.path("wscast.sock");
    let server = TestServer::start(&[&listen(&path), "--outbox-bytes=256KiB"]);
    let options = ClientOptions::new().passive();
    let _slow = options.open(Socket::unix(&path), "/ws");
    let mut alice = server.client();
    let text = "x".repeat(30_000);
    wait_until("the slow consumer is evicted", || {
        alice.say(text.as_str());
        alice.expect(text.as_str());
        server.total("slow_consumers_evicted") == 1
    });
    alice.say("goes on");
    alice.expect("goes on");
}
