//! `Type=notify` and `WatchdogSec=`: what the server sends to a service manager.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use rustix::process::Signal;

use crate::support::{TIMEOUT, TempDir, TestServer};

/// The service manager's end of the socket.
struct Manager(UnixDatagram);

impl Manager {
    fn new(socket: UnixDatagram) -> Self {
        socket.set_read_timeout(Some(TIMEOUT)).expect("time-out");
        Self(socket)
    }

    fn expect(&self, state: &str) {
        let mut bytes = [0; 64];
        let read = self.0.recv(&mut bytes).expect("a message");
        assert_eq!(String::from_utf8_lossy(&bytes[..read]), state);
    }
}

#[test]
fn service_manager_learns_that_the_server_is_ready_and_that_it_stops() {
    let dir = TempDir::new();
    let path = dir.path("notify.sock");
    let manager = Manager::new(UnixDatagram::bind(&path).expect("bind"));
    let mut command = TestServer::command(&["--drain-delay=1m"]);
    command.env("NOTIFY_SOCKET", &path);
    let mut server = TestServer::start_command(command);
    manager.expect("READY=1");
    assert_eq!(server.raw().get("/health").status, 200);
    server.signal(Signal::TERM);
    manager.expect("STOPPING=1");
    server.end(Signal::KILL);
}

#[test]
fn abstract_socket_is_a_service_manager_too() {
    let name = format!("wscast-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).expect("address");
    let manager = Manager::new(UnixDatagram::bind_addr(&address).expect("bind"));
    let mut command = TestServer::command(&[]);
    command.env("NOTIFY_SOCKET", format!("@{name}"));
    let _server = TestServer::start_command(command);
    manager.expect("READY=1");
}

#[test]
fn watchdog_is_fed_by_the_process_that_it_names() {
    let dir = TempDir::new();
    let path = dir.path("notify.sock");
    let manager = Manager::new(UnixDatagram::bind(&path).expect("bind"));
    let mut command = TestServer::command(&[]);
    command.env("NOTIFY_SOCKET", &path);
    command.env("WATCHDOG_USEC", "20000");
    let server = TestServer::start_command(command);
    manager.expect("READY=1");
    (0..3).for_each(|_| manager.expect("WATCHDOG=1"));
    drop(server);
    // A child of the watched process has inherited the variables, and must not feed its watchdog.
    let path = dir.path("other.sock");
    let manager = Manager::new(UnixDatagram::bind(&path).expect("bind"));
    let mut command = TestServer::command(&["--drain=0"]);
    command.env("NOTIFY_SOCKET", &path);
    command.env("WATCHDOG_USEC", "2").env("WATCHDOG_PID", "1");
    let mut server = TestServer::start_command(command);
    manager.expect("READY=1");
    server.end(Signal::TERM);
    manager.expect("STOPPING=1");
}

#[test]
fn missing_service_manager_is_a_warning() {
    let dir = TempDir::new();
    let mut command = TestServer::command(&[]);
    command.env("NOTIFY_SOCKET", dir.path("none.sock"));
    let server = TestServer::start_command(command);
    assert_eq!(server.raw().get("/health").status, 200);
    crate::support::wait_until("the warning", || {
        server
            .log()
            .contains("cannot send READY=1 to NOTIFY_SOCKET")
    });
}
