//! Many clients that connect at once wait in the accept queue instead of being dropped and trying again after seconds.

use std::fs;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::{
    TempDir, TestServer, allow_many_sockets, skip, start_in_namespace, wait_until,
};

/// More than the 128 of std, and less than the 4096 of the server.
const CLIENTS: usize = 1000;
/// A connection that does not fit into the queue is tried again after a second.
const AT_ONCE: Duration = Duration::from_millis(900);

#[test]
fn clients_wait_in_the_queue_while_the_server_is_busy() {
    let path = "/proc/sys/net/core/somaxconn";
    let somaxconn = fs::read_to_string(path).unwrap_or_default();
    if somaxconn
        .trim()
        .parse()
        .is_ok_and(|max: usize| max < CLIENTS)
    {
        return skip("net.core.somaxconn is too low");
    }
    allow_many_sockets();
    let dir = TempDir::new();
    let socket = dir.path("wscast.sock");
    let server = TestServer::start(&[&format!("--listen=unix:{}", socket.display())]);
    server.signal(Signal::STOP);
    let connect = |_| TcpStream::connect_timeout(&server.address(), AT_ONCE);
    let over_tcp: Result<Vec<_>, _> = (0..CLIENTS).map(connect).collect();
    let over_unix: Result<Vec<_>, _> = (0..CLIENTS / 2).map(|_| connect_at_once(&socket)).collect();
    server.signal(Signal::CONT);
    let clients = over_tcp.expect("a client was dropped").len();
    assert_eq!(
        clients + over_unix.expect("a client was dropped").len(),
        CLIENTS * 3 / 2
    );
    assert_eq!(server.raw().get("/health").status, 200);
}

/// Connects without waiting for room in the queue.
fn connect_at_once(path: &std::path::Path) -> std::io::Result<UnixStream> {
    use rustix::net::{
        AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with,
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket.into())
}

#[test]
fn short_queue_of_the_machine_is_logged_with_its_limit() {
    for (somaxconn, is_logged) in [("64", true), ("128", true), ("4096", false)] {
        let setup = format!("echo {somaxconn} > /proc/sys/net/core/somaxconn");
        let server = match start_in_namespace(&setup, &TestServer::command(&[])) {
            Ok(server) => server,
            Err(why) => return skip(why),
        };
        wait_until("the start is logged", || server.log().contains("set by"));
        server.signal(Signal::TERM);
        wait_until("the end is logged", || server.log().contains("stopped"));
        let log = server.log();
        let line = log.lines().find(|line| line.contains("net.core.somaxconn"));
        assert_eq!(
            line.is_some_and(|line| line.contains(somaxconn)),
            is_logged,
            "{log}"
        );
    }
}
